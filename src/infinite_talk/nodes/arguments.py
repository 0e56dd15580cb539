"""The arguments of the sampler nodes become one ``Sampling``: parsed here, once, and nowhere else.

An args dict holds what its node declares: its keys, defaults and ranges are read from that node's ``INPUT_TYPES``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch

from infinite_talk.errors import UsageError
from infinite_talk.nodes import guidance
from infinite_talk.nodes.args import Args, args_of
from infinite_talk.nodes.numbers import whole_numbers
from infinite_talk.sampling import (
    ContextWindows,
    EnhanceAVideo,
    FlowEdit,
    FreeInit,
    FreSca,
    GuidanceChoice,
    MobiusLoop,
    Positions,
    ScoreRescaling,
    Share,
    SkipLayers,
)
from infinite_talk.types import TEMPORAL_STRIDE, latent_frames

_NO_GUIDANCE, _NO_CHANGE = GuidanceChoice(), Positions()


def share_of(values: Args) -> Share:
    """``start_percent`` and ``end_percent``, which are shares from 0 to 1.

    Raises:
        UsageError: it ends before it begins.
    """
    start, end = float(values["start_percent"]), float(values["end_percent"])
    if end < start:
        raise UsageError(f"end_percent {end:g} lies before start_percent {start:g}; give a later end.")
    return Share(start=start, end=end)


def enhance_of(feta_args: Args | None) -> EnhanceAVideo | None:
    """``feta_args`` of WanVideoEnhanceAVideo."""
    if feta_args is None:
        return None
    values = args_of("feta_args", feta_args, "WanVideoEnhanceAVideo")
    return EnhanceAVideo(weight=float(values["weight"]), share=share_of(values))


def skip_layers_of(slg_args: Args | None, layers: int) -> SkipLayers | None:
    """``slg_args`` of WanVideoSLG; ``blocks`` is a list of numbers, or a text such as ``"9, 10"``.

    Args:
        layers: blocks of the model.

    Raises:
        UsageError: a block that the model has not.
    """
    if slg_args is None:
        return None
    values = args_of("slg_args", slg_args, "WanVideoSLG", beside=("blocks",))
    blocks = whole_numbers("blocks of slg_args", values["blocks"])
    if wrong := [block for block in blocks if not 0 <= block < layers]:
        raise UsageError(f"slg_args skips block {wrong[0]}; the model has the blocks 0 to {layers - 1}.")
    return SkipLayers(blocks=blocks, share=share_of(values))


def context_of(context_options: Args | None) -> ContextWindows | None:
    """``context_options`` of WanVideoContextOptions: frames, stride and overlap in video frames."""
    if context_options is None:
        return None
    values = args_of(
        "context_options", context_options, "WanVideoContextOptions", beside=("reference_latent", "vae")
    )
    return ContextWindows(
        schedule=values["context_schedule"],
        frames=latent_frames(int(values["context_frames"])),
        stride=max(1, int(values["context_stride"]) // TEMPORAL_STRIDE),
        overlap=int(values["context_overlap"]) // TEMPORAL_STRIDE,
        free_noise=bool(values["freenoise"]),
        fuse=values["fuse_method"],
    )


def loop_of(loop_args: Args | None) -> MobiusLoop | None:
    """``loop_args`` of WanVideoLoopArgs."""
    if loop_args is None:
        return None
    values = args_of("loop_args", loop_args, "WanVideoLoopArgs")
    return MobiusLoop(shift_skip=int(values["shift_skip"]), share=share_of(values))


def free_init_of(freeinit_args: Args | None) -> FreeInit | None:
    """``freeinit_args`` of WanVideoFreeInitArgs."""
    if freeinit_args is None:
        return None
    values = args_of("freeinit_args", freeinit_args, "WanVideoFreeInitArgs")
    return FreeInit(
        iterations=int(values["freeinit_num_iters"]),
        method=values["freeinit_method"],
        n=int(values["freeinit_n"]),
        d_s=float(values["freeinit_d_s"]),
        d_t=float(values["freeinit_d_t"]),
    )


def flow_edit_of(flowedit_args: Args | None) -> FlowEdit | None:
    """``flowedit_args`` of WanVideoFlowEdit.

    Raises:
        UsageError: a key is unknown, a number out of range, the source's words are missing, or it has a picture of its
            own.
    """
    choice = guidance.flow_edit_of(flowedit_args)
    if flowedit_args is None or choice is None:
        return None
    if flowedit_args.get("source_embeds") is None:
        raise UsageError(
            "flowedit_args has no source_embeds: encode what the source video shows, and put it there."
        )
    if flowedit_args.get("source_image_embeds") is not None:
        raise UsageError(
            "source_image_embeds of flowedit_args is not supported: source and target have one reference picture. "
            "Leave it away."
        )
    return choice


def picture_of(context_options: Args | None) -> torch.Tensor | None:
    """``reference_latent`` of ``context_options``: the first latent frame, ``(16, 1, h, w)``."""
    given = None if context_options is None else context_options.get("reference_latent")
    if given is None:
        return None
    latents: torch.Tensor = given["samples"]
    return latents.reshape(-1, *latents.shape[-4:])[0][:, :1].float()


@dataclass(frozen=True, slots=True)
class Experimental:
    """What ``experimental_args`` of WanVideoExperimentalArgs ask for."""

    guidance: GuidanceChoice = _NO_GUIDANCE
    """Its own fields only; scales come from elsewhere."""
    score_rescaling: ScoreRescaling | None = None
    bidirectional: bool = False
    split_attention_steps: tuple[int, ...] = ()


def experimental_of(experimental_args: Args | None) -> Experimental:
    """Parse ``experimental_args``.

    ``zero_star_steps`` is the last step that does not move, as in the node pack: 0 is one step.
    """
    if experimental_args is None:
        return Experimental()
    values = args_of(
        "experimental_args",
        experimental_args,
        "WanVideoExperimentalArgs",
        beside=("video_attention_split_steps",),
    )
    fresca = FreSca(
        low=float(values["fresca_scale_low"]),
        high=float(values["fresca_scale_high"]),
        cutoff=int(values["fresca_freq_cutoff"]),
    )
    zero_init = values["cfg_zero_star"] and values["use_zero_init"]
    return Experimental(
        GuidanceChoice(
            zero_star=bool(values["cfg_zero_star"]),
            zero_steps=int(values["zero_star_steps"]) + 1 if zero_init else 0,
            fresca=fresca if values["use_fresca"] else None,
            tangential=bool(values["use_tcfg"]),
            raag_alpha=float(values["raag_alpha"]),
        ),
        ScoreRescaling(k=float(values["tsr_k"]), sigma=float(values["tsr_sigma"]))
        if values["temporal_score_rescaling"]
        else None,
        bool(values["bidirectional_sampling"]),
        whole_numbers("video_attention_split_steps", values["video_attention_split_steps"]),
    )


@dataclass(frozen=True, slots=True)
class Rope:
    """What ``rope_function`` asks for. There is one rotation here, exact in every case."""

    positions: Positions = _NO_CHANGE
    chunked: bool = False
    """The feed-forward layers work on a part of the tokens at a time: the same numbers, less memory."""


ROPE_FUNCTIONS = ("default", "comfy", "comfy_chunked")


def rope_of(rope_function: str | Args, riflex_freq_index: int) -> Rope:
    """``rope_function``: a name, or the dict of WanVideoRoPEFunction; and RIFLEx.

    Raises:
        UsageError: the name is unknown, or a factor is not above 0.
    """
    values: Args = {"rope_function": rope_function}
    if isinstance(rope_function, Mapping):
        values = args_of("rope_function", rope_function, "WanVideoRoPEFunction")
    if values["rope_function"] not in ROPE_FUNCTIONS:
        raise UsageError(
            f"rope_function is {values['rope_function']!r}; choose one of {', '.join(ROPE_FUNCTIONS)}."
        )
    ntk = tuple(float(values.get(f"ntk_scale_{axis}", 1.0)) for axis in "fhw")
    if min(ntk) <= 0:
        raise UsageError(
            f"The NTK factors of rope_function are {ntk}; each must be above 0, 1 changes nothing."
        )
    return Rope(
        Positions(riflex=int(riflex_freq_index), ntk=cast("tuple[float, float, float]", ntk)),
        values["rope_function"] == "comfy_chunked",
    )
