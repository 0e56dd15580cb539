"""The checks themselves: each finds what it is for, and nothing on a page that is well made."""

from __future__ import annotations

import pytest

from . import access

GOOD = """<html lang="en"><body style="margin:0;background:#fff;color:#222"><main><h1>Good</h1>
<label>Name <input></label> <button style="height:30px;width:30px" aria-label="Close">x</button>
<p style="background:#000"><span style="color:#ccc">light on dark</span></p>
<button disabled style="color:#aaa;height:30px">turned off</button></main></body></html>"""
BAD = """<html><body style="margin:0;background:#fff"><input style="width:30px;height:30px"><button></button>
<p style="color:#999">grey on white</p><p style="background:#ffff"><i style="color:#00000040">see-through</i></p>
<button style="width:12px;height:12px;padding:0" aria-label="tiny"></button>
<div style="width:5000px">wide</div><button style="outline:none;height:30px" aria-label="secret">s</button>
</body></html>"""


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport={"width": 390, "height": 844})
    yield context.new_page()
    context.close()


def test_nothing_is_found_on_a_good_page(page):
    page.set_content(GOOD)
    found = (access.unnamed(page), access.pale(page), access.small(page), access.wide(page))
    assert found == ([], [], [], [])
    stops = access.walk(page, 2)
    assert [stop["seen"] and stop["ring"] for stop in stops] == [True, True]


def test_each_fault_is_found(page):
    page.set_content(BAD)
    assert [line.split(" ", 1)[0] for line in access.unnamed(page)] == ["textbox", "button"]
    assert [line.split('"')[1] for line in access.pale(page)] == ["grey on white", "see-through"]
    assert any('"tiny": 12x12' in line for line in access.small(page))
    assert any("5000" in line for line in access.wide(page))
    stops = access.walk(page, 4)
    assert [stop["ring"] for stop in stops if "secret" in str(stop["what"])] == [False]


@pytest.mark.parametrize(("grey", "good"), [("#767676", True), ("#777777", False)])
def test_contrast_is_that_of_the_rule(page, grey, good):
    """On white, #767676 is the lightest grey with 4.5 (WCAG 2.2, 1.4.3)."""
    page.set_content(f'<body style="background:#fff"><p style="color:{grey}">text</p></body>')
    assert (access.pale(page) == []) is good
