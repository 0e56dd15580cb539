"""``Adviser``: what only torch can tell, asked of a process of its own, so that the server holds no model and no torch.

The process is started by the first question, answers one after the other, and ends when nobody has asked for a while.
Questions and answers are lines of JSON; nothing is pickled. It opens model files and finished videos only: what people
upload is looked at by ``checking``, under limits.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter, ValidationError

from infinite_talk.errors import InfiniteTalkError
from infinite_talk.media.durable import write_bytes
from infinite_talk.request import Request, Speaker
from infinite_talk.settings import Settings

Json = Any
T = TypeVar("T")
_COMMAND: Final = (sys.executable, "-m", "infinite_talk.jobs.advice")
_MOST_KEPT = 256
_MOST_BYTES = 64_000_000
"""Of one answer: six hours of tracks at 25 values a second take 20 MB."""
_ERRORS: Final = {kind.__name__: kind for kind in InfiniteTalkError.__subclasses__()}


@dataclass(frozen=True, slots=True)
class Forecasted:
    """What a run will take."""

    model: str
    device: str
    width: int
    height: int
    windows: int
    steps: int
    passes: int  # of the transformer, in all
    video_seconds: float
    seconds: float  # that making it takes, loading not counted
    memory: float  # bytes on the device at the worst moment
    host: float  # bytes of host memory beside a GPU
    strategy: str  # what is done so that it fits
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Runs:
    """What really runs for what was asked."""

    model: str
    device: str
    precision: str
    quantization: str
    attention: str
    summary: str  # the same in one line, with what was asked beyond it
    notes: tuple[str, ...]  # a line for each thing that is something else than was asked


@dataclass(frozen=True, slots=True)
class Choice:
    """An attention kernel or a quantisation on this machine."""

    name: str
    usable: bool  # as asked
    chosen: bool  # what ``auto`` takes
    exact: bool
    milliseconds: float | None
    why: str  # what keeps it from running as asked, and what runs or how to get it


@dataclass(frozen=True, slots=True)
class Machine:
    """What this machine can run."""

    device: str
    attention: tuple[Choice, ...]
    quantization: tuple[Choice, ...]


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file that was found in the models folders, or a folder with shards."""

    part: str  # transformer, adapter, vae, tiny_vae, text, vision, speech, lora; or preset, a whole model by its name
    path: str
    name: str
    precision: str
    problem: str = ""  # why it cannot be used


