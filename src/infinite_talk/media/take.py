"""``Take``: the folder beside the output in which a video grows, window by window, safe against any crash.

    me.mp4.take/
        take.json               the recipe and the plan that everything else here belongs to
        lock                    held by the process that works on it, which has written its number into it
        window-00000.mp4        the frames of a window, playable
        window-00000.motion     what the next window continues from, kept for the last two windows
        window-00000.json       hashes of both; written last: with it, the window counts as finished
        final.json              hash of the complete video, written just before that gets its name

Every file appears whole or not at all. Only the complete video gets the output's name; then the folder goes.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import safetensors.torch
import torch

from infinite_talk.errors import InputError, NoSpaceError, TakeError, UsageError
from infinite_talk.media.durable import PART, explained, replacing, sha256_of, sync, write_bytes
from infinite_talk.media.encode import write_segment
from infinite_talk.media.mux import join
from infinite_talk.media.recipe import Recipe, plan_hash, sidecar_of
from infinite_talk.media.sound import SoundFormat
from infinite_talk.types import Clip, Plan, Soundtrack

SCHEMA = 1
"""Grows when the folder's contents change in a way that older programs would misread."""
TITLE = "Talking video"
_KEPT_MOTIONS = 2  # the last window's, and the one before, so that a damaged last window can be made again


@dataclass(frozen=True, slots=True)
class Finished:
    """What ``window-N.json`` says."""

    frames: int
    sha256: str
    motion_sha256: str | None  # None: the next window continues from nothing
    seconds: float  # that making it took
    skipped: Mapping[str, int] = field(default_factory=dict)  # steps left out by a step cache, by branch
    memory: int | None = None  # bytes at the worst moment of making it


