"""``PageOptions``: what the page is told when it is built; it reads no environment and no file by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr

import infinite_talk
from infinite_talk import Request, Settings
from infinite_talk.frontends.web.finding import Findings
from infinite_talk.jobs.checking import Checker
from infinite_talk.jobs.node_options import NodeOptions

FPS = NodeOptions().fps
"""Pictures of a second of video, unless options say otherwise."""
_EMBEDDED = Path(infinite_talk.__file__).parent / "bundled" / "embedded"


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run will take, as far as that is known before it begins."""

    width: int
    height: int
    video_seconds: float
    seconds: float | None = None
    """That making it takes; ``None``: nobody can say."""
    memory: float | None = None
    """Bytes at the peak, on the device that runs it."""


@dataclass(frozen=True, slots=True)
class Section:
    """A tab of the page that another module builds."""

    id: str
    label: str
    """Key in the catalogue."""
    build: Callable[[gr.Tab, gr.Timer | None], None]
    """Makes the components of the tab, which it is given; called within it. The timer ticks while the tab is open."""
    every: float | None = None
    """Seconds between two ticks; ``None``: there is no timer."""


@dataclass(frozen=True, slots=True)
class More:
    """Options of a video that another module knows; they stand below those of the tab Create."""

    build: Callable[[], Mapping[str, Any]]
    """Makes their components, by name."""
    arguments: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    """Their values by name become further arguments of ``Desk.submit``; raises ``UsageError``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageOptions:
    """Where things are, and who answers what the desk does not."""

    uploads: Path
    """Folder of files that came over the page. Nothing else is ever read for a visitor, and all of it is served."""
    checker: Checker = field(default_factory=Checker)
    """Opens dropped files, in a process of its own."""
    estimate: Callable[[Request, Settings | str, Findings, NodeOptions], Estimate] | None = None
    """Time and memory of a request, of what was found in its files; ``None``: only its size and length are told."""
    more: More | None = None
    """Further options of a video."""
    videos: str = "/v1/videos"
    """Where the HTTP interface serves jobs, as seen from the browser."""
    max_upload: int | None = 2 * 1024**3
    """Bytes of one file."""
    sections: tuple[Section, ...] = ()
    """Tabs after the gallery."""
    sample_picture: Path = _EMBEDDED / "portrait.png"
    sample_voice: Path = _EMBEDDED / "speech.flac"
    every: float = 1.0
    """Seconds between two looks at the jobs."""
