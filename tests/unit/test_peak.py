"""The peak of memory is that of a block of work, and not of what was before it."""

from __future__ import annotations

import sys

import pytest
import torch

from infinite_talk.ops.peak import forget_peak, peak_bytes

MIB = 1 << 20
CPU = torch.device("cpu")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells")
def test_the_peak_rises_with_what_is_used_and_is_forgotten():
    block = torch.ones(64 * MIB)  # 256 MiB
    before = peak_bytes(CPU)
    del block
    forget_peak(CPU)
    rested = peak_bytes(CPU)
    if rested == before:
        pytest.skip("this system does not let a process forget its peak")
    assert rested < before - 200 * MIB
    block = torch.ones(32 * MIB)
    assert peak_bytes(CPU) > rested + 100 * MIB
    del block
    assert peak_bytes(CPU) > rested + 100 * MIB
