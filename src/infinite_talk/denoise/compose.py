"""The denoiser of a run, from the inside out: transformer, step cache, what is put on it, views, LoRA strengths."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from infinite_talk.denoise.caches import SkipCount, step_caches
from infinite_talk.denoise.denoiser import Denoiser, Plain
from infinite_talk.denoise.sampler import Sampler
from infinite_talk.denoise.strengths import WithStrengths, varying_strengths
from infinite_talk.denoise.views import OfViews, looks_elsewhere
from infinite_talk.errors import UsageError
from infinite_talk.request import StepCache
from infinite_talk.sampling import Sampling


def compose(
    plain: Plain,
    sampler: Sampler,
    *,
    cache: StepCache | None = None,
    count: SkipCount | None = None,
    keep_on: torch.device | None = None,
    around: Callable[[Denoiser], Denoiser] | None = None,
    prompts: Sequence[torch.Tensor] = (),
    picture: torch.Tensor | None = None,
) -> Denoiser:
    """All that stands between the loop and the transformer. One for each run; FlowEdit takes one for each side.

    Args:
        cache: leaves out steps; ``count`` hears which, ``keep_on`` is where it remembers.
        around: what else is put around each question, such as extras of the pass; it hears the latent frames.
        prompts: text features for the stretches of a context, see ``views.OfViews``.
        picture: a latent for stretches that do not begin at 0.

    Raises:
        UsageError: choices that contradict each other.
    """
    sampling = sampler.sampling or Sampling()
    _check(sampling, cache)
    caches = None if cache is None else step_caches(plain, sampler, cache, count, keep_on)

    def make() -> Denoiser:
        inner: Denoiser = plain if caches is None else caches()
        return inner if around is None else around(inner)

    denoiser: Denoiser
    if looks_elsewhere(sampling):
        denoiser = OfViews(make, sampling, sampler.steps, prompts=prompts, picture=picture)
    else:
        denoiser = make()
    strengths = varying_strengths(plain.transformer)
    return denoiser if strengths is None else WithStrengths(denoiser, strengths)


def _check(sampling: Sampling, cache: StepCache | None) -> None:
    if cache is not None and sampling.loop is not None and sampling.loop.shift_skip:
        raise UsageError(
            "loop_args shift the video at every step, so what a step cache remembers belongs to other frames. Leave "
            "cache_args away, or loop_args."
        )
