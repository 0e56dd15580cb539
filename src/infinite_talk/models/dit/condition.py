"""``Condition``: what a transformer computes once per window because no denoising step changes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from infinite_talk.ops.rope import Rotation


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

    @property
    def batch(self) -> int:
        return self.reference.shape[0]


def concatenate(conditions: Sequence[Condition]) -> Condition:
    """One batch of several conditions of the same grid and number of people, in order."""
    first = conditions[0]
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
    )


def _joined(contexts: Sequence[Context]) -> Context:
    return Context(
        text=torch.cat([c.text for c in contexts]),
        image=torch.cat([c.image for c in contexts]),
        speech=torch.cat([c.speech for c in contexts]),
        voices=contexts[0].voices,
    )
