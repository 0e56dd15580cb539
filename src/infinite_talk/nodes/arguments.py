"""The arguments of the sampler nodes become one ``Sampling``: parsed here, once, and nowhere else.

An args dict holds what its node declares: its keys, defaults and ranges are read from that node's ``INPUT_TYPES``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal, cast

import torch

from infinite_talk.errors import UsageError
from infinite_talk.nodes import guidance
from infinite_talk.nodes.declare import check, inputs_of, known_keys
from infinite_talk.nodes.registry import node_class
from infinite_talk.sampling import (
    ContextWindows,
    EnhanceAVideo,
    FlowEdit,
    FreeInit,
    FreSca,
    GuidanceChoice,
    MobiusLoop,
    Positions,
    ScheduleChoice,
    ScoreRescaling,
    Share,
    SkipLayers,
)
from infinite_talk.types import TEMPORAL_STRIDE, latent_frames

Args = Mapping[str, Any]
_NO_GUIDANCE, _NO_CHANGE = GuidanceChoice(), Positions()


def args_of(what: str, given: Args, node: str, beside: Collection[str] = ()) -> dict[str, Any]:
    """The values of an args dict, missing ones filled in with the declared defaults.

    Args:
        what: name of the argument, for messages.
        node: that makes such a dict.
        beside: further keys that the dict may have, whose values are checked elsewhere.

    Raises:
        UsageError: a key is unknown, or a value is out of its range.
    """
    kind = node_class(node)
    declared = {name: entry for name, entry in inputs_of(kind).items() if entry[0] != "UNIQUE_ID"}
    known_keys(what, given, [*declared, *(key for key in beside if key not in declared)])
    values = {name: options.get("default") for name, (_, options) in declared.items()} | dict(given)
    check(kind, {name: value for name, value in values.items() if name in given and name not in beside})
    return values


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


def scales(what: str, given: float | Sequence[float], most: float) -> tuple[float, ...]:
    """A scale, or one for each step, as a tuple.

    Raises:
        UsageError: nothing, or a number outside of 0 to ``most``.
    """
    found = tuple(float(one) for one in (given if isinstance(given, (list, tuple)) else (given,)))
    if not found or not all(0 <= one <= most for one in found):
        raise UsageError(f"{what} is {list(found)}; give a number from 0 to {most:g}, or one for each step.")
    return found


def whole_numbers(what: str, given: str | int | Sequence[int]) -> tuple[int, ...]:
    """Numbers from a text with commas, one number, or a list.

    Raises:
        UsageError: something in it is not a whole number.
    """
    parts = [given] if isinstance(given, int) else given.split(",") if isinstance(given, str) else list(given)
    try:
        return tuple(int(part) for part in parts if str(part).strip())
    except (TypeError, ValueError):
        raise UsageError(
            f"{what} is {given!r}; give whole numbers with commas between, as in '9, 10'."
        ) from None


def sigmas_of(sigmas: torch.Tensor | Sequence[float] | None) -> tuple[float, ...] | None:
    """A schedule of one's own: a tensor or list of falling numbers from 1 to 0.

    Raises:
        UsageError: fewer than two numbers, rising ones, or numbers outside of 0 to 1.
    """
    if sigmas is None:
        return None
    found = tuple(
        float(one) for one in (sigmas.flatten().tolist() if isinstance(sigmas, torch.Tensor) else sigmas)
    )
    falling = all(one > other for one, other in pairwise(found))
    if len(found) < 2 or not falling or not all(0 <= one <= 1 for one in found):
        raise UsageError(
            f"sigmas are {[round(one, 4) for one in found[:8]]}{'...' if len(found) > 8 else ''}; give at least two "
            "numbers that fall, from at most 1 to at least 0."
        )
    return found


def position_of(what: str, given: float, none: Literal[0, -1]) -> int | float:
    """``start_step`` or ``end_step``: a step, or as a float with a fraction or in 0..1 a sigma.

    A float is a threshold of sigma; a ``1.0`` is one too, as the node WanVideoSigmaToStep gives it.

    Raises:
        UsageError: a number that is neither.
    """
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        raise UsageError(f"{what} is {given!r}; give a step (int), or a sigma from 0 to 1 (float).")
    if isinstance(given, int) or given == none:
        if given < none:
            raise UsageError(f"{what} is {given}; give {none} or more.")
        return int(given)
    if not 0 <= given <= 1:
        raise UsageError(
            f"{what} is the float {given}, a sigma, which lies from 0 to 1; for a step give an int."
        )
    return given


def schedule_of(
    scheduler: str | Args | ScheduleChoice,
    *,
    steps: int,
    shift: float,
    start_step: float,
    end_step: float,
    denoise_strength: float,
    sigmas: torch.Tensor | Sequence[float] | None,
) -> ScheduleChoice:
    """The schedule that the sampler's arguments ask for.

    Args:
        scheduler: a name, or what WanVideoScheduler has put together: that says all but ``denoise_strength``.
    """
    if isinstance(scheduler, ScheduleChoice):
        return replace(scheduler, denoise_strength=float(denoise_strength))
    beyond: Args = {}
    if isinstance(scheduler, Mapping):
        beyond = args_of("scheduler", scheduler, "WanVideoScheduler", beside=("scheduler", "shift_once"))
        steps, shift, sigmas = beyond["steps"], beyond["shift"], beyond["sigmas"]
        start_step, end_step = beyond["start_step"], beyond["end_step"]
    return ScheduleChoice(
        name=beyond.get("scheduler", scheduler),
        steps=int(steps),
        shift=float(shift),
        start=position_of("start_step", start_step, 0),
        end=position_of("end_step", end_step, -1),
        denoise_strength=float(denoise_strength),
        sigmas=sigmas_of(sigmas),
        enhance_hf=bool(beyond.get("enhance_hf", False)),
        shift_once=bool(beyond.get("shift_once", False)),
    )
