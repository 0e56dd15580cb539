"""``Condition``: what a transformer computes once per window because no denoising step changes it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar, cast

import torch
from torch import Tensor

from infinite_talk.ops.rope import Rotation

if TYPE_CHECKING:
    from infinite_talk.models.dit.extras import Extras

T = TypeVar("T")


class KeysValues(NamedTuple):
    """Keys and values of one attention, each ``(B, heads, L, d)``."""

    k: Tensor
    v: Tensor


@dataclass(frozen=True, slots=True)
class BlockCondition:
    """What one block attends to. The speech keys hold one row per sample and latent frame."""

    text: KeysValues  # (B, heads, text_len, d)
    image: KeysValues  # (B, heads, clip_tokens, d)
    speech: KeysValues  # (B * T, heads, P * context_tokens, d)


@dataclass(frozen=True, slots=True)
class Context:
    """What the keys and values of all blocks are made from: some megabytes where those are a gigabyte."""

    text: Tensor  # (B, text_len, D)
    image: Tensor  # (B, clip_tokens, D)
    speech: Tensor  # (B, T, P * context_tokens, output_dim)
    voices: Rotation | None  # of the speech keys; one person needs none


@dataclass(frozen=True, slots=True)
class Condition:
    """Everything constant over the denoising steps of a window, for a batch of B samples.

    Either the keys and values of all blocks are kept, or what they are made from (``context``).
    """

    blocks: tuple[BlockCondition, ...]  # none with a context
    context: Context | None
    reference: Tensor
    """(B, N, D): the reference picture's share of the patch embedding, bias included; with a context the
    reference itself, (B, in_dim - out_dim, T, h, w)."""
    rotation: Rotation  # (N, d / 2): positions of the tokens
    classes: (
        Tensor | None
    )  # (B, S, P + 1): weights of first-frame tokens in the class maps; None for one person
    grid: tuple[int, int, int]  # tokens in time, height, width
    people: int
    extras: Extras | None = None
    """What is put on the passes with this condition, which may differ from step to step."""

    @property
    def batch(self) -> int:
        return self.reference.shape[0]


class ConditionCache:
    """Parts of conditions that branches, windows and steps of one run share: what is made from the same memory
    is made once.

    One for each run, and for one transformer. It holds on to what a part was made from, so that an address
    means the same numbers for as long as it is known; ``keep_only`` bounds it to what one window needs. Nobody
    may write to the sources meanwhile. Whoever changes the transformer's weights has to ``forget``.
    """

    def __init__(self) -> None:
        self._made: dict[Hashable, tuple[tuple[Tensor, ...], object]] = {}

    def __len__(self) -> int:
        return len(self._made)

    def has(self, part: Hashable, *sources: Tensor) -> bool:
        """Whether ``part`` of these ``sources`` is known."""
        return (part, *map(_place, sources)) in self._made

    def once(self, part: Hashable, make: Callable[[], T], *sources: Tensor) -> T:
        """What ``make`` makes from ``sources`` for ``part``, the name of which says all else it depends on."""
        key = (part, *map(_place, sources))
        if key not in self._made:
            self._made[key] = sources, make()
        return cast("T", self._made[key][1])

    def keep_only(self, sources: Iterable[Tensor]) -> None:
        """Let go of all that was made from other memory than that of ``sources``; parts of nothing stay."""
        known = {_storage(source) for source in sources}
        self._made = {
            key: made for key, made in self._made.items() if known.issuperset(map(_storage, made[0]))
        }

    def forget(self) -> None:
        """Let go of everything."""
        self._made.clear()


def once(shared: ConditionCache | None, part: Hashable, make: Callable[[], T], *sources: Tensor) -> T:
    """``shared.once``; made anew where nothing is shared."""
    return make() if shared is None else shared.once(part, make, *sources)


def _place(source: Tensor) -> Hashable:
    """Where a living tensor's numbers are, and how they are read: the same for two views that are alike."""
    return source.data_ptr(), tuple(source.shape), source.stride(), source.dtype, source.device


def _storage(source: Tensor) -> int:
    return source.untyped_storage().data_ptr()


def concatenate(conditions: Sequence[Condition]) -> Condition:
    """One batch of several conditions of the same grid, number of people and extras, in order."""
    first = conditions[0]
    if any(c.extras is not first.extras for c in conditions):
        raise ValueError("conditions with different extras cannot share a batch")
    contexts = [c.context for c in conditions if c.context is not None]
    if len(contexts) not in (0, len(conditions)):
        raise ValueError("conditions with and without kept keys and values cannot share a batch")
    if any((c.grid, c.people) != (first.grid, first.people) for c in conditions):
        raise ValueError("conditions of different grids or numbers of people cannot share a batch")

    def joined(pairs: Sequence[KeysValues]) -> KeysValues:
        return KeysValues(torch.cat([p.k for p in pairs]), torch.cat([p.v for p in pairs]))

    blocks = tuple(
        BlockCondition(
            text=joined([own.text for own in row]),
            image=joined([own.image for own in row]),
            speech=joined([own.speech for own in row]),
        )
        for row in zip(*(c.blocks for c in conditions), strict=True)
    )
    classes = [c.classes for c in conditions if c.classes is not None]
    return Condition(
        blocks=blocks,
        context=_joined(contexts) if contexts else None,
        reference=torch.cat([c.reference for c in conditions]),
        rotation=first.rotation,
        classes=torch.cat(classes) if classes else None,
        grid=first.grid,
        people=first.people,
        extras=first.extras,
    )


def _joined(contexts: Sequence[Context]) -> Context:
    return Context(
        text=torch.cat([c.text for c in contexts]),
        image=torch.cat([c.image for c in contexts]),
        speech=torch.cat([c.speech for c in contexts]),
        voices=contexts[0].voices,
    )
