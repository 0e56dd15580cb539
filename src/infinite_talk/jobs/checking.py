"""Media of strangers are opened in a child process with limits; only facts or one of our errors come back.

A decoder that is led astray by a crafted file can then take no more than some memory and seconds, and a crash is
an answer. What goes in and out is JSON; nothing is pickled, and the child does not inherit the environment, where
keys may lie.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter

from infinite_talk.errors import InfiniteTalkError, InputError
from infinite_talk.inputs.files import shown
from infinite_talk.inputs.validate import validate
from infinite_talk.jobs.facts import PictureFacts, RecipeFacts, SoundFacts, SoundtrackFacts
from infinite_talk.jobs.paths import media_of, rooted
from infinite_talk.jobs.types import Checked
from infinite_talk.presets import resolve
from infinite_talk.request import Request
from infinite_talk.settings import Settings
from infinite_talk.weights.manifest import defaults_of

GIB: Final = 2**30
MAX_ANSWER = 1_000_000
"""Bytes of JSON that are read from a child, which may be under another's control."""
_COMMAND: Final = (sys.executable, "-m", "infinite_talk.jobs.inspector")
_ERRORS: Final = {kind.__name__: kind for kind in InfiniteTalkError.__subclasses__()}
AnyFacts = TypeVar("AnyFacts", PictureFacts, SoundFacts, SoundtrackFacts, RecipeFacts, Checked)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one check may take; see ``setrlimit(2)``."""

    memory: int = 4 * GIB
    """Bytes of address space. An image of 40 million pixels takes 1 GiB; hours of speech are mapped from a file."""
    cpu_seconds: int = 120
    """Six hours of speech decode in a minute."""
    wall_seconds: float = 180.0
    file_bytes: int = 3 * GIB
    """Of one temporary file."""
    open_files: int = 64


class Checker:
    """Checks files as they are dropped in, and orders as they are handed in, a few at a time.

    Args:
        settings: how videos are made here: the model, whose size is the default, and limits of pixels and seconds.
        limits: of each child.
        at_once: children that may run at the same time; further calls wait for their turn.
    """

    def __init__(
        self, settings: Settings | None = None, *, limits: Limits | None = None, at_once: int = 2
    ) -> None:
        self._settings = settings or Settings()
        self._limits = limits or Limits()
        self._turns = BoundedSemaphore(at_once)

    def picture(self, path: Path, *, size: str | None = None, preview: Path | None = None) -> PictureFacts:
        """Check an image or a film; which of the two it is, its content says.

        Args:
            path: of the file.
            size: as in ``Request``; decides the crop.
            preview: where to write a small JPEG of the picture with the part outside of the crop darkened.

        Raises:
            InputError: what is wrong, as in ``inputs``; ``media_limit`` for a file that takes too much memory or
                time, ``media_crash`` for one at which a decoder gives up the ghost.
            UsageError: ``size`` has no meaning.
        """
        given = {"path": str(path), "size": size, "preview": str(preview) if preview else None}
        return self._ask("picture", given, path, PictureFacts)

    def sound(self, path: Path, *, start: float = 0.0, end: float | None = None) -> SoundFacts:
        """Check a recording and decode it to its end, or from ``start`` to ``end`` (seconds).

        Raises:
            InputError: as for ``picture``.
        """
        return self._ask("sound", {"path": str(path), "start": start, "end": end}, path, SoundFacts)

    def order(self, folder: Path, request: Request, settings: Settings) -> Checked:
        """Check everything that a request says and names, as the run will; a ``desk.Check``.

        Args:
            folder: of the job; all paths of the request are relative to it.
            request: what is wanted.
            settings: how it will be made.

        Raises:
            UsageError, InputError: as ``read_source`` and ``presets.resolve``; ``path_outside`` for a path that
                leaves the folder; ``media_limit`` and ``media_crash`` besides.
        """
        validate(request)
        for path in media_of(request):
            within(folder, path)
        resolve(request, defaults_of(settings))
        written = TypeAdapter(Request).dump_python(request, mode="json")
        given = {"request": written, "folder": str(folder)}
        media = request.image or request.video or Path("request")
        return self._ask("order", given, media, Checked, settings)

    def soundtrack(
        self, folder: Path, request: Request, settings: Settings, frames: int, path: Path
    ) -> SoundtrackFacts:
        """Write the sound of the ``frames`` frames of a video that is being made as the file ``path``.

        Args:
            folder: of the job; all paths of the request are relative to it.

        Raises:
            InputError: as for ``order``.
            NoSpaceError: the file cannot be written.
        """
        written = TypeAdapter(Request).dump_python(rooted(request, folder), mode="json")
        given = {"request": written, "frames": frames, "path": str(path)}
        return self._ask("soundtrack", given, path, SoundtrackFacts, settings)

    def recipe(self, path: Path) -> RecipeFacts:
        """Read what a video was made with.

        Args:
            path: an mp4 file of this program, or the JSON file beside it.

        Raises:
            InputError: ``no_recipe``, ``recipe_version``; ``media_limit`` and ``media_crash`` as for ``picture``.
        """
        return self._ask("recipe", {"path": str(path)}, path, RecipeFacts)

    def _ask(
        self,
        question: str,
        given: Mapping[str, Any],
        path: Path,
        kind: type[AnyFacts],
        settings: Settings | None = None,
    ) -> AnyFacts:
        settings = settings or self._settings
        order = {
            "question": question,
            "given": given,
            "limits": asdict(self._limits),
            "max_pixels": settings.max_pixels,
            "max_audio_seconds": settings.max_audio_seconds,
            "default_size": defaults_of(settings).size,
        }
        with self._turns:
            answer = _run(order, path, self._limits.wall_seconds)
        return _facts_of(answer, path, kind)


def within(folder: Path, path: Path) -> Path:
    """Where a path relative to ``folder`` leads, links followed.

    Raises:
        InputError: ``path_outside``: it is absolute, or leads out of the folder.
    """
    try:
        found = (folder / path).resolve()
    except (OSError, ValueError, RuntimeError):  # a NUL character, links in a circle
        found = None
    if found is None or path.is_absolute() or not found.is_relative_to(folder.resolve()):
        raise InputError(
            f"{shown(path)} is no file of this job; upload it with the request.", code="path_outside"
        )
    return found


def _run(order: Mapping[str, Any], path: Path, wall_seconds: float) -> bytes:
    """What the child wrote. Its folder vanishes with it, whatever it left there."""
    with tempfile.TemporaryDirectory(prefix="check-") as folder, tempfile.TemporaryFile() as answer:
        try:
            child = subprocess.Popen(
                _COMMAND,
                stdin=subprocess.PIPE,
                stdout=answer,
                stderr=subprocess.DEVNULL,
                env=_environment(folder),
                start_new_session=True,
            )
        except OSError as error:
            raise InfiniteTalkError(
                f"The process that checks media cannot be started ({error.strerror}); try again later.",
                code="check_unavailable",
            ) from error
        with child:
            try:
                child.communicate(json.dumps(order).encode(), timeout=wall_seconds)
            except subprocess.TimeoutExpired as error:
                raise _limit(path) from error
            finally:
                _end(child)
        if child.returncode:
            raise _broken(child.returncode, path)
        answer.seek(0)
        return answer.read(MAX_ANSWER + 1)


def _environment(folder: str) -> dict[str, str]:
    """Little, and nothing of ours: where the modules lie, a scratch folder, and no pools of threads.

    Each thread's heap reserves address space, which counts against the limit however little of it is used.
    """
    return {
        "PYTHONPATH": os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path),
        "TMPDIR": folder,
        "LC_ALL": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",
    }


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a child that still runs, and what it may have started."""
    if child.poll() is None:
        kill_group: Callable[[int, int], None] | None = getattr(os, "killpg", None)
        if kill_group is None:
            child.kill()
        else:
            kill_group(child.pid, signal.SIGKILL)
        child.wait()


