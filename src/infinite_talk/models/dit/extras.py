"""``Extras``: what is put on one pass of the transformer from outside. With none, the pass is what it always is.

All of it acts on the tokens between the operations of a block, so it is the same with every kernel. Tensors have the
batch of the pass, or a batch of one, which then holds for all its samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Tensor

from infinite_talk.ops.attention import AttentionCallable
from infinite_talk.sampling import NormalisedAttention

if TYPE_CHECKING:
    from infinite_talk.models.dit.condition import Condition, KeysValues

Grid = tuple[int, int, int]
"""Tokens in time, height and width."""


@runtime_checkable
class SelfKernel(Protocol):
    """Self-attention that may depend on where tokens are."""

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, rows: slice, grid: Grid) -> Tensor:
        """``q`` (B, heads, n, d) of the tokens ``rows`` of the ``grid``, ``k`` and ``v`` of all -> like ``q``."""
        ...

    @property
    def places(self) -> bool:
        """Whether it reads ``rows`` and ``grid``; if not, it can be given some of the keys alone."""
        ...


@dataclass(frozen=True, slots=True)
class Everywhere:
    """A plain kernel as ``SelfKernel``: all places are alike to it."""

    kernel: AttentionCallable
    places: bool = False

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, rows: slice, grid: Grid) -> Tensor:  # noqa: ARG002
        return self.kernel(q, k, v)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Nag:
    """Normalised attention guidance (Chen et al., 2025): away from a text inside the attention to the prompt."""

    text: Tensor  # (B, text_len, D), of ``WanTransformer.embed_text``
    numbers: NormalisedAttention


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PromptChunks:
    """The window's latent frames cut into shares, as even as whole frames can be, the first ones longer."""

    parts: int
    texts: tuple[Tensor, ...] = ()
    """A text for each share, ``(B, text_len, D)`` of ``WanTransformer.embed_text``; none: that of the condition."""
    apart: bool = False
    """Whether the tokens of a share attend to each other alone."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrameTimes:
    """Some latent frames are at another time than the pass (Pusa's vectorised timestep, arXiv 2507.16116)."""

    of_frame: tuple[int, ...]
    """For each latent frame the number of its time: 0 is that of the pass, n the n-th of ``others``."""
    others: tuple[tuple[Tensor, Tensor], ...]
    """Time embeddings, each as ``WanTransformer.embed_time`` gives it for one sample."""

    def spans(self, pixels: int) -> tuple[slice, ...]:
        """The tokens between which the time does not change, a frame having ``pixels`` of them."""
        count = len(self.of_frame)
        ends = [i for i in range(1, count) if self.of_frame[i] != self.of_frame[i - 1]]
        return tuple(slice(a * pixels, b * pixels) for a, b in pairwise((0, *ends, count)))

    def number_at(self, rows: slice, pixels: int) -> int:
        """The number of the time of the tokens ``rows``, which lie in one span."""
        return self.of_frame[int(rows.start) // pixels]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AddedAttention:
    """More for the tokens of each latent frame to attend to, beside text and picture, with the same queries.

    The answers are added to those of text and picture before the output layer (decoupled cross-attention,
    IP-Adapter; FantasyTalking, FantasyPortrait).
    """

    of_block: Callable[[int], KeysValues | None]
    """Keys and values of a block, ``(B * T, heads, L, d)``; ``None``: nothing is added there."""
    scale: float = 1.0
    mask: Tensor | None = None
    """``(B * T, L)`` bool: which keys there are; each frame has one at least. ``None``: all."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Extras:
    """What is put on one pass. Every field alone, or all together."""

    enhance: float | None = None
    """Weight of Enhance-A-Video (FETA), see ``techniques.py``."""
    skip: frozenset[int] = frozenset()
    """Blocks that are left out, with all that would be put on them (skip-layer guidance)."""
    nag: Nag | None = None
    speech_scale: float = 1.0
    """Factor of what the speech adds in each block."""
    tokens: Tensor | None = None
    """``(B, N, D)``: added to the tokens before the first block."""
    after: Callable[[int], Tensor | None] | None = None
    """What is added to the tokens after a block, ``(B, N, D)``."""
    heard: tuple[AddedAttention, ...] = ()
    attention: Mapping[int, SelfKernel] | None = None
    """Other kernels for the self-attention of some blocks."""
    chunks: PromptChunks | None = None
    times: FrameTimes | None = None

    def alike(self, other: Extras) -> bool:
        """Whether both do the same: the same objects, or equal numbers."""
        return all(_same(getattr(self, f.name), getattr(other, f.name)) for f in fields(self))

    def attends_like(self, other: Extras | None) -> bool:
        """Whether both leave the first block's self-attention with the same answer."""
        yours, names = other or Extras(), ("enhance", "tokens", "attention", "times")
        return (
            self._parts == yours._parts
            and (0 in self.skip) == (0 in yours.skip)
            and all(_same(getattr(self, name), getattr(yours, name)) for name in names)
        )

    def of_block(self, i: int) -> BlockExtras:
        """What block ``i`` has to know of it."""
        heard = tuple(
            Heard(keys_values, one.mask, one.scale)
            for one in self.heard
            if (keys_values := one.of_block(i)) is not None and one.scale
        )
        kernel = None if self.attention is None else self.attention.get(i)
        return BlockExtras(self.enhance, self.nag, self.speech_scale, heard, kernel, self.chunks, self.times)

    @property
    def _parts(self) -> int:
        """Into how many parts the self-attention is cut."""
        return self.chunks.parts if self.chunks is not None and self.chunks.apart else 1


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """``AddedAttention`` in one block."""

    keys_values: KeysValues
    mask: Tensor | None
    scale: float


@dataclass(frozen=True, slots=True, eq=False)
class BlockExtras:
    """``Extras`` in one block."""

    enhance: float | None
    nag: Nag | None
    speech_scale: float
    heard: tuple[Heard, ...]
    kernel: SelfKernel | None
    chunks: PromptChunks | None
    times: FrameTimes | None = None


def begin_alike(conditions: Sequence[Condition]) -> bool:
    """Whether passes with these conditions are the same up to the first block's cross-attention, and have one."""
    first = conditions[0].extras
    if first is None:
        return all(c.extras is None or c.extras.attends_like(None) for c in conditions)
    return 0 not in first.skip and all(first.attends_like(c.extras) for c in conditions)


def _same(one: object, other: object) -> bool:
    """Identity for tensors and what holds them; equality for all else."""
    if one is other:
        return True
    if isinstance(one, torch.Tensor) or isinstance(other, torch.Tensor):
        return False
    return one == other
