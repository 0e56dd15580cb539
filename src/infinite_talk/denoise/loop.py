"""The denoising of one window."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from infinite_talk.denoise.denoiser import Denoiser, Question, answers
from infinite_talk.denoise.keeping import Keep, Motion
from infinite_talk.denoise.sampler import Sampler
from infinite_talk.denoise.steppers import StepNoise
from infinite_talk.errors import NumericalError
from infinite_talk.ops.host import to_device
from infinite_talk.types import Guide

OnStep = Callable[[int], None]


def ignore(_step: int) -> None:
    """A listener that does not listen."""


@dataclass(frozen=True, slots=True, eq=False)
class Walked:
    """Where a walk has ended."""

    latent: torch.Tensor
    """``(16, T, h, w)``; still noisy where the schedule was stopped early."""
    estimate: torch.Tensor
    """The picture as the last step saw it: the latent before it without the noise, ``x - sigma v``."""


def denoise(
    denoiser: Denoiser,
    sampler: Sampler,
    guide: Guide,
    noise: torch.Tensor,
    on_step: OnStep = ignore,
    keep: Keep | None = None,
) -> torch.Tensor:
    """As ``walk``; the latent alone."""
    return walk(denoiser, sampler, guide, noise, on_step, keep).latent


@torch.inference_mode()
def walk(
    denoiser: Denoiser,
    sampler: Sampler,
    guide: Guide,
    start: torch.Tensor,
    on_step: OnStep = ignore,
    keep: Keep | None = None,
    step_noise: StepNoise | None = None,
) -> Walked:
    """Walk ``start`` ``(16, T, h, w)`` to the latent of the window that ``guide`` describes.

    The latents of the motion frames are known, so they are written over the result of every step
    (InfiniteTalk reference).

    Args:
        start: noise, or what ``start.py`` makes of a video.
        on_step: hears the number of each finished step, and may raise to stop in the middle.
        keep: what else is known of the latent, see ``keeping.py``; ``None``: the guide's motion frames alone.
        step_noise: for solvers that add noise between the steps.

    Raises:
        NumericalError: the result is not finite. Looked at once, at the end: NaN and infinity never heal, and
            asking the device after each step would make it wait.
    """
    device = guide.motion.device
    guidance, stepper = sampler.guidance(), sampler.stepper(step_noise)
    kept = Motion(guide.motion) if keep is None else keep
    conditions = {branch: denoiser.condition(guide, branch) for branch in guidance.branches}
    times, sigmas = sampler.times_on(device), sampler.sigmas
    latent = kept(to_device(start.float(), device), -1, sigmas[0])
    shown, velocity = latent, torch.zeros_like(latent)
    for step in range(sampler.steps):
        rule, shown = guidance.at(step), latent
        questions = [Question(step, times[step], branch, conditions[branch]) for branch in rule.branches]
        if questions:
            velocity = sampler.corrected(rule.combine(answers(denoiser, shown, questions)), shown, step)
        else:
            velocity = torch.zeros_like(shown)
        latent = kept(stepper.step(shown, velocity, step), step, sigmas[step + 1])
        on_step(step)
    if not bool(torch.isfinite(latent).all()):
        raise NumericalError(
            "The model produced NaN or infinite values in this window. Use a higher precision (bf16 or "
            "fp32), less guidance, or check the model's files."
        )
    return Walked(latent, shown - sigmas[sampler.steps - 1] * velocity)
