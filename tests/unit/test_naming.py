"""Under which name a video is saved."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from types import SimpleNamespace
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinite_talk.frontends.naming import disposition, video_name
from infinite_talk.jobs import StoredFile


def job(title="", *files):
    order = SimpleNamespace(title=title, files=files)
    return SimpleNamespace(order=order, finished=None, created=datetime(2026, 11, 26, tzinfo=UTC))


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Anna", "Anna 2026-11-26.mp4"),
        ("me · hello", "me - hello 2026-11-26.mp4"),
        ("安娜的新闻", "安娜的新闻 2026-11-26.mp4"),
        ("../../etc/passwd", "etc-passwd 2026-11-26.mp4"),
        ("  ", "video 2026-11-26.mp4"),
        ("a" * 300, "a" * 60 + " 2026-11-26.mp4"),
    ],
)
def test_a_title_and_the_day(title, name):
    assert video_name(job(title)) == name


def test_without_a_title_it_is_the_pictures_name():
    files = [
        StoredFile("inputs/audio", "", 1, "hello.wav"),
        StoredFile("inputs/image", "", 1, "grandma.jpeg"),
    ]
    assert video_name(job("", *files), ".webp") == "grandma 2026-11-26.webp"


def test_both_forms_of_a_name_are_told():
    assert disposition("Zoë 安娜.mp4") == (
        "inline; filename=\"Zoe .mp4\"; filename*=UTF-8''Zo%C3%AB%20%E5%AE%89%E5%A8%9C.mp4"
    )


@given(st.text(max_size=80))
def test_nothing_in_a_title_can_end_the_header_or_leave_the_folder(title):
    name = video_name(job(title))
    assert not set(name) & set('/\\:*?"<>|\r\n\0') and not name.startswith((".", " ", "-"))
    header = re.compile(r"inline; filename=\"([A-Za-z0-9 ._-]+)\"; filename\*=UTF-8''([A-Za-z0-9%._~-]+)")
    found = header.fullmatch(disposition(name))
    assert found is not None and found[1].endswith(".mp4") and unquote(found[2]) == name
