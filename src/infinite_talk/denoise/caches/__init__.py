"""Step caches: wrappers around the denoiser that skip work when consecutive steps would answer alike."""

from infinite_talk.denoise.caches.cache import SkipCount, StepCache
from infinite_talk.denoise.caches.choose import step_cache, step_caches
from infinite_talk.denoise.caches.report import remembered_streams, skip_note

__all__ = ["SkipCount", "StepCache", "remembered_streams", "skip_note", "step_cache", "step_caches"]
