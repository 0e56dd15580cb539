"""Names of that WebUI tab in terms of ours: quantisation, attention, samplers and schedulers."""

from __future__ import annotations

from infinite_talk.denoise.schedules import NAMES
from infinite_talk.errors import UsageError
from infinite_talk.settings import Attention, Quantization

_QUANTIZATIONS = {"fp8": "fp8_e4m3fn", "": "disabled", "none": "disabled"}
_ATTENTIONS = {"default": "auto", "": "auto"}
_SOLVERS = {
    **{
        name: name
        for name in ("euler", "lcm", "unipc", "dpm++", "dpm++_sde", "deis", "er_sde", "res_multistep")
    },
    "dpmpp_2m": "dpm++",
    "dpmpp_sde": "dpm++_sde",
}
"""Sampler names that are solvers of ours."""
_LACKING = ("euler_a", "heun", "dpm_2", "dpm_2_a", "lms")
"""Sampler names of that tab that no schedule of Wan2.1 was published with; they had no effect there."""
_SHARED = ({"unipc", "dpm++", "dpm++_sde"}, {"euler", "lcm"})
"""Schedulers with the same grid, so that the sampler's name may choose the solver on it."""
_EULER = ("multitalk", "flowmatch_", "longcat_")
"""Beginnings of schedulers that Euler walks."""


def quantization_named(name: str) -> str:
    """The loader's name.

    Raises:
        UsageError: there is no such quantisation.
    """
    found = _QUANTIZATIONS.get(name, name)
    if found not in set(Quantization):
        raise UsageError(f"model_quantization is {name!r}; choose one of {', '.join(Quantization)}.")
    return found


def attention_named(name: str) -> str:
    """The loader's name; ``default`` leaves the choice to the machine.

    Raises:
        UsageError: there is no such attention.
    """
    found = _ATTENTIONS.get(name, name)
    if found not in set(Attention):
        raise UsageError(f"model_attention is {name!r}; choose default or one of {', '.join(Attention)}.")
    return found


def scheduler_of(sampler: str | None, scheduler: str | None) -> str:
    """One name for schedule and solver.

    ``scheduler`` alone says both. A sampler beside it chooses the solver where the grid is the same: ``dpm++_sde`` with
    ``unipc`` is ``dpm++_sde``, and ``dpm++_sde`` with ``unipc/beta`` is ``dpm++_sde/beta``.

    Raises:
        UsageError: a name is unknown, or the two exclude each other.
    """
    if sampler in _LACKING:
        raise UsageError(
            f"The sampler {sampler!r} has no schedule of Wan2.1; choose one of {', '.join(_SOLVERS)}, or leave it out "
            f"(sampler_name=None) and choose by scheduler."
        )
    if sampler is not None and sampler not in _SOLVERS:
        raise UsageError(f"There is no sampler {sampler!r}; choose one of {', '.join(_SOLVERS)}, or None.")
    if scheduler is None:
        return "multitalk" if sampler is None else _SOLVERS[sampler]
    if scheduler not in NAMES:
        raise UsageError(f"There is no scheduler {scheduler!r}; choose one of {', '.join(NAMES)}.")
    if sampler is None:
        return scheduler
    solver, (grid, _, variant) = _SOLVERS[sampler], scheduler.partition("/")
    if solver == grid or (solver == "euler" and scheduler.startswith(_EULER)):
        return scheduler
    if any({solver, grid} <= shared for shared in _SHARED):
        return f"{solver}/{variant}" if variant else solver
    raise UsageError(
        f"The sampler {sampler!r} does not walk the schedule {scheduler!r}: they have different times. Choose the "
        f"scheduler {solver!r}, or sampler_name=None to take {scheduler!r} with its own solver."
    )
