"""Schedules as values of their own: for looking at, for other nodes, and for WanVideo Sampler v2."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch

from infinite_talk.denoise.schedules import NAMES, Schedule, schedule_of
from infinite_talk.nodes.declare import CATEGORY, Inputs, check, checked, choice, flag, integer, link, number
from infinite_talk.nodes.numbers import position_of
from infinite_talk.sampling import ScheduleChoice

log = logging.getLogger(__name__)
Sigmas = torch.Tensor | Sequence[float]


def _inputs() -> Inputs:
    return {
        "required": {
            "scheduler": choice(NAMES, "unipc"),
            "steps": integer(30, 1),
            "shift": number(5.0, 0.0, 1000.0, 0.01),
            "start_step": integer(0, 0),
            "end_step": integer(-1, -1),
        },
        "optional": {"sigmas": link("SIGMAS"), "enhance_hf": flag(False)},
        "hidden": {"unique_id": ("UNIQUE_ID", {})},
    }


class WanVideoScheduler:
    """A schedule as plain values: all of its sigmas, and what the sampler takes beside them."""

    # ComfyUI links a choice to an input with the same list of names.
    RETURN_TYPES: ClassVar[tuple[Any, ...]] = ("SIGMAS", "INT", "FLOAT", list(NAMES), "INT", "INT")
    RETURN_NAMES: ClassVar = ("sigmas", "steps", "shift", "scheduler", "start_step", "end_step")
    FUNCTION = "process"
    CATEGORY = CATEGORY
    EXPERIMENTAL = True

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802 - ComfyUI's name
        return _inputs()

    def process(
        self,
        scheduler: str = "unipc",
        steps: int = 30,
        shift: float = 5.0,
        start_step: float = 0,
        end_step: float = -1,
        sigmas: Sigmas | None = None,
        enhance_hf: bool = False,
        unique_id: object = None,  # noqa: ARG002 - ComfyUI's number of the node
    ) -> tuple[torch.Tensor, int, float, str, float, float]:
        """Sigmas ``(steps + 1,)`` float32 of the uncut schedule, its steps, and the rest as it came.

        ``start_step`` and ``end_step`` are steps, or floats from 0 to 1, which are thresholds of sigma.

        Raises:
            UsageError: a value is out of range, or the cut leaves no step.
        """
        whole = _whole(_asked(type(self), scheduler, steps, shift, start_step, end_step, sigmas, enhance_hf))
        return whole.sigmas.float(), whole.steps, shift, scheduler, start_step, end_step


class WanVideoSchedulerv2:
    """A schedule for WanVideo Sampler v2."""

    RETURN_TYPES: ClassVar = ("WANVIDEOSCHEDULER",)
    RETURN_NAMES: ClassVar = ("scheduler",)
    FUNCTION = "process"
    CATEGORY = CATEGORY
    EXPERIMENTAL = True

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802 - ComfyUI's name
        return _inputs()

    def process(
        self,
        scheduler: str = "unipc",
        steps: int = 30,
        shift: float = 5.0,
        start_step: float = 0,
        end_step: float = -1,
        sigmas: Sigmas | None = None,
        enhance_hf: bool = False,
        unique_id: object = None,  # noqa: ARG002 - ComfyUI's number of the node
    ) -> tuple[dict[str, Any]]:
        """The inputs as a dictionary, checked: the sampler's ``scheduler`` takes it in place of a name.

        Such a dictionary may also hold ``shift_once: True``, which leaves the first of two shifts away.

        Raises:
            UsageError: a value is out of range, or the cut leaves no step.
        """
        _asked(type(self), scheduler, steps, shift, start_step, end_step, sigmas, enhance_hf)
        found = {"scheduler": scheduler, "steps": steps, "shift": shift}
        return (
            found
            | {"start_step": start_step, "end_step": end_step, "sigmas": sigmas, "enhance_hf": enhance_hf},
        )


class WanVideoSigmaToStep:
    """A noise level in place of a step: for ``start_step`` and ``end_step``, which take a float for that."""

    RETURN_TYPES: ClassVar = ("INT",)
    RETURN_NAMES: ClassVar = ("step",)
    FUNCTION = "convert"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802 - ComfyUI's name
        return {"required": {"sigma": number(0.9, 0.0, 1.0, 0.001)}}

    @checked()
    def convert(self, sigma: float = 0.9) -> tuple[float]:
        """The level as a float: the socket is an ``INT``'s, so that it fits, and the sampler tells them apart."""
        return (float(sigma),)


def _asked(
    node: type[Any],
    scheduler: str,
    steps: int,
    shift: float,
    start_step: float,
    end_step: float,
    sigmas: Sigmas | None,
    enhance_hf: bool,
) -> ScheduleChoice:
    """What the inputs of a node ask for, checked, and told to the log with what has no effect."""
    check(node, {"steps": steps, "shift": shift, "enhance_hf": enhance_hf})
    asked = ScheduleChoice(
        name=scheduler,
        steps=steps,
        shift=float(shift),
        start=_position(node, "start_step", start_step, none=0),
        end=_position(node, "end_step", end_step, none=-1),
        sigmas=None if sigmas is None else tuple(torch.as_tensor(sigmas, dtype=torch.float64).tolist()),
        enhance_hf=enhance_hf,
    )
    found = schedule_of(asked)
    times = ", ".join(f"{time:.6g}" for time in found.times.tolist())
    log.info("Scheduler %s: %d steps, at the times %s.", scheduler, found.steps, times)
    for note in found.notes:
        log.warning("%s", note)
    return asked


def _position(node: type[Any], name: str, value: float, none: Literal[0, -1]) -> int | float:
    """A step within the node's range, or a sigma if it is a float."""
    if not isinstance(value, float):
        check(node, {name: value})
    return position_of(name, value, none)


def _whole(asked: ScheduleChoice) -> Schedule:
    """The schedule without its cut."""
    return schedule_of(replace(asked, start=0, end=-1))
