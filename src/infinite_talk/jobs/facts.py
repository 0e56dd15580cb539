"""What is known of a file once it has been checked: small values that pages and answers show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from infinite_talk.jobs.node_options import NodeOptions


@dataclass(frozen=True, slots=True)
class Crop:
    """The part of an upright source picture that the video shows, in its pixels."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureFacts:
    """An image or a film."""

    format: str
    """Pillow's or FFmpeg's name of what the content is, whatever the file is called."""
    bytes: int
    width: int  # upright, square pixels
    height: int
    output_width: int
    output_height: int
    crop: Crop
    moving: bool
    """Whether it is a film."""
    seconds: float | None = None
    """Films only: the length that the file declares."""
    rate: float | None = None
    """Films only: pictures per second."""
    sound: bool = False
    """Whether it has an audio stream, so that it can be the voice too."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SoundFacts:
    """A recording, decoded to its end."""

    format: str
    bytes: int
    seconds: float
    """After trimming."""
    rate: int
    channels: int
    loudness: float | None
    """LUFS as recorded; ``None`` for silence (nothing above -70)."""
    peak: float
    """1 is full scale."""
    outline: tuple[float, ...]
    """Loudest sample of each of ``OUTLINE`` equal parts, 0..1, for drawing."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SoundtrackFacts:
    """The sound that a video will have, written as a file of its own."""

    rate: int
    channels: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeFacts:
    """What a video was made with, from its metadata or the JSON file beside it."""

    request: Mapping[str, Any]
    """Of the recipe: a request as JSON, its files named by their hashes. Anybody may have written it."""
    options: NodeOptions = field(default_factory=NodeOptions)
    """What the nodes were asked for beyond the request."""
    inputs: tuple[str, ...] = ()
    """What the files were called."""
