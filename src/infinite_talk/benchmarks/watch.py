"""How hard the card works: power and clock, read by ``nvidia-smi`` beside a measurement."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import suppress
from statistics import median
from threading import Thread
from types import TracebackType
from typing import Self

import torch

_FIELDS = ("power.draw", "clocks.sm", "temperature.gpu")
_EVERY = 100  # milliseconds


class Watch:
    """Power in watts, SM clock in MHz and temperature in degrees while a block runs; nothing without a GPU."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._process: subprocess.Popen[str] | None = None
        self._thread: Thread | None = None
        self._rows: list[tuple[float, ...]] = []

    def __enter__(self) -> Self:
        program = shutil.which("nvidia-smi")
        if self._device.type != "cuda" or program is None:
            return self
        command = [program, f"--query-gpu={','.join(_FIELDS)}", "--format=csv,noheader,nounits"]
        command += [f"--id={_identity(self._device)}", f"--loop-ms={_EVERY}"]
        with suppress(OSError):
            self._process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
            self._thread = Thread(target=self._read, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def _read(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        for line in self._process.stdout:
            if (row := parse_row(line)) is not None:
                self._rows.append(row)

    def summary(self) -> dict[str, float] | None:
        """Medians, the most power, and how many readings; ``None``: there were none."""
        if not self._rows:
            return None
        watts, clocks, degrees = (list(column) for column in zip(*self._rows, strict=True))
        return {
            "watts": median(watts),
            "watts_max": max(watts),
            "sm_mhz": median(clocks),
            "degrees": median(degrees),
            "readings": len(self._rows),
        }


def parse_row(line: str) -> tuple[float, ...] | None:
    """One reading, ``"688.12, 1455, 63"``; ``None`` for a line that is none (``[N/A]``, an error)."""
    cells = line.split(",")
    if len(cells) != len(_FIELDS):
        return None
    try:
        return tuple(float(cell) for cell in cells)
    except ValueError:
        return None


def _identity(device: torch.device) -> str:
    """As ``nvidia-smi`` knows the card, which counts cards that this process may not see."""
    uuid = getattr(torch.cuda.get_device_properties(device), "uuid", None)
    return str(device.index or 0) if uuid is None else f"GPU-{uuid}"
