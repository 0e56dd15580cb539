"""The denoising of one window."""

from __future__ import annotations

from collections.abc import Callable

import torch

from infinite_talk.denoise.denoiser import Denoiser, Question, answers
from infinite_talk.denoise.sampler import Sampler
from infinite_talk.errors import NumericalError
from infinite_talk.ops.host import to_device
from infinite_talk.types import Guide


def _ignore(_step: int) -> None:
    pass


@torch.inference_mode()
def denoise(
    denoiser: Denoiser,
    sampler: Sampler,
    guide: Guide,
    noise: torch.Tensor,
    on_step: Callable[[int], None] = _ignore,
) -> torch.Tensor:
    """Walk ``noise`` ``(16, T, h, w)`` to the latent of the window that ``guide`` describes.

    The latents of the motion frames are known, so they are written over the result of every step
    (InfiniteTalk reference). ``on_step`` hears the number of each finished step, and may raise to stop in the
    middle.

    Raises:
        NumericalError: the result is not finite. Looked at once, at the end: NaN and infinity never heal, and
            asking the device after each step would make it wait.
    """
    guidance, stepper = sampler.guidance(), sampler.stepper()
    conditions = {branch: denoiser.condition(guide, branch) for branch in guidance.branches}
    times = sampler.times_on(guide.motion.device)
    latent = _hold(to_device(noise.float(), guide.motion.device), guide.motion)
    for step in range(sampler.steps):
        questions = [Question(step, times[step], branch, conditions[branch]) for branch in guidance.branches]
        velocity = guidance.combine(answers(denoiser, latent, questions))
        latent = _hold(stepper.step(latent, velocity, step), guide.motion)
        on_step(step)
    if not bool(torch.isfinite(latent).all()):
        raise NumericalError(
            "The model produced NaN or infinite values in this window. Use a higher precision (bf16 or "
            "fp32), less guidance, or check the model's files."
        )
    return latent


def _hold(latent: torch.Tensor, motion: torch.Tensor) -> torch.Tensor:
    """``latent`` with its first frames replaced by the known ones."""
    return torch.cat([motion, latent[:, motion.shape[1] :]], dim=1)
