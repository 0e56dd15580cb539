"""Solvers on the GPU: the same walk as on the CPU, and no step that waits."""

from __future__ import annotations

import pytest
import torch

from infinite_talk.denoise.noise import step_noise
from infinite_talk.denoise.schedules import NAMES, schedule_of
from infinite_talk.denoise.schedules.entries import ENTRIES
from infinite_talk.sampling import ScheduleChoice
from tests.gpu.test_no_waiting import forbidden_to_wait

pytestmark = pytest.mark.gpu


def walked(name: str, device: str) -> torch.Tensor:
    schedule = schedule_of(ScheduleChoice(name=name, steps=ENTRIES[name].exactly or 4, shift=3.0))
    stepper = schedule.solver(step_noise(1, 2))
    latent = torch.linspace(-2, 2, 16 * 3 * 4 * 4).reshape(16, 3, 4, 4).to(device)
    with forbidden_to_wait():
        for step in range(schedule.steps):
            latent = stepper.step(latent, torch.tanh(1.3 * latent) - 0.3 * latent, step)
    return latent.cpu()


@pytest.mark.parametrize("name", NAMES)
def test_the_walk_is_that_of_the_cpu(name: str) -> None:
    torch.testing.assert_close(walked(name, "cuda"), walked(name, "cpu"), atol=1e-4, rtol=1e-4)