class Take:
    """The state on disk of one growing video; at most one per output at a time. A context manager."""

    def __init__(self, output: Path, recipe: Recipe, plan: Plan, lock: int) -> None:
        """Use :meth:`open`."""
        self.output = output
        self.folder = folder_of(output)
        self.recipe = recipe
        self.plan = plan
        self.rate = Fraction(recipe.picture["fps"]).limit_denominator(1001)
        """Frames per second of the finished file; segments are re-timed when they are joined."""
        self.notes: tuple[str, ...] = ()
        self._lock = lock
        self._windows: list[Finished] = []
        self._delivered = False
        self._overwrite = False

    @classmethod
    def open(
        cls, output: Path, recipe: Recipe, plan: Plan, *, resume: bool = True, overwrite: bool = False
    ) -> Take:
        """Begin a video, or continue one after its last finished window.

        Args:
            output: the mp4 file to make; missing folders above it are made.
            recipe: what it is made from. A folder left by another recipe is not touched.
            plan: the windows.
            resume: ``False`` throws away what an interrupted run has left.
            overwrite: replace an existing ``output`` when the new one is complete, not before.

        Raises:
            TakeError: another process works on it; or it was begun with another recipe.
            NoSpaceError: the folder cannot be written, or ``output`` is there already (code ``exists``).
            UsageError: ``output`` is a folder or a device.
        """
        if plan_hash(plan) != recipe.plan["sha256"]:
            raise ValueError("the recipe is of another plan")
        folder = folder_of(output)
        with explained(output):
            if output.exists() and not output.is_file():
                raise UsageError(f"The output {output} is not a file. Give the name of an mp4 file.")
            if output.exists() and not overwrite and not folder.exists():
                raise _exists(output)
            lock = _acquire(folder)
        take = cls(output, recipe, plan, lock)
        take._overwrite = overwrite
        try:
            with explained(folder):
                take._begin(resume)
        except BaseException:
            take.close()
            raise
        return take

    @property
    def finished(self) -> int:
        """Windows on disk: the number of the window to make next."""
        return len(self._windows)

    @property
    def complete(self) -> bool:
        """Whether only :meth:`finish` is left to do."""
        return self.finished == len(self.plan.windows)

    @property
    def frames(self) -> int:
        """Frames on disk."""
        return sum(window.frames for window in self._windows)

    @property
    def skipped(self) -> tuple[Mapping[str, int], ...]:
        """Steps that a step cache left out in each window on disk, by guidance branch."""
        return tuple(window.skipped for window in self._windows)

    def motion(self) -> torch.Tensor | None:
        """The exact frames before the next window, float32 ``(3, overlap, H, W)``; ``None`` at a start."""
        if self.complete or not self.plan.windows[self.finished].overlap:
            return None
        with explained(self.folder):
            stored = safetensors.torch.load(self._motion(self.finished - 1).read_bytes())
        motion: torch.Tensor = stored["motion"]
        return motion

    def add(self, clip: Clip) -> None:
        """Put the next window on disk. When this returns, no crash can take it away.

        Raises:
            NoSpaceError: the disk is full. Nothing has changed; the same clip can be added later.
        """
        number = self.finished
        window = self.plan.windows[number]
        if clip.window != window or clip.frames.shape[0] != window.new:
            raise ValueError(
                f"clip of window {clip.window.index}, {len(clip.frames)} frames; expected {window}"
            )
        segment = self._segment(number)
        with explained(segment):
            with replacing(segment) as part:
                write_segment(part, clip.frames.cpu().numpy(), crf=self.recipe.machine.crf)
            motion_sha256 = self._keep_motion(number, clip.motion)
            done = Finished(
                len(clip.frames),
                sha256_of(segment),
                motion_sha256,
                clip.seconds,
                dict(clip.skipped),
                clip.memory,
            )
            told = asdict(done)
            if clip.memory is None:
                del told["memory"]
            _write_json(self._note(number), told)
        self._windows.append(done)
        if number >= _KEPT_MOTIONS:
            with suppress(OSError):
                self._motion(number - _KEPT_MOTIONS).unlink()

    def finish(
        self,
        soundtrack: Soundtrack | None,
        metadata: Mapping[str, str] | None = None,
        *,
        report: Mapping[str, Any] | None = None,
    ) -> Path:
        """Join all windows with the sound, give the file its name, remove the folder.

        The bytes of the file follow from the recipe alone, however often the run was interrupted. Calling it
        again after a crash, or after a full disk has been cleared, is safe.

        Args:
            soundtrack: what is heard; ``None`` makes a silent video.
            metadata: tags of the mp4 beside the recipe's own, such as ``title``.
            report: more for the JSON file beside the video (timings, notes); may differ from run to run.

        Returns:
            The output.

        Raises:
            NoSpaceError: the disk is full; the finished windows stay.
        """
        if not self.complete:
            raise ValueError(f"{self.finished} of {len(self.plan.windows)} windows are finished")
        if not self._delivered:
            with explained(self.output):
                self._deliver(soundtrack, metadata or {}, report or {})
        self._clear()
        self.close()
        return self.output

    def close(self) -> None:
        """Let other processes work on the folder. What is in it stays."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self, resume: bool) -> None:
        """Find out what is on disk, and make it consistent."""
        for leftover in self.folder.glob(f"*{PART}"):
            leftover.unlink()
        if not resume:
            self._forget(0)
            (self.folder / "take.json").unlink(missing_ok=True)
        if not (self.folder / "take.json").exists():
            self._forget(0)
            if self.output.exists() and not self._overwrite:
                self._clear()
                raise _exists(self.output)
            state = {"schema": SCHEMA, "recipe": self.recipe.to_json(paths=True), "plan": asdict(self.plan)}
            _write_json(self.folder / "take.json", state)
            return
        self._check_recipe()
        self._delivered = self._was_delivered()
        if self._delivered:
            # Stopped between the video's getting its name and the folder's removal.
            self._windows = [Finished(window.new, "", None, 0.0) for window in self.plan.windows]
            return
        if self.output.exists() and not self._overwrite:
            raise _exists(self.output)
        self._recover()

    def _check_recipe(self) -> None:
        advice = "Start again with --force, or choose another output name."
        try:
            state = json.loads((self.folder / "take.json").read_bytes())
            schema, written = state["schema"], state["recipe"]
        except (ValueError, KeyError, TypeError) as error:
            raise TakeError(f"{self.folder / 'take.json'} is damaged. {advice}") from error
        try:
            if schema != SCHEMA:
                raise InputError(f"form {schema}")
            theirs = Recipe.from_json(written, self.folder / "take.json")
        except InputError as error:
            raise TakeError(
                f"{self.folder} was begun by another version of this program. {advice}"
            ) from error
        changed = self.recipe.differences(theirs)
        if changed:
            shown = "; ".join(changed[:8]) + ("; and more" if len(changed) > 8 else "")
            raise TakeError(
                f"{self.output} was begun with other settings: {shown}. Use those to continue. {advice}",
                code="other_recipe",
            )

    def _recover(self) -> None:
        """Count the windows that are whole; go back where one is damaged or has nothing to continue from."""
        whole = 0
        while whole < len(self.plan.windows) and (found := self._verified(whole)):
            self._windows.append(found)
            whole += 1
        start = whole
        while start < len(self.plan.windows) and not self._can_start(start):
            start -= 1
        if (
            any(self._note(number).exists() for number in range(whole, len(self.plan.windows)))
            or start < whole
        ):
            self.notes += (f"files of the interrupted run were damaged: continuing from window {start + 1}",)
        elif start:
            self.notes += (f"continuing after {start} of {len(self.plan.windows)} windows",)
        del self._windows[start:]
        self._forget(start)

    def _verified(self, number: int) -> Finished | None:
        """The finished window ``number``, or None if it is not there or not as it was written."""
        try:
            found = Finished(**json.loads(self._note(number).read_bytes()))
            same = sha256_of(self._segment(number)) == found.sha256
        except (OSError, ValueError, TypeError):
            return None
        return found if same and found.frames == self.plan.windows[number].new else None

    def _can_start(self, number: int) -> bool:
        """Whether window ``number`` can be made from what is on disk."""
        if number == 0 or not self.plan.windows[number].overlap:
            return True
        try:
            return sha256_of(self._motion(number - 1)) == self._windows[number - 1].motion_sha256
        except OSError:
            return False

    def _keep_motion(self, number: int, motion: torch.Tensor) -> str | None:
        """Store what window ``number + 1`` needs of the frames so far; returns the file's hash."""
        overlap = self.plan.windows[number + 1].overlap if number + 1 < len(self.plan.windows) else 0
        if not overlap:
            return None
        if motion.shape[1] < overlap:
            raise ValueError(f"{motion.shape[1]} motion frames, the next window continues from {overlap}")
        tensor = motion[:, -overlap:].detach().to("cpu", torch.float32).contiguous()
        write_bytes(self._motion(number), safetensors.torch.save({"motion": tensor}))
        return sha256_of(self._motion(number))

    def _deliver(
        self, soundtrack: Soundtrack | None, metadata: Mapping[str, str], report: Mapping[str, Any]
    ) -> None:
        segments = [self._segment(number) for number in range(self.finished)]
        tags = {**self.recipe.tags(TITLE), **metadata}
        final = self.folder / "final.mp4"
        final.unlink(missing_ok=True)  # an earlier attempt's; the space may be needed
        with replacing(final) as part:
            form = join(
                segments, part, frames=self.plan.length, soundtrack=soundtrack, tags=tags, rate=self.rate
            )
        if self.output.exists() and not self._overwrite:
            raise _exists(self.output)
        digest = sha256_of(final)
        _write_json(self.folder / "final.json", {"sha256": digest})
        told = self._tell(final, digest, form, report)
        _write_json(sidecar_of(self.output), told, indent=2)
        final.replace(self.output)
        sync(self.output.absolute().parent)

    def _tell(
        self, final: Path, digest: str, form: SoundFormat | None, report: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The JSON beside the video: the recipe, what became of it, and how long it took."""
        starts = [sum(window.frames for window in self._windows[:n]) for n in range(self.finished)]
        windows = [
            {"start": start, "frames": window.frames, "seconds": round(window.seconds, 3)}
            | ({"skipped": dict(window.skipped)} if window.skipped else {})
            | ({"memory": window.memory} if window.memory is not None else {})
            for start, window in zip(starts, self._windows, strict=True)
        ]
        file = {"name": self.output.name, "sha256": digest, "bytes": final.stat().st_size}
        sound = {"rate": form.rate, "channels": form.channels, "notes": form.notes} if form else None
        return {
            "ai_generated": True,
            "recipe": self.recipe.to_json(paths=True),
            "file": {
                **file,
                "frames": self.frames,
                "duration": float(self.frames / self.rate),
                "sound": sound,
            },
            "windows": windows,
            "report": dict(report),
        }

    def _was_delivered(self) -> bool:
        try:
            digest = json.loads((self.folder / "final.json").read_bytes())["sha256"]
            return bool(sha256_of(self.output) == digest)
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def _forget(self, start: int) -> None:
        """Delete window ``start`` and all later ones, and a half-made result. The note goes first."""
        for kind in ("json", "motion", "mp4"):
            for file in self.folder.glob(f"window-*.{kind}"):
                if int(file.stem.removeprefix("window-")) >= start:
                    file.unlink()
        for name in ("final.json", "final.mp4"):
            (self.folder / name).unlink(missing_ok=True)

    def _clear(self) -> None:
        """Remove the folder, the proof of delivery last, and leave what others have put there."""
        with suppress(OSError):
            for file in self.folder.glob("window-*"):
                file.unlink()
            for name in ("take.json", "final.json", "lock"):
                (self.folder / name).unlink(missing_ok=True)
            self.folder.rmdir()

    def _segment(self, number: int) -> Path:
        return self.folder / f"window-{number:05d}.mp4"

    def _motion(self, number: int) -> Path:
        return self.folder / f"window-{number:05d}.motion"

    def _note(self, number: int) -> Path:
        return self.folder / f"window-{number:05d}.json"


def folder_of(output: Path) -> Path:
    """The folder in which ``output`` grows."""
    return output.with_name(output.name + ".take")


def _acquire(folder: Path) -> int:
    """Make and lock the folder; the returned handle holds the lock until it is closed or the process ends."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except FileNotFoundError:  # its owner has just finished and removed the folder
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(handle, 32).decode(errors="replace").strip() or "unknown"
            os.close(handle)
            raise TakeError(
                f"{folder} is in use by process {owner}, which makes the same video. Wait for it, stop it, "
                "or choose another output name.",
                code="busy",
            ) from None
        if _same_file(folder / "lock", handle):
            with suppress(OSError):  # for the message above only; on a full disk it stays empty
                os.truncate(handle, 0)
                os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
            return handle
        os.close(handle)  # a lock on a file that is gone protects nothing


def _same_file(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _exists(output: Path) -> NoSpaceError:
    return NoSpaceError(
        f"{output} is there already. Choose another output name, or replace it with --force.", code="exists"
    )


def _write_json(path: Path, data: Mapping[str, Any], indent: int | None = None) -> None:
    write_bytes(path, json.dumps(data, indent=indent).encode())
