"""Attention packages that a test writes, and machines that it pretends to run on."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from infinite_talk.ops.attention import registry
from infinite_talk.ops.attention.machine import Here

HOPPER = ("H100", (9, 0))
BLACKWELL = ("B200", (10, 0))
GEFORCE = ("RTX 5090", (12, 0))
PICKY = '''
import torch.nn.functional as F

def need(*tensors, dense):
    """What a kernel on a GPU takes for granted."""
    for x in tensors:
        assert x.dtype in (x.new_empty(0).half().dtype, x.new_empty(0).bfloat16().dtype), x.dtype
        assert x.shape[-1] % 8 == 0 and x.stride(-1) == 1, x.stride()
        assert x.data_ptr() % 16 == 0, "misaligned address"
        assert all(s > 0 and s * x.itemsize % 16 == 0 for s in x.stride()[:-1]), x.stride()
        assert not dense or x.is_contiguous(), x.stride()

def tokens_first(q, k, v):
    return F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2)
'''
FLASH_ATTN_3 = (
    PICKY
    + """
def flash_attn_func(q, k, v, causal):
    need(q, k, v, dense=False)
    return tokens_first(q, k, v), None
"""
)
SAGE = (
    PICKY
    + """
def sageattn(q, k, v, tensor_layout, is_causal):
    assert tensor_layout == "NHD"
    need(q, k, v, dense=False)
    k -= k.mean(dim=1, keepdim=True)
    return tokens_first(q, k, v)
"""
)
SAGE_3 = (
    PICKY
    + """
def sageattn3_blackwell(q, k, v, is_causal, per_block_mean):
    need(q, k, v, dense=True)
    k -= k.mean(dim=2, keepdim=True)
    return F.scaled_dot_product_attention(q, k, v)
"""
)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """A machine with a GPU of one's choice, as far as it says, and the packages that one installs."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    registry.loaded.cache_clear()
    yield Machine(tmp_path, monkeypatch)
    registry.loaded.cache_clear()
    for name in set(sys.modules) - before:
        if str(tmp_path) in (getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]


class Machine:
    """See the fixture."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.monkeypatch = monkeypatch

    def gpu(self, name: str, capability: tuple[int, int]) -> None:
        """Say that the CPU is this GPU."""
        found = Here(torch.device("cpu"), capability, name)
        for module in ("resolving", "matrix"):
            self.monkeypatch.setattr(f"infinite_talk.ops.attention.{module}.here", lambda _: found)

    def install(self, package: str, module: str, code: str, version: str = "1.0") -> None:
        """Write a package with its metadata, as pip leaves it."""
        path = self.folder / Path(*module.split("."))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".py").write_text(code)
        about = self.folder / f"{package.replace('-', '_')}-{version}.dist-info"
        about.mkdir(exist_ok=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        importlib.invalidate_caches()
