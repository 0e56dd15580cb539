"""One window as a ``Sampling`` asks for it: the start, the walk, and the walk again (FreeInit)."""

from __future__ import annotations

from collections.abc import Callable

import torch

from infinite_talk.denoise.denoiser import Denoiser
from infinite_talk.denoise.free_init import again
from infinite_talk.denoise.keeping import Keep, Motion
from infinite_talk.denoise.loop import OnStep, Walked, ignore, walk
from infinite_talk.denoise.sampler import Sampler
from infinite_talk.denoise.start import Start
from infinite_talk.denoise.steppers import StepNoise
from infinite_talk.errors import UsageError
from infinite_talk.sampling import FreeInit, Sampling
from infinite_talk.types import Guide

Fresh = Callable[[int], torch.Tensor]
"""Noise of a window's shape for an iteration of FreeInit, from 1."""


def sample(
    denoiser: Denoiser,
    sampler: Sampler,
    guide: Guide,
    start: Start,
    *,
    on_step: OnStep = ignore,
    keep: Keep | None = None,
    step_noise: StepNoise | None = None,
    fresh: Fresh | None = None,
) -> Walked:
    """Walk one window from its start, as often as FreeInit wants; ``on_step`` then counts on.

    Args:
        keep: see ``loop.walk``; what a mask of ``start`` leaves alone is added.
        fresh: has to be there for FreeInit.
    """
    device = guide.motion.device
    kept = start.keeping(Motion(guide.motion) if keep is None else keep, sampler, device)
    free = None if sampler.sampling is None else sampler.sampling.free_init
    if free is None:
        return walk(denoiser, sampler, guide, start.latent(sampler), on_step, kept, step_noise)
    assert fresh is not None, "FreeInit needs noise for its iterations"
    walked: list[Walked] = []

    def once(latent: torch.Tensor, iteration: int) -> torch.Tensor:
        def told(step: int) -> None:
            on_step(iteration * sampler.steps + step)

        walked[:] = [walk(denoiser, sampler, guide, latent, told, kept, step_noise)]
        # A walk that ends early leaves noise: what it comes to is the picture as its last step saw it.
        return walked[0].estimate if sampler.sigmas[-1] > 0 else walked[0].latent

    again(once, start.latent(sampler), start.noise.float(), fresh, free, sigma=sampler.sigmas[0])
    return walked[0]


def iterations(sampling: Sampling) -> int:
    """How often a window is walked."""
    return (sampling.free_init or FreeInit(iterations=1)).iterations


def check_for_windows(sampling: Sampling, *, windows: int, latents: int, samples: bool) -> None:
    """Refuse what has no meaning in a video of several windows, or in one whose latent this window is.

    Raises:
        UsageError: says which, and why.
    """
    context = sampling.context
    if context is not None and context.frames >= latents:
        raise UsageError(
            f"context_options asks in stretches of {context.frames} latent frames, and a window of the MultiTalk loop "
            f"has {latents}. The loop already makes long videos from windows; choose context_frames smaller than "
            f"frame_window_size, or leave context_options away."
        )
    if sampling.loop is not None and windows > 1:
        raise UsageError(
            f"loop_args joins the end of a video to its beginning, and this one is made in {windows} windows, each of "
            f"which would return to its own beginning. Choose frame_window_size at least as long as the speech, or "
            f"leave loop_args away."
        )
    if sampling.flow_edit is not None and not samples:
        raise UsageError(
            "flowedit_args edits a video, and there is none. Encode it with WanVideoEncode and connect it to samples."
        )
