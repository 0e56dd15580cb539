"""What can be seen of a job: its finished windows while the rest is made, and pictures of its finished video.

Everything is made when it is first asked for. User's media are opened by the checking process only; this one reads what
this program has written.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Lock
from weakref import WeakValueDictionary

from infinite_talk.errors import JobActionError
from infinite_talk.jobs.checking import Checker
from infinite_talk.jobs.types import DataFolder, Job
from infinite_talk.media.growing import (
    Growth,
    Piece,
    codecs_of,
    fragment,
    growth_of,
    initialisation,
    playlist,
)
from infinite_talk.media.stills import write_sprite_sheet, write_thumbnail

SOUND = "preview-sound.mp4"
THUMBNAIL = "thumbnail.webp"
SPRITE_SHEET = "spritesheet.jpg"


class Previews:
    """Safe to use from several threads; what is made once is kept in the job's folder.

    Args:
        folder: where jobs lie.
        checker: whose process opens the recordings.
    """

    def __init__(self, folder: DataFolder, checker: Checker) -> None:
        self._folder, self._checker = folder, checker
        self._guard = Lock()
        self._making: WeakValueDictionary[Path, _Turn] = WeakValueDictionary()

    def growth(self, job: Job) -> Growth:
        """Which windows of a job are finished."""
        return growth_of(self._folder.video(job.id))

    def initialisation(self, job: Job, frames: int) -> bytes:
        """What a player needs before the first piece, of a film of ``frames`` frames.

        Raises:
            JobActionError: ``not_ready``, no window is finished.
            TakeError: likewise, when files go at this moment.
            InputError, NoSpaceError: of the sound.
        """
        return initialisation(self._folder.video(job.id), self._sound(job), frames)

    def fragment(self, job: Job, piece: Piece) -> bytes:
        """The pictures and the sound of one window.

        Raises:
            TakeError: ``not_ready``, it is not there.
            InputError, NoSpaceError: of the sound.
        """
        return fragment(self._folder.video(job.id), self._sound(job), piece)

    def thumbnail(self, job: Job) -> Path:
        """A WebP picture of a finished video.

        Raises:
            JobActionError: ``not_ready``.
        """
        return self._still(job, THUMBNAIL, write_thumbnail)

    def sprite_sheet(self, job: Job) -> Path:
        """A JPEG picture of many frames of a finished video; see ``stills.write_sprite_sheet``.

        Raises:
            JobActionError: ``not_ready``.
        """
        return self._still(job, SPRITE_SHEET, write_sprite_sheet)

    def _still(self, job: Job, name: str, write: Callable[[Path, Path], None]) -> Path:
        video, path = self._folder.video(job.id), self._folder.of(job.id) / name
        if not video.is_file():
            raise _not_ready(job)
        return self._once(path, lambda: write(video, path))

    def _sound(self, job: Job) -> Path | None:
        """The sound that the finished video will have, or the video itself when it is there."""
        video = self._folder.video(job.id)
        if video.is_file():
            return video
        growth = growth_of(video)
        if not growth.pieces:
            raise _not_ready(job)
        folder = self._folder.of(job.id)
        path = folder / SOUND
        order = job.order
        return self._once(
            path,
            lambda: self._checker.soundtrack(folder, order.request, order.settings, growth.frames, path),
        )

    def _once(self, path: Path, make: Callable[[], object]) -> Path:
        """Make a file, unless it is there; those who ask meanwhile wait."""
        if path.is_file():
            return path
        with self._guard:
            turn = self._making.setdefault(path, _Turn())
        with turn.lock:
            if not path.is_file():
                make()
        return path


class _Turn:
    """One file that is being made."""

    def __init__(self) -> None:
        self.lock = Lock()


def _not_ready(job: Job) -> JobActionError:
    return JobActionError(
        f"There is nothing to see of {job.id} yet: it is {job.state}. Ask again later.", code="not_ready"
    )


__all__ = ["Growth", "Piece", "Previews", "codecs_of", "playlist"]
