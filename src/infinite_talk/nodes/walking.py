"""``ModelWalker``: makes latents with one transformer, with all that the sampler's arguments put on its passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Protocol, Self, TypeVar

import torch

from infinite_talk.denoise.adapters import WindowExtras
from infinite_talk.denoise.caches import SkipCount, skip_note
from infinite_talk.denoise.compose import compose
from infinite_talk.denoise.denoiser import Denoiser, Plain, Question
from infinite_talk.denoise.extras import ExtrasSource, WithExtras, merged, sources_of
from infinite_talk.denoise.flow_edit import Side, drift_schedule, flow_edit
from infinite_talk.denoise.frame_times import TimesByFrame, factors_of
from infinite_talk.denoise.keeping import Keep
from infinite_talk.denoise.loop import OnStep, Walked
from infinite_talk.denoise.noise import carried_on, free_noise, noise_for, step_noise
from infinite_talk.denoise.sample import sample
from infinite_talk.denoise.sampler import Sampler
from infinite_talk.denoise.start import Start
from infinite_talk.denoise.steppers import StepNoise
from infinite_talk.errors import UsageError
from infinite_talk.memory import MemoryPlan, Work
from infinite_talk.models.dit import Extras, WanTransformer
from infinite_talk.nodes.attention import kernel_sources
from infinite_talk.nodes.embeds import Texts
from infinite_talk.nodes.handles import Vae, WanModel
from infinite_talk.request import StepCache
from infinite_talk.sampling import Sampling
from infinite_talk.types import Guide, Window

Made = TypeVar("Made")
_APART = 1_000_000
"""Between the numbers of the noise of a window's iterations: more windows than any video has."""


def _hear_nothing(_notes: Sequence[str]) -> None:
    pass


def _do_nothing() -> None:
    pass


class Adapter(Protocol):
    """Something that a run puts on the passes of each window."""

    @property
    def weights(self) -> int:
        """Bytes of its network's weights."""
        ...

    def before(self, latents: int) -> int:
        """Bytes that it takes for a moment before the steps of a window of ``latents`` latent frames."""
        ...

    def for_window(self, window: Window, guide: Guide, transformer: WanTransformer) -> WindowExtras:
        """What it puts on the passes of one window."""
        ...


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Asked:
    """All that the sampler's arguments say about how latents are made."""

    sampling: Sampling
    sampler: Sampler
    seed: int = 0
    cache: StepCache | None = None
    cache_on: torch.device | None = None
    """Where a step cache remembers; ``None``: where the model is."""
    chunked: bool = False
    """Feed-forward layers take a part of the tokens at a time."""
    source: Texts | None = None
    """With FlowEdit: the words of the video that is edited."""
    picture: torch.Tensor | None = None
    """A latent ``(16, 1, h, w)`` for stretches of a context that do not begin at 0."""
    adapters: tuple[Adapter, ...] = ()
    noise_state: torch.Tensor | None = None
    """Of a generator that the noise between the steps goes on from; ``None``: it follows from the seed."""

    def step_noise(self, window: int) -> StepNoise:
        """The noise between the steps of a window."""
        return step_noise(self.seed, window) if self.noise_state is None else carried_on(self.noise_state)


