"""A growing row of samples that moves from memory to a temporary file when it becomes long."""

from __future__ import annotations

import os
import tempfile
from typing import IO

import numpy as np
from numpy.typing import NDArray

from infinite_talk.errors import NoSpaceError

SPILL = 10_000_000
"""Samples kept in memory, 40 MB: ten minutes of 16 kHz speech. An hour on disk is 230 MB."""


class SampleStore:
    """Collects float32 samples block by block; ``finish`` gives them as one array.

    Up to ``spill`` samples the array lies in memory, beyond that in a nameless temporary file mapped into
    memory, whose pages the system drops when it needs room, and which vanishes with the array.

    Raises:
        NoSpaceError: the temporary folder is full.
    """

    def __init__(self, spill: int = SPILL) -> None:
        self._spill = spill
        self._blocks: list[NDArray[np.float32]] = []
        self._file: IO[bytes] | None = None
        self.length = 0

    def append(self, block: NDArray[np.float32]) -> None:
        """Add samples ``(n,)``."""
        self.length += block.size
        self._blocks.append(np.ascontiguousarray(block, np.float32))
        if self.length > self._spill:
            self._write()

    def finish(self, length: int | None = None) -> NDArray[np.float32]:
        """All samples ``(length,)``, cut or padded with zeros to ``length`` if given."""
        wanted = self.length if length is None else length
        if self._file is None and wanted <= self._spill:
            samples = np.concatenate([np.zeros(0, np.float32), *self._blocks])[:wanted]
            self._blocks = []
            return np.pad(samples, (0, wanted - samples.size))
        file = self._write()
        try:
            # Allocated now: a write to a page without room behind it would kill the process later.
            if wanted > self.length and hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, wanted * 4)
            file.truncate(wanted * 4)
        except OSError as error:
            raise _no_space(error) from error
        return np.memmap(file, np.float32, "r+", shape=(wanted,))

    def _write(self) -> IO[bytes]:
        """Move what is in memory to the file."""
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="infinite-talk-")  # noqa: SIM115 - lives on in the array
            for block in self._blocks:
                self._file.write(block.data)
            self._file.flush()
        except OSError as error:
            raise _no_space(error) from error
        self._blocks = []
        return self._file


def _no_space(error: OSError) -> NoSpaceError:
    return NoSpaceError(
        f"Long recordings need room in the temporary folder {tempfile.gettempdir()} "
        f"(230 MB per hour and person): {error.strerror}. Free some or set TMPDIR."
    )
