"""The most memory that was in use since a moment: of torch on a GPU, of this process on a CPU.

Linux keeps the high-water mark of a process (``VmHWM`` in ``/proc/self/status``) and forgets it when ``5`` is written
to ``/proc/self/clear_refs``, see ``proc(5)``. Elsewhere nothing is known.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
_FORGET = Path("/proc/self/clear_refs")


def forget_peak(device: torch.device) -> None:
    """Begin anew: what is in use now is the most so far."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):  # a container may forbid it; the mark is then that of the whole process
        _FORGET.write_text("5")


def peak_bytes(device: torch.device) -> int | None:
    """The most since ``forget_peak``; ``None`` where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    found = next((line for line in lines if line.startswith("VmHWM:")), None)
    return None if found is None else int(found.split()[1]) * 1024  # the line says kB
