"""From what a request asks to the denoiser that does it."""

from __future__ import annotations

from collections.abc import Callable

import torch

from infinite_talk.denoise.caches import easycache, magcache, teacache
from infinite_talk.denoise.caches.cache import OfAnswers, OfBlocks, SkipCount, StepCache
from infinite_talk.denoise.denoiser import Plain
from infinite_talk.denoise.sampler import Sampler
from infinite_talk.request import EasyCache, MagCache, TeaCache
from infinite_talk.request import StepCache as Asked


def step_cache(
    plain: Plain,
    sampler: Sampler,
    asked: Asked,
    count: SkipCount | None = None,
    keep_on: torch.device | None = None,
) -> StepCache:
    """The cache of one run. ``asked`` is of a resolved request; ``count`` hears what is skipped."""
    return step_caches(plain, sampler, asked, count, keep_on)()


def step_caches(
    plain: Plain,
    sampler: Sampler,
    asked: Asked,
    count: SkipCount | None = None,
    keep_on: torch.device | None = None,
) -> Callable[[], StepCache]:
    """Caches around one transformer, each with a memory of its own; arguments as in ``step_cache``."""
    if isinstance(asked, EasyCache):
        changes = OfAnswers(plain)
        return lambda: StepCache(plain, easycache.policy(sampler, asked), changes, count, keep_on)
    match asked:
        case TeaCache():
            policy = teacache.policy(plain.transformer, sampler, asked)
        case MagCache():
            policy = magcache.policy(sampler, asked)
    return lambda: StepCache(plain, policy, OfBlocks(plain), count, keep_on)
