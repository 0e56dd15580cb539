"""``ModelWalker``: makes latents with one transformer, with all that the sampler's arguments put on its passes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Self

import torch

from infinite_talk.denoise.caches import SkipCount, step_cache
from infinite_talk.denoise.denoiser import Denoiser, Plain
from infinite_talk.denoise.extras import ExtrasSource, WithExtras, sources_of
from infinite_talk.denoise.keeping import Keep
from infinite_talk.denoise.loop import OnStep, Walked
from infinite_talk.denoise.noise import free_noise, noise_for, step_noise
from infinite_talk.denoise.sample import iterations, sample
from infinite_talk.denoise.sampler import Sampler
from infinite_talk.denoise.start import Start
from infinite_talk.denoise.strengths import WithStrengths, varying_strengths
from infinite_talk.denoise.views import OfViews, looks_elsewhere
from infinite_talk.memory import Work
from infinite_talk.models.dit import WanTransformer
from infinite_talk.nodes.embeds import Texts
from infinite_talk.nodes.handles import Vae, WanModel
from infinite_talk.request import StepCache
from infinite_talk.sampling import Sampling
from infinite_talk.types import Guide, Window

_APART = 1_000_000
"""Between the numbers of the noise of a window's iterations: more windows than any video has."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Asked:
    """All that the sampler's arguments say about how latents are made."""

    sampling: Sampling
    sampler: Sampler
    cache: StepCache | None = None
    chunked: bool = False
    """Feed-forward layers take a part of the tokens at a time."""
    seed: int = 0


class ModelWalker:
    """Walks windows. A context manager: the transformer comes at the first window, and may rest in between."""

    def __init__(
        self,
        model: WanModel,
        vae: Vae | None,
        work: Work,
        asked: Asked,
        texts: Texts,
        on_step: OnStep,
    ) -> None:
        self._model, self._vae, self._work, self._asked, self._texts = model, vae, work, asked, texts
        self._on_step, self.skips = on_step, SkipCount()
        self._held = ExitStack()
        self._denoiser: Denoiser | None = None

    @property
    def steps(self) -> int:
        """Steps of a window."""
        return self._asked.sampler.steps

    @property
    def rounds(self) -> int:
        """How often a window is walked."""
        return iterations(self._asked.sampling)

    def __call__(self, window: Window, guide: Guide, start: Start, keep: Keep) -> torch.Tensor:
        return self.walked(window, guide, start, keep).latent

    def walked(self, window: Window, guide: Guide, start: Start, keep: Keep) -> Walked:
        """The latent of a window, and the picture as the last step saw it."""
        asked, shape = self._asked, guide.latent_shape
        return sample(
            self._at_hand(),
            asked.sampler,
            guide,
            replace(start, noise=self._repeated(start.noise, window)),
            on_step=self._on_step,
            keep=keep,
            step_noise=step_noise(asked.seed, window.index),
            fresh=lambda iteration: noise_for(asked.seed, window.index + iteration * _APART, shape),
        )

    def _repeated(self, noise: torch.Tensor, window: Window) -> torch.Tensor:
        """The noise of a window that is asked in stretches."""
        context = self._asked.sampling.context
        if context is None or not context.free_noise:
            return noise
        return free_noise(
            noise,
            frames=context.frames,
            overlap=context.overlap,
            seed=self._asked.seed,
            window_index=window.index,
        )

    def _at_hand(self) -> Denoiser:
        """The denoiser around the transformer, which is brought when it is not there."""
        if self._denoiser is None:
            transformer = self._held.enter_context(self._model.at_hand(self._work, self._vae))
            if self._asked.chunked and transformer.rows_at_once is None:
                self._held.callback(setattr, transformer, "rows_at_once", None)
                transformer.rows_at_once = self._rows()
            self._denoiser = self._around(transformer)
        return self._denoiser

    def _rows(self) -> int:
        """Tokens of a latent frame."""
        height, width = self._work.size.latent
        return height * width // 4

    def _around(self, transformer: WanTransformer) -> Denoiser:
        """All that stands around the transformer, from the inside out."""
        sampling = self._asked.sampling
        make = partial(self._inner, transformer, self._sources(transformer))
        denoiser = OfViews(make, sampling, self.steps) if looks_elsewhere(sampling) else make()
        strengths = varying_strengths(transformer)
        return denoiser if strengths is None else WithStrengths(denoiser, strengths)

    def _inner(self, transformer: WanTransformer, sources: Sequence[ExtrasSource]) -> Denoiser:
        asked, sampling = self._asked, self._asked.sampling
        plain = Plain(transformer, batched=sampling.guidance.batched, positions=sampling.positions)
        denoiser: Denoiser = plain
        if asked.cache is not None:
            denoiser = step_cache(plain, asked.sampler, asked.cache, self.skips)
        return WithExtras(denoiser, sources, self.steps) if sources else denoiser

    def _sources(self, transformer: WanTransformer) -> tuple[ExtrasSource, ...]:
        nag = self._texts.nag
        return sources_of(
            self._asked.sampling,
            transformer,
            nag_text=None if nag is None else nag.to(transformer.patch_embedding.weight.device),
        )

    def rest(self) -> None:
        """Let the transformer go until it is needed again."""
        self._denoiser = None
        self._held.close()
        self._model.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._denoiser = None
        self._held.close()
