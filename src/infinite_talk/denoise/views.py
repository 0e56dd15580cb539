"""``OfViews``: a denoiser that asks about a window in other ways than all at once and from its beginning.

A view is a choice of latent frames in some order. Context windows ask in overlapping stretches; a Mobius loop begins
at another frame at each step; asked both ways (WanFM), time runs backwards too. The answers are put back in their
places and averaged, weighted. (The node pack averages what two solvers make of the answers of the two ways, which is
the same for all solvers that add no noise.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from infinite_talk.denoise.context import prompt_of, stretches, weights
from infinite_talk.denoise.denoiser import Denoiser, Question, answers
from infinite_talk.denoise.guidance import Branch
from infinite_talk.models.dit import Condition
from infinite_talk.ops.host import to_device
from infinite_talk.sampling import MobiusLoop, Sampling
from infinite_talk.types import TEMPORAL_STRIDE, Guide


@dataclass(frozen=True, slots=True)
class View:
    """One way to look at a window."""

    places: tuple[int, ...]
    """Where its latents stand, as the model sees the video: 0 is the beginning."""
    frames: tuple[int, ...]
    """Which latent frames they are; the same, unless a loop begins elsewhere."""
    weights: tuple[float, ...]
    backwards: bool = False
    """Its frames are in the order of falling time."""


def looks_elsewhere(sampling: Sampling) -> bool:
    """Whether a window is asked in another way than all at once and from its beginning."""
    return sampling.context is not None or sampling.loop is not None or sampling.bidirectional


def views(sampling: Sampling, step: int, steps: int, latents: int) -> list[View]:
    """The views of one step of a window of ``latents`` latent frames; together they cover all."""
    shift = 0 if sampling.loop is None else shift_of(sampling.loop, step, steps, latents)
    context = sampling.context
    ways = [tuple(range(latents))] if context is None else stretches(context, step, latents)
    found = []
    for places in ways:
        weight = (1.0,) * latents if context is None else weights(context, places, latents)
        frames = tuple((place + shift) % latents for place in places)
        found.append(View(places, frames, weight))
        if sampling.bidirectional:
            found.append(View(places[::-1], frames[::-1], weight[::-1], backwards=True))
    return found


def shift_of(loop: MobiusLoop, step: int, steps: int, latents: int) -> int:
    """The latent frame that a loop begins with at a step: ``shift_skip`` further after each step of its share."""
    if not loop.share.holds(step, steps):
        return 0
    before = sum(loop.share.holds(earlier, steps) for earlier in range(step))
    return before * loop.shift_skip % latents


def guide_of(
    guide: Guide, view: View, *, text: torch.Tensor | None = None, picture: torch.Tensor | None = None
) -> Guide:
    """What a view has to obey: the frames of its speech, and the picture at its beginning.

    The picture comes first also in stretches that begin later, as the model has learned it; it stands at a place of
    the video, so a loop that begins elsewhere does not take it along. Backwards all of it is turned around. The
    positions of the tokens are not: attention knows only differences of positions, so frames and positions both
    turned around would be no change at all.

    Args:
        text: another prompt.
        picture: a latent ``(16, 1, h, w)`` for stretches that do not begin at 0, instead of the guide's picture.
    """
    places = view.places[::-1] if view.backwards else view.places
    reference = guide.reference[:, places]
    if places[0] != 0:
        first = guide.reference[:, :1]
        if picture is not None:
            mask = first[: first.shape[0] - picture.shape[0]]
            first = torch.cat([mask, picture.to(first)])
        reference = torch.cat([first, reference[:, 1:]], dim=1)
    return replace(
        guide,
        text=guide.text if text is None else text,
        reference=reference.flip(1) if view.backwards else reference,
        speech=_heard(guide.speech, view),
    )


def _heard(speech: torch.Tensor, view: View) -> torch.Tensor:
    """The speech ``(P, F, 5, K, D)`` of a view's frames: one video frame for its first latent, then four for each."""
    count = TEMPORAL_STRIDE
    numbers = [count * view.frames[0]]
    for frame in view.frames[1:]:
        group = range(count * (frame - 1) + 1, count * frame + 1)
        numbers += [max(0, number) for number in (reversed(group) if view.backwards else group)]
    heard = speech[:, numbers]
    return heard.flip(2) if view.backwards else heard  # the neighbourhood of each frame too


