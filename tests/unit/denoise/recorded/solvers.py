"""Record what diffusers' solvers do: ``python -m tests.unit.denoise.recorded.solvers``, with diffusers 0.42 installed.

Each walks the field of ``velocity`` over the levels of a scheduler of ours; the latents after each step go into
``solvers.json``. Kept as numbers, because diffusers takes longer to import than all of these tests.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from infinite_talk.denoise.noise import step_noise
from infinite_talk.denoise.schedules import Schedule, schedule_of
from infinite_talk.sampling import ScheduleChoice

FILE = Path(__file__).with_name("solvers.json")
CHOICES = [
    ScheduleChoice(name=name, steps=steps, shift=3.0)
    for name in ("unipc", "unipc/beta", "dpm++", "dpm++_sde", "deis", "euler")
    for steps in (1, 2, 5)
] + [
    ScheduleChoice(name="deis", steps=16, shift=5.0),
    ScheduleChoice(name="unipc", steps=12, shift=5.0, end=7),
]
NOISE = step_noise(seed=7, window_index=2)


def start() -> torch.Tensor:
    return torch.linspace(-1.5, 1.5, 4, dtype=torch.float64)[None]  # diffusers wants a batch


def velocity(latent: torch.Tensor, sigma: float) -> torch.Tensor:
    return torch.tanh(1.3 * latent + sigma) * 1.7 - 0.3 * latent


def key(choice: ScheduleChoice) -> str:
    return f"{choice.name} {choice.steps} {choice.shift:g} {choice.end}"


def _theirs(schedule: Schedule) -> Any:
    from diffusers.schedulers import scheduling_deis_multistep as deis
    from diffusers.schedulers import scheduling_dpmsolver_multistep as dpm
    from diffusers.schedulers import scheduling_flow_match_euler_discrete as euler
    from diffusers.schedulers import scheduling_unipc_multistep as unipc

    flow = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "solver_order": 2}
    makers = {
        "unipc": lambda: unipc.UniPCMultistepScheduler(**flow, solver_type="bh2"),
        "unipc/beta": lambda: unipc.UniPCMultistepScheduler(**flow, solver_type="bh2"),
        "dpm++": lambda: dpm.DPMSolverMultistepScheduler(**flow, algorithm_type="dpmsolver++"),
        "dpm++_sde": lambda: dpm.DPMSolverMultistepScheduler(**flow, algorithm_type="sde-dpmsolver++"),
        "deis": lambda: deis.DEISMultistepScheduler(**flow),
        "euler": euler.FlowMatchEulerDiscreteScheduler,
    }
    scheduler = makers[schedule.name]()
    scheduler.set_timesteps(schedule.steps)
    scheduler.sigmas, scheduler.timesteps = schedule.sigmas.clone(), schedule.times.clone()
    if schedule.name == "deis":
        scheduler.sigmas[-1] = 1e-6  # as the node pack does, which keeps the logarithm finite
    return scheduler


def _walk(schedule: Schedule) -> list[list[float]]:
    scheduler, latent, found = _theirs(schedule), start(), []
    for step, time in enumerate(scheduler.timesteps):
        predicted = velocity(latent, float(schedule.sigmas[step]))
        more = {"variance_noise": NOISE(step, latent.shape).double()} if schedule.name == "dpm++_sde" else {}
        latent = scheduler.step(predicted, time, latent, **more).prev_sample
        found.append([round(value, 9) for value in latent[0].tolist()])
    return found


if __name__ == "__main__":
    FILE.write_text(json.dumps({key(choice): _walk(schedule_of(choice)) for choice in CHOICES}, indent=0))
