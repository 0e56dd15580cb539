"""The attention that nodes choose: modes by their names, and what is put on a model for some steps and blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch

from infinite_talk.denoise.extras import ExtrasSource, OtherKernels
from infinite_talk.errors import UsageError
from infinite_talk.nodes.handles import AttentionOverride, WanModel, say
from infinite_talk.ops.attention import AttentionCallable, resolve
from infinite_talk.ops.attention.radial import RadialAttention
from infinite_talk.ops.attention.ultravico import UltraViCo
from infinite_talk.settings import Attention

ATTENTION_MODES = (
    "sdpa",
    "flash_attn_2",
    "flash_attn_3",
    "sageattn",
    "sageattn_3",
    "radial_sage_attention",
    "sageattn_compiled",
    "sageattn_ultravico",
    "comfy",
)
"""The modes of the node pack, in its order."""
KERNELS_OF_MODES: Mapping[str, Attention] = MappingProxyType(
    {
        "sdpa": Attention.SDPA,
        "flash_attn_2": Attention.FLASH_ATTN_2,
        "flash_attn_3": Attention.FLASH_ATTN_3,
        "sageattn": Attention.SAGEATTN,
        "sageattn_3": Attention.SAGEATTN_3,
        "sageattn_compiled": Attention.SAGEATTN,
        "comfy": Attention.AUTO,
        "sparse_sage_attention": Attention.SAGEATTN,
    }
)
"""Modes that are one kernel. ``comfy`` is ComfyUI's best guess, and so is ``auto``; all kernels here can be compiled;
a sparse kernel that leaves nothing out is the dense one."""


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


def attention_of(mode: str) -> tuple[Attention, tuple[AttentionOption, ...]]:
    """The kernel of a mode, and what has to be put on the model besides.

    Raises:
        UsageError: there is no such mode.
    """
    if mode == "radial_sage_attention":
        return Attention.SAGEATTN, (Radial(),)
    if mode == "sageattn_ultravico":
        return Attention.SAGEATTN, (Decayed(),)
    if mode not in KERNELS_OF_MODES:
        raise UsageError(f"There is no attention mode {mode!r}; choose one of {', '.join(ATTENTION_MODES)}.")
    return KERNELS_OF_MODES[mode], ()


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
