"""The table of schedulers: for each name a grid, a solver, and their source. ``docs/schedulers.md`` is made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

import torch

from infinite_talk.denoise import steppers
from infinite_talk.denoise.schedules import grids
from infinite_talk.denoise.schedules.grids import Levels, Wish
from infinite_talk.denoise.steppers import Stepper, Walk
from infinite_talk.denoise.times import NOISE_TIME

Times = Literal["exact", "whole", "bridge"]
"""How a level becomes the time the model is asked at: 1000 s; its whole part; 1000 s - 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One scheduler."""

    grid: Callable[[Wish], Levels]
    solver: Callable[[Walk], Stepper]
    times: Times = "exact"
    twice: bool = False
    """Its grid is shifted twice, as the node pack has it, unless ``shift_once`` is chosen."""
    shifts: bool = True
    """Whether the shift has an effect."""
    closed: bool = False
    """Nothing but the shift has an effect, and that is told instead of refused."""
    fixed: bool = False
    """Its grid is what it is: own sigmas and enhance_hf have no place in it."""
    most: int = 1000
    """Most steps it can take."""
    exactly: int | None = None
    """The only number of steps it can take."""
    scales_noise: bool = False
    """A window starts from noise times the first level."""
    by_frame: bool = False
    """Latent frames that are known are asked at a time of their own (``frame_times.py``)."""
    grid_text: str
    update_text: str
    source: str


def euler(walk: Walk) -> Stepper:
    """Euler's solver over the levels of a walk; in float32, as the engine's own."""
    return steppers.Euler((torch.tensor(walk.sigmas, dtype=torch.float64) * NOISE_TIME).float())


_UNIPC = Entry(
    grid=grids.unipc,
    solver=steppers.UniPC,
    times="whole",
    twice=True,
    grid_text="linspace(S(0.999), 0, n + 1) without its end, S",
    update_text="UniPC bh2, order 2, predicts the picture, corrector from the second step on, last step of order 1",
    source="arXiv 2302.04867; Wan2.1",
)
_DPM = replace(
    _UNIPC,
    solver=steppers.DpmSolver,
    update_text="DPM-Solver++ 2M, midpoint; first and last step of order 1",
    source="arXiv 2211.01095; Wan2.1",
)
_SDE = replace(
    _UNIPC,
    solver=steppers.SdeDpmSolver,
    update_text="SDE-DPM-Solver++ 2M, midpoint, fresh noise in every step but the last",
    source="arXiv 2211.01095; Wan2.1",
)
_EULER = Entry(
    grid=grids.euler,
    solver=euler,
    twice=True,
    grid_text="linspace(S(1), S(0.001), n), S",
    update_text="Euler",
    source="diffusers FlowMatchEulerDiscreteScheduler",
)
_LCM = replace(
    _EULER,
    solver=steppers.Consistency,
    update_text="x' = (1 - s') picture + s' noise",
    source="arXiv 2310.04378",
)
_STABLE = Entry(
    grid=grids.stable,
    solver=steppers.StableAdams,
    grid_text="1 - i / n up to 10 steps, (1 + cos(pi i / n)) / 2 above, S",
    update_text="Adams-Bashforth of order 2; above 8 steps of order 2, 3, 2 by level (0.7, 0.15), and below 0.15 "
    "smoothed (0.8) and damped. The last step makes up what damping left; the node pack leaves it in the picture",
    source="ode-ComfyUI-WanVideoWrapper, flowmatch_sa_ode_stable.py",
)


def _with_beta(entry: Entry) -> Entry:
    return replace(
        entry,
        grid=lambda wish: grids.beta(entry.grid(wish)),
        grid_text=f"ends of: {entry.grid_text}; between them quantiles of Beta(0.6, 0.6)",
        source=f"{entry.source}; arXiv 2407.12173",
    )


ENTRIES: Mapping[str, Entry] = MappingProxyType({
    "unipc": _UNIPC,
    "unipc/beta": _with_beta(_UNIPC),
    "dpm++": _DPM,
    "dpm++/beta": _with_beta(_DPM),
    "dpm++_sde": _SDE,
    "dpm++_sde/beta": _with_beta(_SDE),
    "euler": _EULER,
    "euler/beta": _with_beta(_EULER),
    "longcat_distill_euler": Entry(
        grid=grids.longcat,
        solver=euler,
        fixed=True,
        most=50,
        grid_text="of 1, 0.98, ... 0.02 the entries floor(50 i / n), S",
        update_text="Euler",
        source="LongCat-Video",
    ),
    "deis": Entry(
        grid=grids.deis,
        solver=steppers.Deis,
        times="whole",
        grid_text="linspace(0.999, 0, n + 1) without its end, S",
        update_text="DEIS of order 2 in log rho; below 15 steps the last one of order 1",
        source="arXiv 2204.13902; diffusers DEISMultistepScheduler",
    ),
    "lcm": _LCM,
    "lcm/beta": _with_beta(_LCM),
    "res_multistep": Entry(
        grid=grids.res,
        solver=steppers.ResMultistep,
        grid_text="of linspace(1, 0.003 / 1.002, 1000) the entries round(1000 i / n), S",
        update_text="RES of order 2 with two steps; first and last step Euler",
        source="arXiv 2308.02157",
    ),
    "er_sde": Entry(
        grid=grids.res,
        solver=steppers.ErSde,
        grid_text="as res_multistep",
        update_text="ER-SDE-Solver-3, noise scale x (exp(x^0.3) + 10) over x = s / (1 - s), 200 points. The node pack "
        "puts x = s, with which the signal's share is wrong",
        source="arXiv 2309.06169",
    ),
    "flowmatch_causvid": Entry(
        grid=grids.causvid,
        solver=euler,
        shifts=False,
        fixed=True,
        most=9,
        grid_text="the first n of 0.999, 0.934, 0.862, 0.756, 0.603, 0.41, 0.25, 0.14, 0.074; 1.3B: 1, 0.75, 0.5, 0.25",
        update_text="Euler",
        source="CausVid (arXiv 2412.07772)",
    ),
    "flowmatch_distill": Entry(
        grid=grids.distill,
        solver=euler,
        fixed=True,
        exactly=4,
        grid_text="S of 0.999, 0.75, 0.5, 0.25",
        update_text="Euler",
        source="Self-Forcing (arXiv 2506.08009)",
    ),
    "flowmatch_pusa": Entry(
        grid=grids.pusa,
        solver=euler,
        by_frame=True,
        grid_text="linspace(denoise_strength, 0, n + 1) without its end, S",
        update_text="Euler; latent frames that are held clean (motion frames of InfiniteTalk, extra latents) are asked "
        "at the time 0, with a noise multiplier m at m times that of the others",
        source="Pusa (arXiv 2507.16116)",
    ),
    "multitalk": Entry(
        grid=grids.multitalk,
        solver=euler,
        exactly=4,
        closed=True,
        grid_text="linspace(1, 0.001, 4), S; steps, start, end, strength and sigmas have no effect",
        update_text="Euler",
        source="InfiniteTalk",
    ),
    "sa_ode_stable": _STABLE,
    "rcm": Entry(
        grid=grids.rcm,
        solver=steppers.Consistency,
        shifts=False,
        most=4,
        scales_noise=True,
        grid_text="sin a / (sin a + cos a) of the angles a = atan(120), 1.5, 1.4, 1, the first n",
        update_text="as lcm, which is rCM's update in the flow's terms; starts from noise times the first level",
        source="rCM (arXiv 2510.08431)",
    ),
    "vibt_unipc": Entry(
        grid=grids.vibt,
        solver=steppers.Bridge,
        times="bridge",
        grid_text="(floor(1000 g) + 1) / 1000 of the grid g of deis",
        update_text="x' = x - d v + sqrt(d s' / s) noise, d = s - s'",
        source="ViBT (arXiv 2511.23199)",
    ),
    "flowmatch_sa_ode_stable": _STABLE,
    "sa_ode_stable/lowstep": _STABLE,
    "ode/+": Entry(
        grid=grids.ode_plus,
        solver=steppers.AdamsBashforth,
        grid_text="1 - i / n, S; the last raised by 0.003 sin(pi (n - 1) / n), at most half-way to the one before",
        update_text="Adams-Bashforth of order 2",
        source="ode-ComfyUI-WanVideoWrapper, schedulers/__init__.py",
    ),
    "humo_lcm": replace(
        _LCM,
        solver=steppers.ContrastConsistency,
        update_text="as lcm, with the picture's distance from its mean times 0.95 (1 + 0.075 (1 - i / n))",
        source="ode-ComfyUI-WanVideoWrapper, humo_lcm_scheduler.py",
    ),
})  # fmt: skip

NAMES: tuple[str, ...] = tuple(ENTRIES)
"""All schedulers that can be chosen; the first 21 are the node pack's, in its order."""


@dataclass(frozen=True, slots=True)
class NotOffered:
    """A scheduler of the seed application that is known by name only."""

    why: str
    nearest: str


_WUXING = (
    "its source scales the whole latent to a norm of 20 on the way and then takes its mean away, so that no video "
    "comes of it"
)
NOT_OFFERED: Mapping[str, NotOffered] = MappingProxyType(
    {
        "flowmatch_lowstep_d": NotOffered("its algorithm was never published", "sa_ode_stable/lowstep"),
        "iching/wuxing": NotOffered(_WUXING, "sa_ode_stable"),
        "iching/wuxing-lowstep": NotOffered(_WUXING, "sa_ode_stable/lowstep"),
    }
    | {
        f"iching/wuxing-{kind}": NotOffered(_WUXING, "sa_ode_stable")
        for kind in ("strong", "stable", "smooth", "clean", "sharp")
    }
)
"""Known names that cannot be chosen, each with the nearest scheduler that can."""
