"""Constants, and what shows a value."""

from __future__ import annotations

from typing import Any

import torch

from infinite_talk.nodes.declare import Inputs, flag, integer, link, number, words
from infinite_talk.nodes.helpers.place import HIDDEN, placed

_LARGE = 0xFFFFFFFFFFFFFFFF


class INTConstant:
    """A whole number."""

    RETURN_TYPES = ("INT",)
    RETURN_NAMES = ("value",)
    FUNCTION = "get_value"
    CATEGORY = "KJNodes/constants"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802 - ComfyUI's name
        """The number."""
        return {"required": {"value": integer(0, -_LARGE, _LARGE)}}

    def get_value(self, value: int) -> tuple[int]:
        """The number."""
        return (value,)


class FloatConstant:
    """A number."""

    RETURN_TYPES = ("FLOAT",)
    RETURN_NAMES = ("value",)
    FUNCTION = "get_value"
    CATEGORY = "KJNodes/constants"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        """The number."""
        return {"required": {"value": number(0.0, -float(_LARGE), float(_LARGE), 1e-5)}}

    def get_value(self, value: float) -> tuple[float]:
        """The number, rounded to six places, as the editor shows it."""
        return (round(value, 6),)


class StringConstant:
    """A line of text."""

    RETURN_TYPES = ("STRING",)
    FUNCTION = "passtring"
    CATEGORY = "KJNodes/constants"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        """The text."""
        return {"required": {"string": words("", multiline=False)}}

    def passtring(self, string: str) -> tuple[str]:
        """The text."""
        return (string,)


class StringConstantMultiline:
    """Text of several lines."""

    RETURN_TYPES = ("STRING",)
    FUNCTION = "stringify"
    CATEGORY = "KJNodes/constants"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        """The text, and whether line ends are taken out."""
        return {"required": {"string": words("", multiline=True), "strip_newlines": flag(True)}}

    def stringify(self, string: str, strip_newlines: bool) -> tuple[str]:
        """The text; without line ends its lines follow each other."""
        return ("".join(string.splitlines()) if strip_newlines else string,)


class BOOLConstant:
    """True or false."""

    RETURN_TYPES = ("BOOLEAN",)
    RETURN_NAMES = ("value",)
    FUNCTION = "get_value"
    CATEGORY = "KJNodes/constants"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        """The value."""
        return {"required": {"value": flag(True)}}

    def get_value(self, value: bool) -> tuple[bool]:
        """The value."""
        return (value,)


class _Primitive:
    FUNCTION = "execute"
    CATEGORY = "utils/primitive"

    def execute(self, value: Any) -> tuple[Any]:  # noqa: ANN401 - checked against the declaration
        """The value."""
        return (value,)


class PrimitiveInt(_Primitive):
    """A whole number, of ComfyUI's own."""

    RETURN_TYPES = ("INT",)

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        """The number."""
        return {"required": {"value": integer(0, -_LARGE, _LARGE, control_after_generate=True)}}


class PrimitiveFloat(_Primitive):
    """A number, of ComfyUI's own."""

    RETURN_TYPES = ("FLOAT",)

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        """The number."""
        return {"required": {"value": number(0.0, -float(_LARGE), float(_LARGE))}}


class PrimitiveString(_Primitive):
    """A line of text, of ComfyUI's own."""

    RETURN_TYPES = ("STRING",)

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        """The text."""
        return {"required": {"value": words()}}


class PrimitiveStringMultiline(_Primitive):
    """Text of several lines, of ComfyUI's own."""

    RETURN_TYPES = ("STRING",)

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        """The text."""
        return {"required": {"value": words("", multiline=True)}}


class PrimitiveBoolean(_Primitive):
    """True or false, of ComfyUI's own."""

    RETURN_TYPES = ("BOOLEAN",)

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        """The value."""
        return {"required": {"value": flag(False)}}


class PreviewAny:
    """Shows any value as text."""

    RETURN_TYPES: tuple[str, ...] = ()
    FUNCTION = "main"
    CATEGORY = "utils"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        """The value."""
        return {"required": {"source": link("*")}, "hidden": HIDDEN}

    def main(
        self,
        source: Any = None,  # noqa: ANN401
        place: Any = None,  # noqa: ANN401 - a hidden input
        unique_id: str | None = None,
    ) -> dict[str, Any]:
        """Tell the value; of pictures and sound, what they are."""
        text = described(source)
        placed(place).tell(f"node {unique_id}: {text}")
        return {"ui": {"text": (text,)}}


def described(value: Any) -> str:  # noqa: ANN401
    """A value in words."""
    if isinstance(value, torch.Tensor):
        return f"tensor {tuple(value.shape)} {value.dtype}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {described(one)}" for key, one in value.items()) + "}"
    text = str(value)
    return text if len(text) <= 500 else f"{text[:500]}..."
