"""From the attention that was asked for to the one that runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch

from infinite_talk.errors import CapabilityError
from infinite_talk.ops.attention.base import AttentionCallable
from infinite_talk.ops.attention.machine import Here, here
from infinite_talk.ops.attention.registry import KERNELS, Unusable, Usable, expected, ready
from infinite_talk.settings import Attention

_SAGE = (Attention.SAGEATTN_3_FP4, Attention.SAGEATTN_3, Attention.SAGEATTN, Attention.SDPA)
SUBSTITUTES: Mapping[Attention, tuple[Attention, ...]] = MappingProxyType(
    {asked: _SAGE[i + 1 :] for i, asked in enumerate(_SAGE[:-1])}
    | {Attention.FLASH_ATTN_3_FP8: (Attention.FLASH_ATTN_3, Attention.SDPA)}
)
"""What runs instead of an approximate kernel that cannot run: the first one that can. Other names have no
substitute, because someone who asks for them asks for exactly them."""
_HOPPER = (9, 0)


@dataclass(frozen=True, slots=True)
class Resolved:
    """The attention of a run."""

    kernel: AttentionCallable
    name: str
    """What runs, never "auto"."""
    note: str | None
    """One line for people if it is not what was asked for."""
    version: str = ""
    """Package and version that it comes from."""


def resolve(
    asked: Attention,
    device: torch.device,
    dtype: torch.dtype,
    *,
    strict: bool,
    head_dim: int | None = None,
) -> Resolved:
    """Find, load and try the kernel for a run.

    Args:
        dtype: of the transformer's activations.
        strict: refuse instead of running something else.
        head_dim: of the transformer; ``None``: 128, as published.

    Raises:
        CapabilityError: it cannot run here, and ``strict`` or nothing stands in for it.
    """
    place = here(device)
    if asked is Attention.AUTO:
        return _best_exact(place, dtype, head_dim)
    first = ready(KERNELS[asked], place, dtype, head_dim)
    if isinstance(first, Usable):
        return Resolved(first.attend, asked.value, None, first.version)
    if strict or asked not in SUBSTITUTES:
        advice = f"{first.remedy} Or choose" if first.remedy else "Choose"
        raise CapabilityError(
            f"The attention {asked} {first.why}. {advice} attention sdpa, which always runs.",
            code="attention_unavailable",
        )
    for lesser in SUBSTITUTES[asked]:
        found = ready(KERNELS[lesser], place, dtype, head_dim)
        if isinstance(found, Usable):
            note = f"{asked} {first.why}; {lesser} runs instead."
            return Resolved(found.attend, lesser.value, note, found.version)
    raise AssertionError("sdpa always runs")


def _best_exact(place: Here, dtype: torch.dtype, head_dim: int | None) -> Resolved:
    """FlashAttention 3 on Hopper, where it is a fifth faster than torch's best; else ``sdpa``."""
    kernel, note = KERNELS[Attention.FLASH_ATTN_3], None
    if place.capability == _HOPPER and not isinstance(expected(kernel, place, dtype, head_dim), Unusable):
        found = ready(kernel, place, dtype, head_dim)
        if isinstance(found, Usable):
            return Resolved(found.attend, kernel.name, None, found.version)
        note = f"{kernel.name} is installed, but {found.why}; sdpa runs instead."
    usable = ready(KERNELS[Attention.SDPA], place, dtype, head_dim)
    assert isinstance(usable, Usable)
    return Resolved(usable.attend, Attention.SDPA.value, note, usable.version)


def attention_named(name: str) -> AttentionCallable:
    """A kernel that runs on the CPU, by name; ``auto`` is ``sdpa``. For tests and tools.

    Raises:
        CapabilityError: no kernel has this name, or it needs a GPU.
    """
    try:
        asked = Attention(name)
    except ValueError:
        known = ", ".join(Attention)
        raise CapabilityError(
            f"There is no attention kernel {name!r}. Choose one of: {known}.", code="attention_unknown"
        ) from None
    return resolve(asked, torch.device("cpu"), torch.float32, strict=True).kernel
