"""Samplers and schedulers as two lists: here one name says both, so each list follows the other.

Written down rather than asked for: the schedules themselves need torch, which the process of the page does not load. A
test holds it to them (``tests/unit/web/test_samplers.py``).
"""

from __future__ import annotations

from collections.abc import Mapping

SAMPLERS: Mapping[str, tuple[str, ...]] = {
    "euler": (
        "multitalk",
        "euler",
        "euler/beta",
        "longcat_distill_euler",
        "flowmatch_causvid",
        "flowmatch_distill",
        "flowmatch_pusa",
    ),
    "unipc": ("unipc", "unipc/beta"),
    "dpmpp_2m": ("dpm++", "dpm++/beta"),
    "dpmpp_sde": ("dpm++_sde", "dpm++_sde/beta"),
    "lcm": ("lcm", "lcm/beta", "humo_lcm", "rcm"),
    "deis": ("deis",),
    "res_multistep": ("res_multistep",),
    "er_sde": ("er_sde",),
    "adams_bashforth": ("sa_ode_stable", "sa_ode_stable/lowstep", "flowmatch_sa_ode_stable", "ode/+"),
    "vibt": ("vibt_unipc",),
}
"""What steps from one noise level to the next -> schedulers that step so (``docs/schedulers.md``)."""
SCHEDULERS: tuple[str, ...] = tuple(name for names in SAMPLERS.values() for name in names)


def scheduler_for(sampler: str, scheduler: str) -> str:
    """The scheduler that is chosen already, if it steps as ``sampler`` does, else the sampler's first one."""
    names = SAMPLERS.get(sampler, ("",))
    return scheduler if scheduler in names else names[0]


def sampler_of(scheduler: str | None) -> str:
    """How a scheduler steps; ``""``: as the model does by itself."""
    return next((name for name, names in SAMPLERS.items() if scheduler in names), "")