class ModelWalker:
    """Walks windows. A context manager: the transformer comes at the first window, and may rest in between."""

    def __init__(
        self,
        model: WanModel,
        vae: Vae | None,
        work: Work,
        asked: Asked,
        on_step: OnStep,
        *,
        tell: Callable[[Sequence[str]], None] = _hear_nothing,
        ready: Callable[[], None] = _do_nothing,
        nag: torch.Tensor | None = None,
        prompts: Sequence[torch.Tensor] = (),
    ) -> None:
        """
        Args:
            tell: hears what a step cache has left out, of the first window and where another differs.
            ready: called when the transformer has been brought, before the first step.
            nag: text ``(L, D)`` that NAG leads away from.
            prompts: several texts ``(L, D)`` for one window, each for its share of the frames; none where a window
                has one, its guide's.
        """
        self._model, self._vae, self._work, self._asked, self._on_step = model, vae, work, asked, on_step
        self._nag, self._prompts, self._tell, self._ready = nag, tuple(prompts), tell, ready
        self._skips, self._told = SkipCount(), ""
        self._held = ExitStack()
        self._transformer: WanTransformer | None = None
        self._denoisers: tuple[Denoiser, ...] = ()
        self._worn = Worn()
        self._times: TimesByFrame | None = None
        self._plan: MemoryPlan | None = None

    @property
    def steps(self) -> int:
        """Steps of a window."""
        return self._asked.sampler.steps

    @property
    def plan(self) -> MemoryPlan:
        """Where everything lives, and how much is worked on at a time; made when it is first needed.

        Raises:
            CapabilityError: it cannot fit.
        """
        if self._plan is None:
            self._plan = self._model.plan(self._work, self._vae)
        return self._plan

    def until_it_fits(self, make: Callable[[], Made]) -> Made:
        """What ``make`` makes; where the GPU's memory runs out, again on a plan that needs less, as the engine does.

        Raises:
            OutOfMemoryError: there is no lower plan.
        """
        while True:
            with self._model.short_of_memory() as short:
                return make()
            assert short, "else it has returned or raised"
            self._let_go()
            self._plan = self._model.lower(self.plan, self._work)
            self._tell([f"The memory ran out; the window is made once more with less: {self.plan.reason}."])

    def __call__(self, window: Window, guide: Guide, start: Start, keep: Keep) -> torch.Tensor:
        return self.walked(window, guide, start, keep).latent

    def walked(self, window: Window, guide: Guide, start: Start, keep: Keep) -> Walked:
        """The latent of a window, and the picture as the last step saw it."""
        asked, transformer = self._asked, self._at_hand()
        self._worn.put_on([one.for_window(window, guide, transformer) for one in asked.adapters])
        if self._times is not None:
            self._times.know(factors_of(keep, guide.reference.shape[1]))
        if asked.sampling.flow_edit is not None:
            walked = self._edited(window, guide, start, keep)
        else:
            walked = self._sampled(window, guide, start, keep)
        self._tell_of_skips()
        return walked

    def _tell_of_skips(self) -> None:
        count = self._skips.asked
        how = count, "steps" if count == self.steps else "passes"
        if (note := skip_note(self._asked.cache, self._skips.take(), *how)) not in ("", self._told):
            self._told = note
            self._tell([note])

    def _sampled(self, window: Window, guide: Guide, start: Start, keep: Keep) -> Walked:
        asked, shape = self._asked, guide.latent_shape
        return sample(
            self._denoisers[0],
            asked.sampler,
            guide,
            replace(start, noise=self._repeated(start.noise, window)),
            on_step=self._on_step,
            keep=keep,
            step_noise=asked.step_noise(window.index),
            fresh=lambda iteration: noise_for(asked.seed, window.index + iteration * _APART, shape),
        )

    def _edited(self, window: Window, guide: Guide, start: Start, keep: Keep) -> Walked:
        """FlowEdit instead of a walk."""
        asked, texts = self._asked, self._asked.source
        assert texts is not None and start.video is not None, "checked before"
        device = guide.text.device
        text = texts.prompts[min(window.index, len(texts.prompts) - 1)].to(device)
        source = replace(guide, text=text, negative=texts.negative.to(device))
        drift = replace(asked.sampling, schedule=drift_schedule(asked.sampling))
        draw = asked.step_noise(window.index)
        return flow_edit(
            Side(self._denoisers[1], source),
            Side(self._denoisers[0], guide),
            asked.sampler,
            start.video,
            lambda step: draw(step, guide.latent_shape),
            drift=Sampler.of_sampling(drift, self._model.width),
            on_step=self._on_step,
            keep=start.keeping(keep, asked.sampler, device),
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

    def _at_hand(self) -> WanTransformer:
        """The transformer, which is brought when it is not there, and the denoisers around it."""
        if self._transformer is None:
            transformer = self._held.enter_context(self._model.at_hand(self._work, self._vae, self.plan))
            if self._asked.chunked and transformer.rows_at_once is None:
                self._held.callback(setattr, transformer, "rows_at_once", None)
                transformer.rows_at_once = self._work.places // 4  # the tokens of a latent frame
            if self._asked.sampler.by_frame:
                self._times = TimesByFrame(transformer.embed_time)
            edited = self._asked.source
            sides = [self._prompts, *([] if edited is None else [self._source_prompts(edited)])]
            self._denoisers = tuple(self._around(transformer, prompts) for prompts in sides)
            self._transformer = transformer
            self._ready()
        return self._transformer

    def _source_prompts(self, source: Texts) -> Sequence[torch.Tensor]:
        """What is said of the video that is edited, as the target's prompts are given."""
        return source.prompts if self._prompts and len(source.prompts) > 1 else ()

    def _around(self, transformer: WanTransformer, prompts: Sequence[torch.Tensor]) -> Denoiser:
        asked, device = self._asked, transformer.patch_embedding.weight.device
        texts = tuple(text.to(device) for text in prompts)
        in_stretches = asked.sampling.context is not None
        sources = self._sources(transformer, () if in_stretches else texts)
        return compose(
            Plain(
                transformer,
                batched=asked.sampling.guidance.batched,
                positions=asked.sampling.positions,
            ),
            asked.sampler,
            cache=asked.cache,
            count=self._skips,
            keep_on=asked.cache_on,
            around=(lambda inner: WithExtras(inner, sources, self.steps)) if sources else None,
            prompts=texts if in_stretches else (),
            picture=asked.picture,
        )

    def _sources(
        self, transformer: WanTransformer, prompts: Sequence[torch.Tensor]
    ) -> tuple[ExtrasSource, ...]:
        device = transformer.patch_embedding.weight.device
        found = sources_of(
            self._asked.sampling,
            transformer,
            nag_text=None if self._nag is None else self._nag.to(device),
            prompts=prompts,
        )
        worn = (self._worn,) if self._asked.adapters else ()
        times = () if self._times is None else (self._times,)
        return (*found, *kernel_sources(self._model), *worn, *times)

    def rest(self) -> None:
        """Let the transformer go until it is needed again."""
        self._let_go()
        self._model.release()

    def _let_go(self) -> None:
        self._transformer, self._denoisers = None, ()
        self._worn.put_on(())
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._let_go()


class Worn:
    """What the adapters put on the passes of the current window; a source of extras."""

    def __init__(self) -> None:
        self._of_window: tuple[WindowExtras, ...] = ()
        self._parts: dict[tuple[int, ...], tuple[WindowExtras, ...]] = {}
        self._step = -1

    def put_on(self, of_window: Sequence[WindowExtras]) -> None:
        """From now on these."""
        self._of_window, self._parts = tuple(of_window), {}

    def extras(self, latent: torch.Tensor, question: Question, steps: int) -> Extras:
        """All of them together, for the latent frames that the question is about."""
        return merged(one.extras(latent, question, steps) for one in self._for(question))

    def forget(self) -> None:
        for one in self._of_window:
            one.forget()
        self._parts.clear()

    def _for(self, question: Question) -> tuple[WindowExtras, ...]:
        if question.frames is None:
            return self._of_window
        if question.step != self._step:  # stretches move from step to step
            self._step, self._parts = question.step, {}
        if question.frames not in self._parts:
            self._parts[question.frames] = tuple(one.at(question.frames) for one in self._of_window)
        return self._parts[question.frames]


def check_edit(sampling: Sampling) -> None:
    """Refuse what does not go with FlowEdit.

    Raises:
        UsageError: says what, and why.
    """
    if sampling.flow_edit is not None and sampling.free_init is not None:
        raise UsageError(
            "flowedit_args and freeinit_args do not go together: FlowEdit has no noise of its own to begin again from."
        )
