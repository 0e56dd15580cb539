"""Ranges and conditions as RFC 9110 has them, against what a slow reader of that text would do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinite_talk.frontends.http.ranges import Span, UnsatisfiableError, matches, range_of
from tests.unit.http.service import Service, error

CONTENT = bytes(range(200))


def slow(header: str) -> bytes | None:
    """The bytes that are asked for, found by trying each; ``None``: all of them."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header)
    if match is None or header == "bytes=-":
        return None
    first, last = match.groups()
    numbers = range(len(CONTENT))
    if not first:
        wanted = [n for n in numbers if n >= len(CONTENT) - int(last)]
    else:
        if last and int(last) < int(first):
            return None
        wanted = [n for n in numbers if int(first) <= n and (not last or n <= int(last))]
    return bytes(CONTENT[n] for n in wanted)


numbers = st.one_of(st.just(""), st.integers(0, 260).map(str))


@given(st.builds("bytes={}-{}".format, numbers, numbers))
def test_a_range_is_what_the_rule_says(header: str) -> None:
    expected = slow(header)
    if expected == b"":
        with pytest.raises(UnsatisfiableError):
            range_of(header, len(CONTENT))
        return
    span = range_of(header, len(CONTENT))
    assert (None if span is None else CONTENT[span.start : span.end]) == expected


@given(st.text(max_size=30))
def test_no_header_is_an_error(header: str) -> None:
    try:
        span = range_of(header, 100)
    except UnsatisfiableError:
        return
    assert span is None or 0 <= span.start < span.end <= 100


def test_what_is_not_understood_is_ignored() -> None:
    for header in (None, "bytes=0-1,5-6", "frames=0-1", "bytes=b-c", "bytes 0-1", "bytes=5-4", ""):
        assert range_of(header, 10) is None
    assert range_of(f"bytes=0-{'9' * 5000}", 10) == Span(0, 10)


@pytest.mark.parametrize(
    ("header", "same"),
    [
        ('"a"', True),
        ('W/"a"', True),
        ('"b", "a"', True),
        ("*", True),
        ('"b"', False),
        ("a", False),
        ("", False),
    ],
)
def test_tags_are_compared_weakly(header: str, same: bool) -> None:
    assert matches(header, '"a"') is same


def test_parts_of_a_video_are_the_video(served: Service) -> None:
    video = served.made()["id"]
    path = f"/v1/videos/{video}/content"
    whole = served.client.get(path)
    assert whole.headers["content-type"] == "video/mp4"
    assert whole.content == served.desk.folder.video(video).read_bytes()
    size = len(whole.content)
    for first, last in ((0, 0), (0, 99), (size - 10, size + 50), (7, size - 1)):
        part = served.client.get(path, headers={"range": f"bytes={first}-{last}"})
        assert part.status_code == 206
        assert part.content == whole.content[first : last + 1]
        assert part.headers["content-range"] == f"bytes {first}-{min(last, size - 1)}/{size}"
        assert int(part.headers["content-length"]) == len(part.content)
    outside = served.client.get(path, headers={"range": f"bytes={size}-"})
    assert error(outside)[:2] == (416, "bad_range")
    assert outside.headers["content-range"] == f"bytes */{size}"


def test_conditions_and_head(served: Service) -> None:
    path = f"/v1/videos/{served.made()['id']}/content"
    whole = served.client.get(path)
    tag = whole.headers["etag"]
    same = served.client.get(path, headers={"if-none-match": tag})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
    for known in (tag, whole.headers["last-modified"]):
        part = served.client.get(path, headers={"range": "bytes=0-3", "if-range": known})
        assert (part.status_code, len(part.content)) == (206, 4)
    other = served.client.get(path, headers={"range": "bytes=0-3", "if-range": '"another"'})
    assert (other.status_code, other.content) == (200, whole.content)
    head = served.client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-length", "content-type", "etag", "accept-ranges"):
        assert head.headers[name] == whole.headers[name]
    assert served.client.head(path, headers={"range": "bytes=0-3"}).headers["content-length"] == "4"


def test_a_video_that_is_deleted_meanwhile_is_sent_to_its_end(served: Service) -> None:
    video = served.made()["id"]
    expected = served.desk.folder.video(video).read_bytes()
    with served.client.stream("GET", f"/v1/videos/{video}/content") as answer:
        assert served.client.delete(f"/v1/videos/{video}").json()["deleted"]
        assert answer.read() == expected
    assert not Path(served.desk.folder.of(video)).exists()
