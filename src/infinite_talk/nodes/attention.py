"""The attention that nodes put on a model: patterns, and other kernels in some steps and blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from infinite_talk.denoise.extras import ExtrasSource, OtherKernels
from infinite_talk.errors import UsageError
from infinite_talk.nodes.handles import AttentionOverride, WanModel, say
from infinite_talk.ops.attention import AttentionCallable, resolve
from infinite_talk.ops.attention.radial import RadialAttention
from infinite_talk.ops.attention.ultravico import UltraViCo
from infinite_talk.settings import Attention


@dataclass(frozen=True, slots=True, kw_only=True)
class Radial:
    """Radial attention, dense in the first steps and in some blocks (WanVideoSetRadialAttention)."""

    dense: Attention = Attention.SAGEATTN
    dense_blocks: tuple[int, ...] = (0,)
    dense_steps: int = 2
    decay: float = 0.2
    block: int = 128
    """Tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decayed:
    """UltraViCo (WanVideoUltraVicoSettings)."""

    alpha: float = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedOverride:
    """``Radial`` or ``Decayed`` in some steps and blocks (WanVideoSetAttentionModeOverride)."""

    choice: Radial | Decayed
    start_step: int
    end_step: int
    """First step that has its own kernel again."""
    blocks: tuple[int, ...] | None


AttentionOption = Radial | Decayed | PlacedOverride
"""What ``WanModel.options`` may hold of this module."""


def pattern_of(mode: str) -> Radial | Decayed | None:
    """The pattern of an attention mode that is not a kernel alone."""
    match mode:
        case "radial_sage_attention":
            return Radial()
        case "sageattn_ultravico":
            return Decayed()
    return None


def kernel_sources(model: WanModel) -> tuple[ExtrasSource, ...]:
    """What the attention nodes have put on a model, as extras of its passes; where several hold, the last one does.

    Raises:
        CapabilityError: a kernel that was asked for cannot run here.
        UsageError: a block that the model has not.
    """
    found: list[ExtrasSource] = []
    for option in model.options:
        if isinstance(option, AttentionOption):
            found += _of_option(model, option)
    found += [_of_override(model, override) for override in model.overrides]
    return tuple(found)


def _of_option(model: WanModel, option: AttentionOption) -> Iterator[ExtrasSource]:
    blocks, first, last = tuple(range(model.layers)), 0, None
    if isinstance(option, PlacedOverride):
        blocks, first, last = _blocks(model, option.blocks), option.start_step, option.end_step - 1
        option = option.choice
    if isinstance(option, Decayed):
        yield OtherKernels(UltraViCo(option.alpha), blocks, first, last)
        return
    dense = _kernel(model, option.dense)
    sparse = tuple(block for block in blocks if block not in option.dense_blocks)
    yield OtherKernels(dense, blocks, first, last)
    yield OtherKernels(
        RadialAttention(option.decay, option.block), sparse, max(first, option.dense_steps), last
    )


def _of_override(model: WanModel, override: AttentionOverride) -> ExtrasSource:
    kernel = _kernel(model, override.attention)
    return OtherKernels(kernel, _blocks(model, override.blocks), override.start_step, override.end_step - 1)


def _blocks(model: WanModel, asked: tuple[int, ...] | None) -> tuple[int, ...]:
    if asked is None:
        return tuple(range(model.layers))
    if wrong := [block for block in asked if not 0 <= block < model.layers]:
        raise UsageError(
            f"Another attention is asked for in block {wrong[0]}; the model has the blocks 0 to {model.layers - 1}."
        )
    return asked


def _kernel(model: WanModel, asked: Attention) -> AttentionCallable:
    settings, width = model.settings, model.opened.config.head_dim
    dtype: torch.dtype = model.dtype
    found = resolve(asked, model.device, dtype, strict=settings.strict, head_dim=width)
    if found.note:
        say(found.note)
    return found.kernel
