"""Nodes for what is put on the transformer's passes: enhancement, skipped blocks, NAG, positions, attention."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from infinite_talk.errors import UsageError
from infinite_talk.nodes.attention import Decayed, PlacedOverride, Radial, pattern_of
from infinite_talk.nodes.declare import CATEGORY, Inputs, checked, choice, flag, integer, link, number, words
from infinite_talk.nodes.handles import AttentionOverride, WanModel, need_model
from infinite_talk.nodes.loaders import ATTENTIONS, MORE_ATTENTIONS
from infinite_talk.nodes.opening import attention_of

ROPE_FUNCTIONS = ["default", "comfy", "comfy_chunked"]
_DASH = re.compile(r"(?<=\d)\s+-\s+(?=\d)")
DENSE_MODES = ("sdpa", "flash_attn_2", "flash_attn_3", "sageattn", "sparse_sage_attention")


def block_numbers(text: str) -> list[int]:
    """``"1, 3-5"`` -> ``[1, 3, 4, 5]``; commas, spaces or lines between them.

    Raises:
        UsageError: something is not a number, or a range runs backwards.
    """
    numbers: list[int] = []
    for word in _DASH.sub("-", text.replace(",", " ")).split():
        first, dash, last = word.partition("-")
        ends = (first, last) if dash else (first, first)
        if not all(end.isdecimal() for end in ends) or int(ends[1]) < int(ends[0]):
            raise UsageError(f"{word!r} is no block; give numbers and ranges such as '1, 3-5', from 0.")
        numbers += range(int(ends[0]), int(ends[1]) + 1)
    return numbers


class WanVideoEnhanceAVideo:
    """Enhance-A-Video: more weight for the attention between frames."""

    RETURN_TYPES = ("FETAARGS",)
    RETURN_NAMES = ("feta_args",)
    FUNCTION = "setargs"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {
            "required": {
                "weight": number(
                    2.0, 0, 100, 0.01, tooltip="How much more the frames of a video attend to each other"
                ),
                "start_percent": _percent(0.0, "From this share of the steps"),
                "end_percent": _percent(1.0, "Up to this share of the steps"),
            }
        }

    @checked()
    def setargs(
        self, weight: float = 2.0, start_percent: float = 0.0, end_percent: float = 1.0
    ) -> tuple[dict[str, Any]]:
        return ({"weight": weight, "start_percent": start_percent, "end_percent": end_percent},)


class WanVideoSLG:
    """Skip-layer guidance: blocks that the pass with the negative prompt leaves out."""

    RETURN_TYPES = ("SLGARGS",)
    RETURN_NAMES = ("slg_args",)
    FUNCTION = "process"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {
            "required": {
                "blocks": words(
                    "10", tooltip="Numbers of blocks from 0, with commas; without effect at cfg 1"
                ),
                "start_percent": _percent(0.1, "From this share of the steps"),
                "end_percent": _percent(1.0, "Up to this share of the steps"),
            }
        }

    @checked()
    def process(
        self, blocks: str = "10", start_percent: float = 0.1, end_percent: float = 1.0
    ) -> tuple[dict[str, Any]]:
        numbers = block_numbers(blocks)
        return ({"blocks": numbers, "start_percent": start_percent, "end_percent": end_percent},)


class WanVideoApplyNAG:
    """Normalised attention guidance: a negative prompt that also works at cfg 1."""

    RETURN_TYPES = ("WANVIDEOTEXTEMBEDS",)
    RETURN_NAMES = ("text_embeds",)
    FUNCTION = "process"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {
            "required": {
                "original_text_embeds": link("WANVIDEOTEXTEMBEDS"),
                "nag_text_embeds": link(
                    "WANVIDEOTEXTEMBEDS", tooltip="What to stay away from, as its prompt"
                ),
                "nag_scale": number(11.0, 0.0, 100.0, 0.1, tooltip="How far"),
                "nag_tau": number(2.5, 0.0, 10.0, 0.1, tooltip="Largest growth of an answer"),
                "nag_alpha": number(0.25, 0.0, 1.0, 0.01, tooltip="Share of the guided answer"),
            },
            "optional": {
                "inplace": flag(True, tooltip="For old workflows; the numbers are the same either way"),
            },
        }

    @checked()
    def process(
        self,
        original_text_embeds: Mapping[str, Any],
        nag_text_embeds: Mapping[str, Any],
        nag_scale: float = 11.0,
        nag_tau: float = 2.5,
        nag_alpha: float = 0.25,
        inplace: bool = True,
    ) -> tuple[dict[str, Any]]:
        for what, embeds in (
            ("original_text_embeds", original_text_embeds),
            ("nag_text_embeds", nag_text_embeds),
        ):
            if not isinstance(embeds, Mapping) or not embeds.get("prompt_embeds"):
                raise UsageError(
                    f"{what} has no prompt; connect a text encoder with a prompt that is not empty."
                )
        numbers = {"nag_scale": nag_scale, "nag_tau": nag_tau, "nag_alpha": nag_alpha, "inplace": inplace}
        added = {"nag_prompt_embeds": nag_text_embeds["prompt_embeds"], "nag_params": numbers}
        return ({**original_text_embeds, **added},)


class WanVideoRoPEFunction:
    """Rotary positions: how they are computed, and NTK factors by axis."""

    RETURN_TYPES = (ROPE_FUNCTIONS,)
    RETURN_NAMES = ("rope_function",)
    FUNCTION = "process"
    CATEGORY = CATEGORY
    EXPERIMENTAL = True

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {
            "required": {
                "rope_function": choice(
                    ROPE_FUNCTIONS,
                    "comfy",
                    tooltip="One exact rotation for all; comfy_chunked works on fewer tokens at a time: less memory",
                ),
                "ntk_scale_f": number(1.0, 0.0, 100.0, 0.01, tooltip="NTK factor of the time axis"),
                "ntk_scale_h": number(1.0, 0.0, 100.0, 0.01, tooltip="NTK factor of the height"),
                "ntk_scale_w": number(1.0, 0.0, 100.0, 0.01, tooltip="NTK factor of the width"),
            }
        }

    @checked()
    def process(
        self,
        rope_function: str = "comfy",
        ntk_scale_f: float = 1.0,
        ntk_scale_h: float = 1.0,
        ntk_scale_w: float = 1.0,
    ) -> tuple[str | dict[str, Any]]:
        factors = {"ntk_scale_f": ntk_scale_f, "ntk_scale_h": ntk_scale_h, "ntk_scale_w": ntk_scale_w}
        if all(factor == 1 for factor in factors.values()):
            return (rope_function,)
        return ({"rope_function": rope_function, **factors},)


class WanVideoSetAttentionModeOverride:
    """Another attention kernel in some steps and blocks, also with several people in the picture."""

    RETURN_TYPES = ("WANVIDEOMODEL",)
    RETURN_NAMES = ("model",)
    FUNCTION = "getmodelpath"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {
            "required": {
                "model": link("WANVIDEOMODEL"),
                "attention_mode": choice((*ATTENTIONS, *MORE_ATTENTIONS), "sdpa"),
                "start_step": integer(0, 0, 10000, 1, tooltip="First step"),
                "end_step": integer(10000, 1, 10000, 1, tooltip="First step that has its own kernel again"),
                "verbose": flag(False, tooltip="For old workflows; the log says what runs"),
            },
            "optional": {"blocks": link("INT", forceInput=True)},
        }

    @checked(lists=("blocks",))
    def getmodelpath(
        self,
        model: WanModel,
        attention_mode: str = "sdpa",
        start_step: int = 0,
        end_step: int = 10000,
        verbose: bool = False,  # noqa: ARG002
        blocks: int | Sequence[int] | None = None,
    ) -> tuple[WanModel]:
        model, numbers = need_model(model), _some_blocks(blocks)
        if end_step <= start_step:
            raise UsageError(f"end_step {end_step} is not after start_step {start_step}; give a later end.")
        pattern = pattern_of(attention_mode)
        if pattern is not None:
            placed = PlacedOverride(choice=pattern, start_step=start_step, end_step=end_step, blocks=numbers)
            return (replace(model, options=(*model.options, placed)),)
        override = AttentionOverride(
            attention=attention_of(attention_mode),
            start_step=start_step,
            end_step=end_step,
            blocks=numbers,
        )
        return (replace(model, overrides=(*model.overrides, override)),)


class WanVideoSetRadialAttention:
    """Radial attention: the farther apart two frames are, the fewer of their pixels see each other."""

    RETURN_TYPES = ("WANVIDEOMODEL",)
    RETURN_NAMES = ("model",)
    FUNCTION = "loadmodel"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {
            "required": {
                "model": link("WANVIDEOMODEL"),
                "dense_attention_mode": choice(
                    DENSE_MODES, "sageattn", tooltip="Kernel where nothing is left out"
                ),
                "dense_blocks": integer(
                    1, 0, 40, 1, tooltip="So many first blocks, or those of a list, leave nothing out"
                ),
                "dense_vace_blocks": integer(
                    1, 0, 15, 1, tooltip="For old workflows; there are no VACE blocks"
                ),
                "dense_timesteps": integer(2, 0, 100, 1, tooltip="The first steps leave nothing out"),
                "decay_factor": number(
                    0.2, 0, 1, 0.01, tooltip="How fast the window shrinks with the distance of frames"
                ),
                "block_size": choice([128, 64], tooltip="Tokens that are left out together"),
            }
        }

    @checked(lists=("dense_blocks",))
    def loadmodel(
        self,
        model: WanModel,
        dense_attention_mode: str = "sageattn",
        dense_blocks: int | Sequence[int] = 1,
        dense_vace_blocks: int = 1,  # noqa: ARG002
        dense_timesteps: int = 2,
        decay_factor: float = 0.2,
        block_size: int = 128,
    ) -> tuple[WanModel]:
        radial = Radial(
            # Where a sparse kernel leaves nothing out, it is the dense one.
            dense=attention_of(dense_attention_mode.replace("sparse_sage_attention", "sageattn")),
            dense_blocks=tuple(range(dense_blocks) if isinstance(dense_blocks, int) else dense_blocks),
            dense_steps=dense_timesteps,
            decay=decay_factor,
            block=block_size,
        )
        return (_with_option(need_model(model), radial),)


class WanVideoUltraVicoSettings:
    """UltraViCo: windows longer than the training's, with weaker attention to what is beyond it."""

    RETURN_TYPES = ("WANVIDEOMODEL",)
    RETURN_NAMES = ("model",)
    FUNCTION = "getmodelpath"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {
            "required": {
                "model": link("WANVIDEOMODEL"),
                "alpha": number(
                    0.9, 0.0, 1.0, 0.001, tooltip="Factor of attention beyond the trained window"
                ),
            }
        }

    @checked()
    def getmodelpath(self, model: WanModel, alpha: float = 0.9) -> tuple[WanModel]:
        return (_with_option(need_model(model), Decayed(alpha=alpha)),)


class WanVideoBlockList:
    """Numbers of blocks, one to a line, for the attention override."""

    RETURN_TYPES = ("INT",)
    RETURN_NAMES = ("block_list",)
    FUNCTION = "create_list"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {"required": {"blocks": words("1", multiline=True, tooltip="Numbers and ranges: 1, 3-5")}}

    @checked()
    def create_list(self, blocks: str = "1") -> tuple[list[int]]:
        return (block_numbers(blocks),)


def _percent(default: float, tooltip: str) -> Any:  # noqa: ANN401
    return number(default, 0.0, 1.0, 0.01, tooltip=tooltip)


def _some_blocks(blocks: int | Sequence[int] | None) -> tuple[int, ...] | None:
    if blocks is None:
        return None
    return (blocks,) if isinstance(blocks, int) else tuple(blocks)


def _with_option(model: WanModel, option: Radial | Decayed) -> WanModel:
    """In place of one of its kind; radial attention and UltraViCo stand for each other."""
    others = (other for other in model.options if not isinstance(other, Radial | Decayed))
    return replace(model, options=(*others, option))