def _facts_of(answer: bytes, path: Path, kind: type[AnyFacts]) -> AnyFacts:
    """Facts from the child's JSON, or the error it reports."""
    try:
        told = json.loads(answer) if len(answer) <= MAX_ANSWER else None
        if isinstance(told, dict) and "facts" in told:
            return TypeAdapter(kind).validate_python(told["facts"])
        assert isinstance(told, dict)
        error = _ERRORS[told["error"]]
        message, code = str(told["message"]), str(told["code"])
    except (ValueError, LookupError, TypeError, AssertionError) as damaged:
        raise _crash(path) from damaged
    raise error(message, code=code)


def _broken(status: int, path: Path) -> InputError:
    """Why a child ended without an answer. SIGKILL is the system's when memory runs out."""
    stopped = {-getattr(signal, name, 0) for name in ("SIGXCPU", "SIGALRM", "SIGKILL")} - {0}
    return _limit(path) if status in stopped else _crash(path)


def _limit(path: Path) -> InputError:
    return InputError(
        f"{shown(path)} takes more memory or time than one file may; shorten it, scale it down, or save it in "
        "another format.",
        code="media_limit",
    )


def _crash(path: Path) -> InputError:
    return InputError(
        f"{shown(path)} cannot be decoded: it is damaged in a way that stops the decoder; save it anew.",
        code="media_crash",
    )
