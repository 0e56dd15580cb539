"""From what a request asks to the denoiser that does it."""

from __future__ import annotations

from infinite_talk.denoise.caches import easycache, magcache, teacache
from infinite_talk.denoise.caches.cache import OfAnswers, OfBlocks, SkipCount, StepCache
from infinite_talk.denoise.sampler import Sampler
from infinite_talk.models.dit import WanTransformer
from infinite_talk.request import EasyCache, MagCache, TeaCache
from infinite_talk.request import StepCache as Asked


def step_cache(
    transformer: WanTransformer, sampler: Sampler, asked: Asked, count: SkipCount | None = None
) -> StepCache:
    """The cache of one run. ``asked`` is of a resolved request; ``count`` hears what is skipped."""
    match asked:
        case TeaCache():
            policy = teacache.policy(transformer, sampler, asked)
            return StepCache(transformer, policy, OfBlocks(transformer), count)
        case MagCache():
            return StepCache(transformer, magcache.policy(sampler, asked), OfBlocks(transformer), count)
        case EasyCache():
            return StepCache(transformer, easycache.policy(sampler, asked), OfAnswers(transformer), count)
