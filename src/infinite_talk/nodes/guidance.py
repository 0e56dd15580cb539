"""Nodes that choose how a window is sampled beyond its schedule; each gives a dictionary that the sampler reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from infinite_talk.nodes.declare import (
    CATEGORY,
    Inputs,
    check,
    checked,
    choice,
    flag,
    inputs_given,
    inputs_of,
    integer,
    known_keys,
    link,
    number,
    words,
)
from infinite_talk.sampling import FlowEdit

_SCHEDULES = ["uniform_standard", "uniform_looped", "static_standard"]
_METHODS = ["butterworth", "ideal", "gaussian", "none"]
_CURVES = ["linear", "ease_in", "ease_out"]


class WanVideoContextOptions:
    """Asks a long latent in overlapping stretches. Numbers are video frames."""

    RETURN_TYPES: ClassVar = ("WANVIDCONTEXT",)
    RETURN_NAMES: ClassVar = ("context_options",)
    FUNCTION = "process"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {
            "required": {
                "context_schedule": choice(_SCHEDULES, "uniform_standard"),
                "context_frames": integer(81, 2, 1000, 1),
                "context_stride": integer(4, 4, 100, 1),
                "context_overlap": integer(16, 4, 100, 1),
                "freenoise": flag(True),
                "verbose": flag(False),
            },
            "optional": {
                "fuse_method": choice(["linear", "pyramid"], "linear"),
                "reference_latent": link("LATENT"),
            },
        }

    @checked()
    def process(
        self,
        context_schedule: str = "uniform_standard",
        context_frames: int = 81,
        context_stride: int = 4,
        context_overlap: int = 16,
        freenoise: bool = True,
        verbose: bool = False,
        fuse_method: str = "linear",
        reference_latent: Mapping[str, Any] | None = None,
    ) -> tuple[dict[str, Any]]:
        return (inputs_given(locals()),)


class WanVideoLoopArgs:
    """A video whose end continues at its beginning."""

    RETURN_TYPES: ClassVar = ("LOOPARGS",)
    RETURN_NAMES: ClassVar = ("loop_args",)
    FUNCTION = "process"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {
            "required": {
                "shift_skip": integer(6, 0),
                "start_percent": number(0.0, 0.0, 1.0, 0.01),
                "end_percent": number(1.0, 0.0, 1.0, 0.01),
            }
        }

    @checked()
    def process(
        self, shift_skip: int = 6, start_percent: float = 0.0, end_percent: float = 1.0
    ) -> tuple[dict[str, Any]]:
        return ({"shift_skip": shift_skip, "start_percent": start_percent, "end_percent": end_percent},)


class WanVideoFreeInitArgs:
    """Samples again from noise that has the layout of the result before."""

    RETURN_TYPES: ClassVar = ("FREEINITARGS",)
    RETURN_NAMES: ClassVar = ("freeinit_args",)
    FUNCTION = "process"
    CATEGORY = CATEGORY
    EXPERIMENTAL = True

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {
            "required": {
                "freeinit_num_iters": integer(3, 1, 10),
                "freeinit_method": choice(_METHODS, "ideal"),
                "freeinit_n": integer(4, 1, 10),
                "freeinit_d_s": number(1.0, 0.0, 10.0, 0.01),
                "freeinit_d_t": number(1.0, 0.0, 10.0, 0.01),
            }
        }

    @checked()
    def process(
        self,
        freeinit_num_iters: int = 3,
        freeinit_method: str = "ideal",
        freeinit_n: int = 4,
        freeinit_d_s: float = 1.0,
        freeinit_d_t: float = 1.0,
    ) -> tuple[dict[str, Any]]:
        return (inputs_given(locals()),)


class WanVideoExperimentalArgs:
    """What may be done to the answers of the model and to their difference."""

    RETURN_TYPES: ClassVar = ("EXPERIMENTALARGS",)
    RETURN_NAMES: ClassVar = ("exp_args",)
    FUNCTION = "process"
    CATEGORY = CATEGORY
    EXPERIMENTAL = True

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {
            "required": {
                "video_attention_split_steps": words(""),
                "cfg_zero_star": flag(False),
                "use_zero_init": flag(False),
                "zero_star_steps": integer(0, 0),
                "use_fresca": flag(False),
                "fresca_scale_low": number(1.0, 0.0, 10.0, 0.01),
                "fresca_scale_high": number(1.25, 0.0, 10.0, 0.01),
                "fresca_freq_cutoff": integer(20, 0, 10000, 1),
                "use_tcfg": flag(False),
                "raag_alpha": number(0.0, 0.0, 10.0, 0.01),
                "bidirectional_sampling": flag(False),
                "temporal_score_rescaling": flag(False),
                "tsr_k": number(0.95, 0.0, 100.0, 0.01),
                "tsr_sigma": number(1.0, 0.0, 1.0, 0.01),
            }
        }

    def process(self, **experimental_args: Any) -> tuple[dict[str, Any]]:  # noqa: ANN401 - as declared
        """The inputs as they are, missing ones by default.

        Raises:
            UsageError: an input is unknown, of another type or out of range.
        """
        node: type[Any] = type(self)
        known_keys("experimental_args", experimental_args, inputs_of(node))
        check(node, experimental_args)
        return (_with_defaults(node, experimental_args),)


class WanVideoFlowEdit:
    """Changes a video by the difference between two prompts."""

    RETURN_TYPES: ClassVar = ("FLOWEDITARGS",)
    RETURN_NAMES: ClassVar = ("flowedit_args",)
    FUNCTION = "process"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {
            "required": {
                "source_embeds": link("WANVIDEOTEXTEMBEDS"),
                "skip_steps": integer(4, 0),
                "drift_steps": integer(0, 0),
                "drift_flow_shift": number(3.0, 1.0, 30.0, 0.01),
                "source_cfg": number(6.0, 0.0, 30.0, 0.01),
                "drift_cfg": number(6.0, 0.0, 30.0, 0.01),
            },
            "optional": {"source_image_embeds": link("WANVIDIMAGE_EMBEDS")},
        }

    @checked(lists=("source_cfg", "drift_cfg"))
    def process(
        self,
        source_embeds: Mapping[str, Any],
        skip_steps: int = 4,
        drift_steps: int = 0,
        drift_flow_shift: float = 3.0,
        source_cfg: float | list[float] = 6.0,
        drift_cfg: float | list[float] = 6.0,
        source_image_embeds: Mapping[str, Any] | None = None,
    ) -> tuple[dict[str, Any]]:
        return (inputs_given(locals()),)


def flow_edit_of(flowedit_args: Mapping[str, Any] | None) -> FlowEdit | None:
    """``flowedit_args`` without its embeds, which the sampler reads.

    Raises:
        UsageError: a key is unknown, or a value out of its range.
    """
    if flowedit_args is None:
        return None
    node: type[Any] = WanVideoFlowEdit
    known_keys("flowedit_args", flowedit_args, inputs_of(node))
    check(node, flowedit_args, lists=("source_cfg", "drift_cfg"))
    values = _with_defaults(node, flowedit_args)
    return FlowEdit(
        skip_steps=int(values["skip_steps"]),
        drift_steps=int(values["drift_steps"]),
        drift_shift=float(values["drift_flow_shift"]),
        source_text=_scales(values["source_cfg"]),
        drift_text=_scales(values["drift_cfg"]),
    )


class CreateCFGScheduleFloatList:
    """A guidance scale for each step: from one number to another in a part of the steps, 1 elsewhere."""

    RETURN_TYPES: ClassVar = ("FLOAT",)
    RETURN_NAMES: ClassVar = ("float_list",)
    FUNCTION = "process"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {
            "required": {
                "steps": integer(30, 2, 1000, 1),
                "cfg_scale_start": number(5.0, 0.0, 30.0, 0.01, round=0.01),
                "cfg_scale_end": number(5.0, 0.0, 30.0, 0.01, round=0.01),
                **_curve(),
            },
            "hidden": {"unique_id": link("UNIQUE_ID")},
        }

    @checked()
    def process(
        self,
        steps: int = 30,
        cfg_scale_start: float = 5.0,
        cfg_scale_end: float = 5.0,
        interpolation: str = "linear",
        start_percent: float = 0.0,
        end_percent: float = 1.0,
        unique_id: str | None = None,  # noqa: ARG002 - the pack shows the list in the node
    ) -> tuple[list[float]]:
        return (
            by_step(steps, cfg_scale_start, cfg_scale_end, 1.0, interpolation, start_percent, end_percent),
        )


class CreateScheduleFloatList:
    """A number for each step: from one to another in a part of the steps, a third elsewhere."""

    RETURN_TYPES: ClassVar = ("FLOAT",)
    RETURN_NAMES: ClassVar = ("float_list",)
    FUNCTION = "process"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {
            "required": {
                "steps": integer(30, 2, 1000, 1),
                "start_value": number(5.0, 0.0, 100.0, 0.01, round=0.01),
                "end_value": number(5.0, 0.0, 100.0, 0.01, round=0.01),
                "default_value": number(0.0, 0.0, 1000.0, 0.01, round=0.01),
                **_curve(),
            },
            "hidden": {"unique_id": link("UNIQUE_ID")},
        }

    @checked()
    def process(
        self,
        steps: int = 30,
        start_value: float = 5.0,
        end_value: float = 5.0,
        default_value: float = 0.0,
        interpolation: str = "linear",
        start_percent: float = 0.0,
        end_percent: float = 1.0,
        unique_id: str | None = None,  # noqa: ARG002 - the pack shows the list in the node
    ) -> tuple[list[float]]:
        return (
            by_step(steps, start_value, end_value, default_value, interpolation, start_percent, end_percent),
        )


def by_step(
    steps: int,
    start: float,
    end: float,
    elsewhere: float,
    curve: str,
    start_percent: float,
    end_percent: float,
) -> list[float]:
    """Numbers rounded to two places, one for each step.

    ``linear`` rises evenly with the share ``u`` of the part between ``start_percent`` and ``end_percent``, ``ease_in``
    with ``u^2``, ``ease_out`` with ``u (2 - u)``. A part that ends before it begins is empty.
    """
    first, last = (min(int(steps * share), steps - 1) for share in (start_percent, end_percent))
    found = [elsewhere] * steps
    for step in range(first, last + 1):
        share = (step - first) / (last - first) if last > first else 0.0
        way = {"linear": share, "ease_in": share**2, "ease_out": share * (2 - share)}[curve]
        found[step] = round(start + way * (end - start), 2)
    return found


def _curve() -> dict[str, Any]:
    return {
        "interpolation": choice(_CURVES, "linear"),
        "start_percent": number(0.0, 0.0, 1.0, 0.01, round=0.01),
        "end_percent": number(1.0, 0.0, 1.0, 0.01, round=0.01),
    }


def _with_defaults(node: type[Any], given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: options.get("default") for name, (_, options) in inputs_of(node).items()} | dict(given)


def _scales(given: Any) -> tuple[float, ...]:  # noqa: ANN401 - a number, or a list of them
    return tuple(map(float, given)) if isinstance(given, (list, tuple)) else (float(given),)
