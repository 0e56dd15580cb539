"""What a service accepts: length of the queue, of videos, and sizes."""

from __future__ import annotations

from dataclasses import dataclass

from infinite_talk.errors import LimitError
from infinite_talk.jobs.types import Checked


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Caps of one service; ``None`` means that there is none."""

    queued: int | None = 100
    """Jobs that wait, run or are paused."""
    seconds: float | None = 3600.0
    """Length of one video."""
    pixels: int | None = 1280 * 1280
    """Of one frame of the video."""
    upload_bytes: int | None = 2 * 1024**3
    """Of all media of one job together."""
    free_bytes: int = 1024**3
    """Left on the disk when a job is accepted."""

    def check(self, checked: Checked) -> None:
        """Refuse a video that is too long or too large.

        Raises:
            LimitError: ``video_too_long`` or ``video_too_large``.
        """
        if self.seconds is not None and checked.seconds > self.seconds:
            raise LimitError(
                f"The video would last {checked.seconds:.1f} s; at most {self.seconds:g} s are accepted here. "
                "Shorten the recording, or set audio_end.",
                code="video_too_long",
            )
        pixels = checked.width * checked.height
        if self.pixels is not None and pixels > self.pixels:
            raise LimitError(
                f"The picture would be {checked.width}x{checked.height}, {pixels} pixels; at most "
                f"{self.pixels} are accepted here. Choose a smaller size.",
                code="video_too_large",
            )

    def check_bytes(self, count: int) -> None:
        """Refuse media that are too large; called while they arrive, with the bytes so far.

        Raises:
            LimitError: ``upload_too_large``.
        """
        if self.upload_bytes is not None and count > self.upload_bytes:
            raise LimitError(
                f"The files are larger than {self.upload_bytes} bytes together, the most that is accepted here.",
                code="upload_too_large",
            )
