"""All attention kernels, and whether one can run here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

import torch

from infinite_talk.ops.attention import packages
from infinite_talk.ops.attention.base import AttentionCallable, Kernel, Source
from infinite_talk.ops.attention.flash import FLASH_ATTN_2, FLASH_ATTN_3, FLASH_ATTN_4
from infinite_talk.ops.attention.flash8 import FLASH_ATTN_3_FP8
from infinite_talk.ops.attention.guarded import Guarded, guard
from infinite_talk.ops.attention.machine import Here
from infinite_talk.ops.attention.native import EAGER, SDPA, eager, sdpa
from infinite_talk.ops.attention.sage import SAGEATTN, SAGEATTN_3, SAGEATTN_3_FP4
from infinite_talk.ops.attention.xformers import XFORMERS

KERNELS: Mapping[str, Kernel] = MappingProxyType(
    {
        kernel.name: kernel
        for kernel in (
            SDPA,
            FLASH_ATTN_2,
            FLASH_ATTN_3,
            FLASH_ATTN_3_FP8,
            FLASH_ATTN_4,
            SAGEATTN,
            SAGEATTN_3,
            SAGEATTN_3_FP4,
            XFORMERS,
            EAGER,
        )
    }
)
_OURS: Mapping[str, AttentionCallable] = MappingProxyType({"sdpa": sdpa, "eager": eager})
_NAMES = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32", torch.float64: "fp64"}
_TRIAL = (1, 2, 1024)
"""Batch, heads and length of a trial call: several blocks of queries and of keys in every kernel, and enough for those
that leave few keys to another (``flash8.py``)."""


@dataclass(frozen=True, slots=True)
class Usable:
    """A kernel that ran here."""

    attend: AttentionCallable
    version: str
    """Package and version, e.g. ``"sageattention 2.2.0"``; torch's for its own."""


@dataclass(frozen=True, slots=True)
class Unusable:
    """Why a kernel cannot run, as the end of a sentence that begins with its name."""

    why: str
    remedy: str = ""
    """What to do about it, as a sentence, if something can be done."""


def expected(
    kernel: Kernel, place: Here, dtype: torch.dtype, head_dim: int | None
) -> Source | Unusable | None:
    """The source that should run here, judged by its description; nothing is imported.

    Returns:
        ``None`` for torch's own kernels, which need none.
    """
    if not kernel.sources:
        return None
    fitting = [s for s in kernel.sources if place.capability and s.gpus.include(place.capability)]
    installed = [source for source in kernel.sources if packages.installed(source)]
    there = [source for source in fitting if source in installed]
    if not there and (installed or not fitting):
        return Unusable(f"needs {(installed or kernel.sources)[0].gpus.says}, this is {place.says}")
    if not there:
        wanted = " or ".join(_wanted(source) for source in fitting)
        return Unusable(f"needs the package {wanted}, which is not installed", kernel.get)
    if dtype not in kernel.dtypes:
        takes = " and ".join(sorted(_NAMES[kind] for kind in kernel.dtypes))
        return Unusable(f"takes {takes}, this run is {_NAMES.get(dtype, dtype)}", "Choose precision bf16.")
    able = [source for source in there if head_dim is None or source.head_sizes.include(head_dim)]
    if not able:
        return Unusable(f"takes {there[0].head_sizes.says}, this model's have {head_dim}")
    return able[0]


def ready(kernel: Kernel, place: Here, dtype: torch.dtype, head_dim: int | None) -> Usable | Unusable:
    """Load a kernel and try it on a small input.

    A package that does not import, does not run, or gives wrong answers here (built for another torch, CUDA
    or card) is unusable, with the first line of its complaint.
    """
    source = expected(kernel, place, dtype, head_dim)
    if isinstance(source, Unusable):
        return source
    if source is None:
        return Usable(_OURS[kernel.name], f"torch {torch.__version__}")
    version = f"{source.package} {packages.installed(source)}".removesuffix(" ?")
    try:
        guarded = loaded(kernel.name, kernel.sources.index(source))
    except Exception as error:  # whatever a package does when it is imported
        return Unusable(f"cannot run: {version} does not import: {first_line(error)}", kernel.get)
    try:
        wrong = trial_error(guarded.attend, place.device, dtype, head_dim or 128)
    except Exception as error:  # packages raise what they like
        return Unusable(f"cannot run: {version} fails here: {first_line(error)}", kernel.get)
    if not wrong <= 2 * kernel.bound:  # NaN is wrong, too
        return Unusable(
            f"cannot run: {version} computes something else here (relative error {wrong:.2g})", kernel.get
        )
    return Usable(guarded, version)


@cache
def loaded(name: str, index: int) -> Guarded:
    """Import the package of a kernel's source, once in a process."""
    kernel = KERNELS[name]
    return guard(kernel, kernel.sources[index], kernel.sources[index].load())


def trial_error(attend: AttentionCallable, device: torch.device, dtype: torch.dtype, head_dim: int) -> float:
    """Relative error of one small call."""
    generator = torch.Generator().manual_seed(0)
    shape = (*_TRIAL, head_dim)
    q, k, v = (torch.randn(shape, generator=generator).to(device, dtype) for _ in range(3))
    expected_answer = eager(q, k, v).float()
    return float((attend(q, k, v).float() - expected_answer).norm() / expected_answer.norm())


def first_line(error: Exception) -> str:
    """What an exception says first, or its class if it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__


def _wanted(source: Source) -> str:
    since, before = (".".join(map(str, numbers)) for numbers in (source.since, source.before))
    limits = [f"{since} or newer" if since else "", f"older than {before}" if before else ""]
    said = ", ".join(limit for limit in limits if limit)
    return f"{source.package} ({said})" if said else source.package
