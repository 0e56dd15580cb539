"""What WCAG 2.2 asks and a program can measure, read off a page in the browser.

Names come from Chromium's own accessibility tree, everything else from computed styles (``access.js``). Each function
gives a list of sentences, one for each fault.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playwright.sync_api import Page

MEASURES = (Path(__file__).parent / "access.js").read_text()
NAMED = {
    "button", "checkbox", "combobox", "link", "listbox", "menuitem", "radio", "searchbox", "slider", "spinbutton",
    "switch", "tab", "textbox",
}  # fmt: skip
"""Roles of what can be operated: each needs a name (WCAG 4.1.2)."""


def unnamed(page: Page) -> list[str]:
    """Controls that a screen reader could only call "button"."""
    session = page.context.new_cdp_session(page)
    try:
        nodes = session.send("Accessibility.getFullAXTree")["nodes"]
        return [
            f"{node['role']['value']} without a name: {_html(session, node)}"
            for node in nodes
            if not node.get("ignored")
            and node.get("role", {}).get("value") in NAMED
            and not str(node.get("name", {}).get("value", "")).strip()
        ]
    finally:
        session.detach()


def _html(session: Any, node: dict[str, Any]) -> str:
    found = session.send("DOM.describeNode", {"backendNodeId": node["backendDOMNodeId"]})["node"]
    pairs = iter(found.get("attributes", ()))
    attributes = " ".join(f'{name}="{value[:60]}"' for name, value in zip(pairs, pairs, strict=True))
    return f"<{found['localName']} {attributes}>"


def pale(page: Page) -> list[str]:
    """Texts with too little contrast; not those over pictures and gradients."""
    return _measured(page, "pale")


def small(page: Page) -> list[str]:
    """Controls too small for a finger."""
    return _measured(page, "small")


def wide(page: Page) -> list[str]:
    """What makes the page scroll sideways."""
    return _measured(page, "wide")


def walk(page: Page, steps: int) -> list[dict[str, Any]]:
    """Press Tab ``steps`` times: ``what`` has the focus, is it ``seen``, has it a ``ring``, its ``top`` on the page."""
    stops = []
    for _ in range(steps):
        page.keyboard.press("Tab")
        if (stop := _measured(page, "focused")) is not None:
            stops.append(stop)
    return stops


def _measured(page: Page, name: str) -> Any:
    return page.evaluate(f"{MEASURES.strip()}.{name}()")
