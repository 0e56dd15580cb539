"""Values are held against what a node declares; keys of args dictionaries against those that are read."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from infinite_talk.errors import UsageError
from infinite_talk.nodes.declare import Files, checked, choice, flag, integer, known_keys, link, number, words


class Sample:
    """A node with one input of each kind."""

    RETURN_TYPES = ("X",)
    RETURN_NAMES = ("x",)
    FUNCTION = "run"
    CATEGORY = "test"

    @classmethod
    def INPUT_TYPES(cls) -> Any:  # noqa: N802
        return {
            "required": {
                "count": integer(4, 1, 10),
                "scale": number(1.0, 0.0, 2.0, 0.1),
                "mode": choice(("fast", "exact"), "exact"),
                "file": choice(Files(["a.safetensors"])),
                "model": link("MODEL"),
            },
            "optional": {"on": flag(True), "text": words("")},
        }

    @checked(lists=("scale",), also={"mode": ("secret",)})
    def run(
        self,
        count: int,
        scale: float | list[float],
        mode: str,
        file: str,
        model: object,
        on: bool = True,
        text: str = "",
    ) -> tuple[Any, ...]:
        return count, scale, mode, file, model, on, text


GOOD = {"count": 4, "scale": 1.0, "mode": "fast", "file": "new.gguf", "model": object()}


@pytest.mark.parametrize(
    "changed", [{}, {"scale": [0.0, 2.0]}, {"scale": 1}, {"mode": "secret"}, {"count": 10, "on": False}]
)
def test_values_within_the_declaration_pass_as_they_are(changed: dict[str, Any]) -> None:
    values = GOOD | changed
    assert Sample().run(**values)[: len(values)][:4] == tuple(values[name] for name in list(GOOD)[:4])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"count": 0}, "count of Sample is 0; give a whole number, at least 1, at most 10"),
        ({"count": 11}, "at most 10"),
        ({"count": 2.5}, "whole number"),
        ({"count": True}, "count of Sample is True"),
        ({"count": [1, 2]}, "a list"),
        ({"scale": [1.0, 2.5]}, "scale of Sample is 2.5"),
        ({"scale": "1"}, "'1'; give a number"),
        ({"scale": float("nan")}, "nan"),
        ({"mode": "fsat"}, "choose one of fast, exact. Did you mean fast"),
        ({"file": None}, "name of a file"),
        ({"model": None}, "connect what gives a MODEL"),
        ({"on": 1}, "True or False"),
        ({"text": None}, "give a text"),
    ],
)
def test_a_value_outside_is_refused_in_words(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as error:
        Sample().run(**(GOOD | changed))
    assert said in error.value.message


def test_the_checked_method_keeps_its_signature_and_refuses_wrong_keywords() -> None:
    assert list(inspect.signature(Sample.run).parameters)[:3] == ["self", "count", "scale"]
    with pytest.raises(TypeError, match="coutn"):
        Sample().run(**GOOD, coutn=1)


def test_unknown_keys_are_listed_with_the_valid_ones() -> None:
    known_keys("cache_args", {"mode": 1}, ("mode", "start_step"))
    with pytest.raises(
        UsageError, match=r"unknown key statr_step; valid are mode, start_step\. Did you mean start_step"
    ):
        known_keys("cache_args", {"mode": 1, "statr_step": 2}, ("mode", "start_step"))
    with pytest.raises(UsageError, match="is a str"):
        known_keys("cache_args", "mode", ("mode",))  # type: ignore[arg-type]
