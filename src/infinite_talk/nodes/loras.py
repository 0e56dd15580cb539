"""LoRAs: lists of names and strengths, and which blocks they act on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

from infinite_talk.errors import CheckpointError, UsageError
from infinite_talk.nodes.declare import (
    CATEGORY,
    Files,
    Inputs,
    checked,
    choice,
    flag,
    known_keys,
    link,
    number,
    words,
)
from infinite_talk.nodes.handles import WanModel, need_model, say
from infinite_talk.nodes.host import host
from infinite_talk.settings import LoRA
from infinite_talk.weights.find import find_lora

BLOCKS = 40
"""Blocks of the published transformer, which the block editor shows."""
SLOTS = 5
KEYS = ("path", "strength", "name", "blocks", "layer_filter", "low_mem_load", "merge_loras")
LoraList = list[dict[str, Any]]


def _names() -> Files:
    """Names of LoRAs; there is no embedded one, and a list must not be empty."""
    return Files(host().places.names("loras") or ["none"])


def _common() -> dict[str, Any]:
    return {
        "prev_lora": link("WANVIDLORA", default=None),
        "blocks": link("SELECTEDBLOCKS"),
        "low_mem_load": flag(False),
        "merge_loras": flag(True),
    }


class WanVideoLoraSelect:
    """One LoRA more."""

    RETURN_TYPES: ClassVar = ("WANVIDLORA",)
    RETURN_NAMES: ClassVar = ("lora",)
    FUNCTION = "getlorapath"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802 - ComfyUI's name
        return {
            "required": {"lora": choice(_names()), "strength": number(1.0, -1000.0, 1000.0, 0.0001)},
            "optional": _common(),
            "hidden": {"unique_id": ("UNIQUE_ID", {})},
        }

    @checked(lists=("strength",))
    def getlorapath(
        self,
        lora: str,
        strength: float | list[float] = 1.0,
        unique_id: object = None,  # noqa: ARG002 - ComfyUI's number of the node
        blocks: dict[str, Any] | None = None,
        prev_lora: LoraList | None = None,
        low_mem_load: bool = False,
        merge_loras: bool = True,
    ) -> tuple[LoraList]:
        """The list with it; a strength of 0 leaves it out.

        Raises:
            UsageError: a strength per step is to be merged.
        """
        return (_longer(prev_lora, lora, strength, blocks, low_mem_load, merge_loras),)


class WanVideoLoraSelectMulti:
    """Up to five LoRAs more."""

    RETURN_TYPES: ClassVar = ("WANVIDLORA",)
    RETURN_NAMES: ClassVar = ("lora",)
    FUNCTION = "getlorapath"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        slots: dict[str, Any] = {}
        for slot in range(SLOTS):
            slots[f"lora_{slot}"] = choice(Files(["none", *host().places.names("loras")]), "none")
            slots[f"strength_{slot}"] = number(1.0, -10.0, 10.0, 0.0001)
        return {"required": slots, "optional": _common()}

    @checked(lists=tuple(f"strength_{slot}" for slot in range(SLOTS)))
    def getlorapath(
        self,
        lora_0: str = "none",
        strength_0: float | list[float] = 1.0,
        lora_1: str = "none",
        strength_1: float | list[float] = 1.0,
        lora_2: str = "none",
        strength_2: float | list[float] = 1.0,
        lora_3: str = "none",
        strength_3: float | list[float] = 1.0,
        lora_4: str = "none",
        strength_4: float | list[float] = 1.0,
        prev_lora: LoraList | None = None,
        blocks: dict[str, Any] | None = None,
        low_mem_load: bool = False,
        merge_loras: bool = True,
    ) -> tuple[LoraList]:
        """The list with them; ``none`` and strengths of 0 are left out."""
        found = list(prev_lora or ())
        names = (lora_0, lora_1, lora_2, lora_3, lora_4)
        for name, strength in zip(
            names, (strength_0, strength_1, strength_2, strength_3, strength_4), strict=True
        ):
            found = _longer(found, name, strength, blocks, low_mem_load, merge_loras)
        return (found,)


class WanVideoLoraSelectByName:
    """One LoRA more, by a part of its name."""

    RETURN_TYPES: ClassVar = ("WANVIDLORA",)
    RETURN_NAMES: ClassVar = ("lora",)
    FUNCTION = "getlorapath"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {
            "required": {
                "lora_name": words("", multiline=False),
                "strength": number(1.0, -10.0, 10.0, 0.0001),
            },
            "optional": _common(),
            "hidden": {"unique_id": ("UNIQUE_ID", {})},
        }

    @checked(lists=("strength",))
    def getlorapath(
        self,
        lora_name: str = "",
        strength: float | list[float] = 1.0,
        unique_id: object = None,  # noqa: ARG002 - ComfyUI's number of the node
        blocks: dict[str, Any] | None = None,
        prev_lora: LoraList | None = None,
        low_mem_load: bool = False,
        merge_loras: bool = True,
    ) -> tuple[LoraList]:
        """The list with it; no name leaves it as it is.

        Raises:
            CheckpointError: no file has the name, or several have it as a part of theirs.
        """
        name = _whole_name(lora_name.strip()) if lora_name.strip() else "none"
        return (_longer(prev_lora, name, strength, blocks, low_mem_load, merge_loras),)


class WanVideoLoraBlockEdit:
    """Which blocks a LoRA acts on."""

    RETURN_TYPES: ClassVar = ("SELECTEDBLOCKS",)
    RETURN_NAMES: ClassVar = ("blocks",)
    FUNCTION = "select"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {
            "required": {f"blocks.{block}.": flag(True) for block in range(BLOCKS)},
            "optional": {"layer_filter": words("", multiline=True)},
        }

    @checked()
    def select(self, layer_filter: str = "", **blocks: bool) -> tuple[dict[str, Any]]:
        """The chosen blocks, and parts of names that are left out.

        Raises:
            TypeError: there is no such block.
        """
        declared = self.INPUT_TYPES()["required"]
        for name in blocks:
            if name not in declared:
                raise TypeError(f"select() got an unexpected keyword argument {name!r}")
        chosen = {name: True for name in declared if blocks.get(name, True)}
        without = [part.strip() for part in re.split(r"[,\n]", layer_filter) if part.strip()]
        return ({"selected_blocks": chosen, "layer_filter": without},)


class WanVideoSetLoRAs:
    """Other LoRAs for a model that is there; merged ones too."""

    RETURN_TYPES: ClassVar = ("WANVIDEOMODEL",)
    RETURN_NAMES: ClassVar = ("model",)
    FUNCTION = "setlora"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {"required": {"model": link("WANVIDEOMODEL")}, "optional": {"lora": link("WANVIDLORA")}}

    @checked()
    def setlora(self, model: WanModel, lora: LoraList | None = None) -> tuple[WanModel]:
        """The model with these LoRAs instead of its own; without any, as it is.

        Raises:
            CheckpointError: one is missing or does not fit.
        """
        model = need_model(model)
        return (model if lora is None else model.with_loras(loras_of(lora)),)


def loras_of(entries: LoraList | None) -> tuple[LoRA, ...]:
    """The LoRAs of a list, their files found.

    Raises:
        CheckpointError: a file is nowhere.
        UsageError: an entry has keys that nobody reads.
    """
    return tuple(_lora(entry) for entry in entries or ())


def _lora(entry: dict[str, Any]) -> LoRA:
    known_keys("an entry of lora", entry, KEYS)
    name, strength = str(entry["path"]), entry.get("strength", 1.0)
    path = host().places.find("loras", name)
    found = find_lora(LoRA(path=path or Path(name)), host().places.roots)
    selected = (entry.get("blocks") or {}).get("selected_blocks", entry.get("blocks")) or None
    steps = tuple(float(one) for one in strength) if isinstance(strength, (list, tuple)) else float(strength)
    if entry.get("low_mem_load"):
        say("low_mem_load has no effect: LoRAs are always merged weight by weight.")
    return LoRA(
        path=found.path,
        strength=steps,
        merge=bool(entry.get("merge_loras", True)) and not isinstance(steps, tuple),
        blocks=None if selected is None else tuple(sorted(_number(block) for block in selected)),
        without=tuple(entry.get("layer_filter") or ()),
    )


def _number(block: str) -> int:
    return int(block.removeprefix("blocks.").rstrip("."))


def _longer(
    before: LoraList | None,
    name: str,
    strength: float | list[float],
    blocks: dict[str, Any] | None,
    low_mem_load: bool,
    merge_loras: bool,
) -> LoraList:
    """The list with one entry more, unless it would change nothing."""
    if blocks is not None:
        known_keys("blocks", blocks, ("selected_blocks", "layer_filter"))
    several = isinstance(strength, (list, tuple))
    rounded: Any = [round(s, 4) for s in strength] if several else round(strength, 4)  # type: ignore[union-attr, arg-type]
    if name == "none" or not (any(rounded) if several else rounded):
        return list(before or ())
    if several and merge_loras:
        raise UsageError(
            f"The LoRA {name} has a strength for each step and merge_loras is on; a merged one has one strength. "
            "Switch merge_loras off."
        )
    entry = {
        "path": name,
        "name": name.rsplit("/", 1)[-1].rsplit(".", 1)[0],
        "strength": rounded,
        "blocks": (blocks or {}).get("selected_blocks", {}),
        "layer_filter": (blocks or {}).get("layer_filter", []),
        "low_mem_load": low_mem_load,
        "merge_loras": merge_loras,
    }
    return [*(before or ()), entry]


def _whole_name(part: str) -> str:
    """The one file with this name, or with this in its name."""
    names = host().places.names("loras")
    exact = [name for name in names if part in (name, name.rsplit("/", 1)[-1].rsplit(".", 1)[0])]
    fitting = exact or [name for name in names if part.lower() in name.lower()]
    if len(fitting) > 1:
        raise CheckpointError(
            f"Several LoRAs have {part!r} in their names: {', '.join(fitting[:5])}. Give the whole name.",
            code="checkpoint_ambiguous",
        )
    return fitting[0] if fitting else part
