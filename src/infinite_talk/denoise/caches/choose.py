"""From what a request asks to the denoiser that does it."""

from __future__ import annotations

from infinite_talk.denoise.caches import easycache, magcache, teacache
from infinite_talk.denoise.caches.cache import OfAnswers, OfBlocks, SkipCount, StepCache
from infinite_talk.denoise.denoiser import Plain
from infinite_talk.denoise.sampler import Sampler
from infinite_talk.request import EasyCache, MagCache, TeaCache
from infinite_talk.request import StepCache as Asked


def step_cache(plain: Plain, sampler: Sampler, asked: Asked, count: SkipCount | None = None) -> StepCache:
    """The cache of one run. ``asked`` is of a resolved request; ``count`` hears what is skipped."""
    match asked:
        case TeaCache():
            policy = teacache.policy(plain.transformer, sampler, asked)
            return StepCache(plain, policy, OfBlocks(plain), count)
        case MagCache():
            return StepCache(plain, magcache.policy(sampler, asked), OfBlocks(plain), count)
        case EasyCache():
            return StepCache(plain, easycache.policy(sampler, asked), OfAnswers(plain), count)
