"""Bodies are read strictly; nothing that can be sent is a failure of the server."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infinite_talk.frontends.http.bodies import json_object, json_value
from infinite_talk.frontends.http.envelope import Refusal

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=8), plain, max_size=4))
def test_good_json_is_what_it_says(value: dict[str, Any]) -> None:
    assert json_object(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")) == value


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        json_object(data)
    except Refusal as refusal:
        assert refusal.status == 400


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1, "a": 2}', "twice"),
        ('{"a": {"b": 1, "b": 1}}', "twice"),
        ('{"a": NaN}', "NaN"),
        ('{"a": -Infinity}', "Infinity"),
        ('{"a": 1e999}', "too large"),
        ('{"a": ' + "9" * 5000 + "}", "too many digits"),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "too deeply"),
        ('{"a": ' + "[" * 40 + "]" * 40 + "}", "too deeply"),
        ('{"a": "\\ud800"}', "surrogate"),
        ('{"\\udfff": 1}', "surrogate"),
        ("[]", "object"),
        ("7", "object"),
        ("", "malformed"),
        ('{"a": 1} x', "malformed"),
    ],
)
def test_bad_json_is_named(text: str, words: str) -> None:
    with pytest.raises(Refusal, match=words) as raised:
        json_object(text.encode())
    assert (raised.value.status, raised.value.code) == (400, "bad_json")


def test_what_is_not_utf8_is_named() -> None:
    with pytest.raises(Refusal, match="UTF-8"):
        json_object(b'{"a": "\xff"}')


def test_json_in_a_field_names_the_field() -> None:
    with pytest.raises(Refusal, match="lora") as raised:
        json_value("[1,", param="lora")
    assert raised.value.param == "lora"
