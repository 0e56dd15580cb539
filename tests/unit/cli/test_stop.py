"""Being stopped, whatever the program is doing at that moment."""

from __future__ import annotations

import io
import os
import signal
import sys
from pathlib import Path

import pytest

from infinite_talk import Cancelled
from infinite_talk.frontends.cli.stop import Terminated, polite_stop


class Interrupted(io.RawIOBase):
    """A file that is written to while the signals come."""

    def __init__(self, path: Path, number: int) -> None:
        self._file, self._number = path.open("wb", buffering=0), number

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._file.fileno()

    def write(self, data) -> int:
        if self._number:
            number, self._number = self._number, 0
            os.kill(os.getpid(), number)
        return self._file.write(data)


@pytest.mark.parametrize(
    ("number", "code", "kind"), [(signal.SIGINT, 130, Cancelled), (signal.SIGTERM, 143, Terminated)]
)
def test_a_signal_may_come_while_stderr_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int, kind: type[Cancelled]
):
    raw = Interrupted(tmp_path / "said", number)
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BufferedWriter(raw), line_buffering=True))
    with polite_stop() as stop:
        sys.stderr.write("window 2/3\n")
        assert stop.exit_code == code
        with pytest.raises(kind, match="finished windows are kept"):
            stop.check()
    said = (tmp_path / "said").read_text()
    assert "window 2/3\n" in said and "once more to stop at once" in said
