"""Under which name a video is saved: its title or its picture's name, and the day, rather than the id of a job."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from urllib.parse import quote

from infinite_talk.jobs import Job

LONGEST = 60
"""Characters of a title in a name; file systems take 255 bytes, and a Chinese character has three."""


def video_name(job: Job, ending: str = ".mp4") -> str:
    """``"Anna 2026-11-26.mp4"``: letters, digits, blanks, ``-``, ``_`` and ``.`` of any script."""
    day = (job.finished or job.created).strftime("%Y-%m-%d")
    name = re.sub(r"[^\w .-]+", "-", job.order.title.strip() or _picture(job))
    name = " ".join(name.split())[:LONGEST].strip(" .-")
    return f"{name or 'video'} {day}{ending}"


def disposition(name: str) -> str:
    """The header ``Content-Disposition`` of a file that is shown and may be saved (RFC 6266, RFC 8187).

    The name comes twice: in ASCII for those that know no better, and as it is. Nothing in it can end the header.
    """
    letters = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    plain = " ".join(re.sub(r"[^A-Za-z0-9 ._-]+", "", letters).split()).lstrip(" .-")
    return f"inline; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _picture(job: Job) -> str:
    """What its owner called the picture or the film."""
    names = {Path(file.path).stem: file.name for file in job.order.files}
    return Path(next((names[role] for role in ("image", "video") if names.get(role)), "")).stem