class Adviser:
    """Safe to use from several threads; they take turns.

    Args:
        patience: seconds that one answer may take; then the process is ended.
        rest: seconds without a question after which the process ends by itself.
    """

    def __init__(self, *, patience: float = 600.0, rest: float = 120.0) -> None:
        self._patience, self._rest = patience, rest
        self._turn = Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._kept: dict[str, Json] = {}

    def forecast(self, request: Request, settings: Settings, *, size: str, seconds: float) -> Forecasted:
        """Time and memory of a request whose media are known: ``size`` as ``"WxH!"``, and seconds of video.

        Raises:
            CapabilityError: the run does not fit. CheckpointError: of the model.
        """
        people = tuple(Speaker(audio=None) for _ in request.speakers)
        plain = replace(request, image=None, video=None, speakers=people, size=size)
        given = {"request": _json(Request, plain), "settings": _json(Settings, settings), "seconds": seconds}
        return self._known("forecast", given, Forecasted)

    def runs(self, settings: Settings, *, people: int = 1) -> Runs:
        """What runs for these settings; opens the model's files by their headers.

        Raises:
            CheckpointError, CapabilityError, UsageError: why they cannot run.
        """
        given = {"settings": _json(Settings, settings), "people": people}
        found: Runs = self._fresh("runs", given, Runs)
        return found

    def machine(self) -> Machine:
        """Every attention kernel and quantisation; takes seconds the first time."""
        return self._known("machine", {}, Machine)

    def files(self, folders: Sequence[Path]) -> tuple[ModelFile, ...]:
        """What lies in the models folders, by what the files contain."""
        given = {"folders": [str(one) for one in folders]}
        found: tuple[ModelFile, ...] = self._fresh("files", given, tuple[ModelFile, ...])
        return found

    def measured(self, video: Path) -> Json:
        """``quality.Quality`` of a finished video as JSON; kept in a file beside it.

        Raises:
            InputError: it cannot be read, or is too short.
        """
        beside = video.with_name(f"{video.name}.quality.json")
        stamp = [video.stat().st_size, video.stat().st_mtime_ns]
        try:
            kept = json.loads(beside.read_bytes())
            if kept["of"] == stamp:
                return kept["quality"]
        except (OSError, ValueError, LookupError, TypeError):
            pass
        found = self._ask("quality", {"video": str(video)})
        write_bytes(beside, json.dumps({"of": stamp, "quality": found}).encode())
        return found

    def close(self) -> None:
        """End the process."""
        with self._turn:
            self._end()

    def _known(self, question: str, given: Mapping[str, Json], kind: Callable[..., T]) -> T:
        """An answer that stays true as long as the server runs."""
        key = json.dumps([question, given], sort_keys=True)
        if key not in self._kept:
            if len(self._kept) >= _MOST_KEPT:
                self._kept.pop(next(iter(self._kept)))
            self._kept[key] = self._fresh(question, given, kind)
        found: T = self._kept[key]
        return found

    def _fresh(self, question: str, given: Mapping[str, Json], kind: Any) -> Any:  # noqa: ANN401 - a type
        try:
            return TypeAdapter(kind).validate_python(self._ask(question, given))
        except ValidationError as error:
            raise _broken("gave an answer that cannot be read") from error

    def _ask(self, question: str, given: Mapping[str, Json]) -> Json:
        """One question; a process that died is started once more before giving up."""
        line = json.dumps({"question": question, "given": given}).encode() + b"\n"
        with self._turn:
            for attempt in (1, 2):
                child = self._started()
                try:
                    assert child.stdin is not None
                    child.stdin.write(line)
                    child.stdin.flush()
                    answer = self._answer(child)
                except (BrokenPipeError, EOFError):
                    self._end()
                    if attempt == 2:
                        raise _broken("ended without an answer") from None
                    continue
                break
        told = json.loads(answer)
        if "error" in told:
            raise _ERRORS.get(told["error"], InfiniteTalkError)(told["message"], code=told["code"])
        return told["answer"]

    def _started(self) -> subprocess.Popen[bytes]:
        if self._child is None or self._child.poll() is not None:
            self._end()
            try:
                self._child = subprocess.Popen(
                    (*_COMMAND, str(self._rest)),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    start_new_session=True,
                )
            except OSError as error:
                raise _broken(f"cannot be started ({error.strerror})") from error
        return self._child

    def _answer(self, child: subprocess.Popen[bytes]) -> bytes:
        """One line of the process, before patience ends.

        Raises:
            EOFError: it has ended.
        """
        assert child.stdout is not None
        handle, until, size = child.stdout.fileno(), monotonic() + self._patience, 0
        parts: list[bytes] = []
        while not (parts and parts[-1].endswith(b"\n")):
            ready, _, _ = select.select([handle], [], [], max(0.0, until - monotonic()))
            if not ready or size > _MOST_BYTES:
                self._end()
                raise _broken(f"did not answer within {self._patience:g} s")
            part = os.read(handle, 1 << 16)
            if not part:
                raise EOFError
            parts.append(part)
            size += len(part)
        return b"".join(parts)

    def _end(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None


def _json(kind: Any, value: object) -> Json:  # noqa: ANN401 - a dataclass
    return TypeAdapter(kind).dump_python(value, mode="json")


def _broken(what: str) -> InfiniteTalkError:
    return InfiniteTalkError(
        f"The process that looks at models and videos {what}; try again.", code="advice_unavailable"
    )


def as_json(value: Any) -> Json:  # noqa: ANN401 - one of the answers above
    """An answer for a line of JSON."""
    return [asdict(one) for one in value] if isinstance(value, tuple) else asdict(value)


__all__ = ["Adviser", "Choice", "Forecasted", "Machine", "ModelFile", "Runs", "as_json"]