class OfViews:
    """Asks one denoiser for each view. One for each run; what a view keeps lasts while step after step asks it."""

    def __init__(
        self,
        make: Callable[[], Denoiser],
        sampling: Sampling,
        steps: int,
        *,
        prompts: Sequence[torch.Tensor] = (),
        picture: torch.Tensor | None = None,
    ) -> None:
        """Args:
        make: a denoiser around the transformer; a step cache has a memory of its own for each view.
        steps: of a window.
        prompts: text features for stretches of the window, spread evenly; none: the guide's.
        picture: see ``guide_of``.
        """
        self._make, self._sampling, self._steps = make, sampling, steps
        self._prompts, self._picture = tuple(prompts), picture
        self._guides: dict[Branch, Guide] = {}
        self._placed: dict[View, tuple[torch.Tensor, torch.Tensor]] = {}
        self._inner: dict[View, Denoiser] = {}
        self._conditions: dict[tuple[View, Branch], Condition] = {}

    def condition(self, guide: Guide, branch: Branch) -> Condition:
        """That of the first view; those of the others are made when they are asked."""
        self._guides[branch] = guide
        self._prompts = tuple(text.to(guide.text.device) for text in self._prompts)
        self._conditions = {key: made for key, made in self._conditions.items() if key[1] is not branch}
        first = views(self._sampling, 0, self._steps, guide.reference.shape[1])[0]
        return self._condition(first, branch)

    def velocity(self, latent: torch.Tensor, question: Question) -> torch.Tensor:
        return self.velocities(latent, [question])[question.branch]

    def velocities(
        self, latent: torch.Tensor, questions: Sequence[Question]
    ) -> Mapping[Branch, torch.Tensor]:
        asked = views(self._sampling, questions[0].step, self._steps, latent.shape[1])
        self._keep_only(asked)
        sums = {question.branch: torch.zeros_like(latent) for question in questions}
        shares = torch.zeros(latent.shape[1])
        for view in asked:
            shares.index_add_(0, torch.tensor(view.frames), torch.tensor(view.weights))
            places, weight = self._place(view, latent.device)
            own = [
                replace(question, condition=self._condition(view, question.branch), frames=view.frames)
                for question in questions
            ]
            found = answers(self._denoiser(view), latent[:, places], own)
            for branch, velocity in found.items():
                sums[branch].index_add_(1, places, velocity * weight)
        whole = to_device(shares, latent.device)[:, None, None]
        return {branch: total / whole for branch, total in sums.items()}

    def forget(self) -> None:
        self._conditions.clear()
        for denoiser in self._inner.values():
            denoiser.forget()

    def _place(self, view: View, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Where a view's frames are, and their weights ``(n, 1, 1)``, on the device."""
        if view not in self._placed:
            weights = torch.tensor(view.weights)[:, None, None]
            self._placed[view] = to_device(torch.tensor(view.frames), device), to_device(weights, device)
        return self._placed[view]

    def _denoiser(self, view: View) -> Denoiser:
        if view not in self._inner:
            self._inner[view] = self._make()
        return self._inner[view]

    def _condition(self, view: View, branch: Branch) -> Condition:
        if (view, branch) not in self._conditions:
            guide, text = self._guides[branch], None
            if self._prompts:
                text = self._prompts[prompt_of(view.frames, guide.reference.shape[1], len(self._prompts))]
            own = guide_of(guide, view, text=text, picture=self._picture)
            self._conditions[view, branch] = self._denoiser(view).condition(own, branch)
        return self._conditions[view, branch]

    def _keep_only(self, asked: Sequence[View]) -> None:
        """Let go of views that this step does not ask: what they remember would be too old at their next turn."""
        kept = set(asked)
        self._placed = {view: placed for view, placed in self._placed.items() if view in kept}
        self._inner = {view: inner for view, inner in self._inner.items() if view in kept}
        self._conditions = {key: made for key, made in self._conditions.items() if key[0] in kept}
