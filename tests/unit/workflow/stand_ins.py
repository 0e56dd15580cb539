"""Small node classes and canvases for the tests of workflows."""

from __future__ import annotations

from typing import Any, ClassVar


class Number:
    """Gives a whole number; counts how often it was asked."""

    RETURN_TYPES = ("INT",)
    FUNCTION = "give"
    asked: ClassVar[list[int]] = []

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"value": ("INT", {"default": 0, "min": 0, "max": 100})}}

    def give(self, value):
        self.asked.append(value)
        return (value,)


class Sum:
    """Adds; its ``seed`` has what the editor keeps behind seeds."""

    RETURN_TYPES = ("INT", "STRING")
    FUNCTION = "add"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {
            "required": {"a": ("INT", {"default": 1}), "seed": ("INT", {"default": 0})},
            "optional": {
                "mode": (["plus", "minus"], {"default": "plus"}),
                "b": ("INT", {"forceInput": True}),
                "thing": ("THING", {}),
            },
        }

    def add(self, a, seed, mode="plus", b=0, thing=None):
        return (a + b if mode == "plus" else a - b, f"{mode} {seed}")


class Show:
    """An output."""

    RETURN_TYPES = ()
    FUNCTION = "show"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"source": ("*", {})}, "hidden": {"me": "UNIQUE_ID", "story": "PROMPT"}}

    def show(self, source, me=None, story=None):
        return {"ui": {"text": (f"{me}: {source} {story}",)}}


class Failing:
    """Raises what it is told to."""

    RETURN_TYPES = ("INT",)
    FUNCTION = "fail"
    error: ClassVar[BaseException] = ValueError("broken")

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {}}

    def fail(self):
        raise self.error


CLASSES: dict[str, Any] = {"Number": Number, "Sum": Sum, "Show": Show, "Failing": Failing}


class Canvas:
    """Builds the editor's form: ``canvas.box("Number", values=[1])``, ``canvas.wire(a, 0, b, "source")``."""

    def __init__(self) -> None:
        self.nodes: list[dict[str, Any]] = []
        self.links: list[list[Any]] = []

    def box(
        self, kind: str, values: Any = None, *, mode: int = 0, title: str = "", outputs: Any = ("*",)
    ) -> int:
        """Put a node there; its number."""
        number = len(self.nodes) + 1
        self.nodes.append(
            {
                "id": number,
                "type": kind,
                "mode": mode,
                "order": number,
                "inputs": [],
                "outputs": [{"name": kind, "type": kind, "links": []} for kind in outputs],
                "widgets_values": values,
                **({"title": title} if title else {}),
            }
        )
        return number

    def wire(
        self, source: int, slot: int, target: int, name: str, kind: str = "INT", widget: bool = False
    ) -> None:
        """Connect two nodes."""
        number = len(self.links) + 100
        inputs = self.nodes[target - 1]["inputs"]
        inputs.append(
            {"name": name, "type": kind, "link": number, **({"widget": {"name": name}} if widget else {})}
        )
        self.links.append([number, source, slot, target, len(inputs) - 1, kind])

    def json(self) -> dict[str, Any]:
        """The file's content."""
        return {"nodes": self.nodes, "links": self.links, "version": 0.4, "extra": {}}
