"""The nouns that rooms hand to each other, and the legend of shape letters.

Shapes everywhere: B batch, P people, F video frames, T latent frames (``T = 1 + (F - 1) / 4``), C channels,
H W pixel or latent height and width, L tokens, D width, K layers of the speech encoder.
Pictures between rooms are float in [-1, 1] and channel-first unless a comment says ``uint8``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # the rooms that read inputs and plan windows start without loading torch
    import torch

FPS = 25
"""Frames per second of the model: one speech feature vector per video frame."""
SPEECH_RATE = 16_000
"""Samples per second of the speech encoder."""
TEMPORAL_STRIDE = 4
SPATIAL_STRIDE = 8


@dataclass(frozen=True, slots=True)
class Size:
    """Pixels of the generated picture; both multiples of 16."""

    height: int
    width: int

    @property
    def latent(self) -> tuple[int, int]:
        """Latent height and width."""
        return self.height // SPATIAL_STRIDE, self.width // SPATIAL_STRIDE


class Pictures(Protocol):
    """The source picture by output frame number: an image repeats, a video is resampled to 25 fps by time."""

    @property
    def still(self) -> bool:
        """True when every frame is the same picture."""
        ...

    def __getitem__(self, frame: int) -> NDArray[np.uint8]:
        """RGB picture ``(H, W, 3)`` shown at ``frame``; beyond the end by the documented rule."""
        ...


class Soundtrack(Protocol):
    """What the viewer hears: the original recording(s) mixed, read anew from the files in bounded memory."""

    @property
    def rate(self) -> int:
        """Samples per second: the original's, the highest one among several people."""
        ...

    @property
    def channels(self) -> int:
        """The original's, the largest number among several people."""
        ...

    @property
    def samples(self) -> int:
        """Exact length, padded or cut to the video's: ``round(frames * rate / 25)``."""
        ...

    def blocks(self, start: int = 0, end: int | None = None) -> Iterator[NDArray[np.float32]]:
        """Sample numbers ``start`` to ``end`` in order, as ``(n, channels)`` in -1..1, about a second each.

        Every call decodes the files again from their beginning, with the same result: read it in one pass.
        """
        ...


@dataclass(frozen=True, slots=True)
class Source:
    """Decoded and checked media of one request; still on the CPU, nothing model-specific in it."""

    pictures: Pictures
    source_size: tuple[int, int]  # height, width of the upright source picture
    size: Size  # what will be generated
    speech: tuple[NDArray[np.float32], ...]  # per person, 16 kHz mono, loudness-normalised, equally long
    soundtrack: Soundtrack
    frames: int  # length of the output in frames at 25 fps
    masks: NDArray[np.bool_]  # (P + 1, source H, source W): each person, then the background
    cuts: tuple[int, ...] = ()  # output frames at which a new scene begins (never 0)
    notes: tuple[str, ...] = ()  # one honest line each: what was changed or guessed


@dataclass(frozen=True, slots=True)
class Window:
    """One pass of the model over ``frames`` frames of the time line. Integers only."""

    index: int
    start: int  # first frame of the time line that this window covers
    frames: int  # F, 4n + 1
    overlap: int  # frames taken over from the window before; 0 at the start of a shot
    new: int  # frames this window adds to the video (after the overlap), tail cut at the video's end
    reference: int  # source frame whose picture conditions this window

    @property
    def motion(self) -> int:
        """Frames held fixed while denoising: the overlap, or the reference picture alone."""
        return self.overlap or 1

    @property
    def motion_latents(self) -> int:
        """Latent frames held fixed."""
        return 1 + (self.motion - 1) // TEMPORAL_STRIDE


@dataclass(frozen=True, slots=True)
class Plan:
    """All windows of a video of ``length`` frames; the ``new`` of the windows add up to it."""

    windows: tuple[Window, ...]
    length: int

    @property
    def shown(self) -> Plan:
        """Without windows that add nothing; the official program makes such at the end of some videos."""
        return Plan(tuple(window for window in self.windows if window.new), self.length)


@dataclass(frozen=True, slots=True)
class Conditioning:
    """What is constant for the whole video, computed once."""

    prompts: tuple[torch.Tensor, ...]  # each (L, D text), one per prompt of the request
    negative: torch.Tensor  # (L, D text)
    speech: tuple[torch.Tensor, ...]  # per person (features, K, D speech)
    hearing: tuple[
        tuple[torch.Tensor, ...], ...
    ]  # per window and person (F, 5): numbers of the features heard
    token_masks: torch.Tensor  # (P + 1, latent H, latent W) in {0, 1}
    notes: tuple[str, ...] = ()  # one line for each text that was cut


@dataclass(frozen=True, slots=True)
class Guide:
    """What one window must obey."""

    text: torch.Tensor  # (L, D text)
    negative: torch.Tensor  # (L, D text)
    image: torch.Tensor  # (257, D image): CLIP features of the reference picture
    reference: torch.Tensor  # (20, T, H, W): 4 mask channels, 16 latent channels of the reference picture
    speech: torch.Tensor  # (P, F, 5, K, D speech)
    token_masks: torch.Tensor  # (P + 1, H, W)
    motion: torch.Tensor  # (16, motion latents, H, W): held fixed while denoising
    negative_image: torch.Tensor | None = None  # (257, D image): beside the negative prompt; None: image

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """``(16, T, H, W)`` of the latent that this guide is for."""
        return self.motion.shape[0], *self.reference.shape[1:]


@dataclass(frozen=True, slots=True)
class Clip:
    """The frames one window adds to the video, finished."""

    window: Window
    frames: torch.Tensor  # uint8 (new, H, W, 3)
    motion: torch.Tensor  # float32 (3, motion frames, H, W): what the next window continues from
    seconds: float = 0.0  # wall time spent
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Steps that a step cache left out, by guidance branch; empty without one."""
    memory: int | None = None
    """Bytes at the worst moment, on the GPU or of this process; ``None`` where the system does not tell."""


def frame_time(frame: int) -> Fraction:
    """Presentation time of a frame in seconds, exact."""
    return Fraction(frame, FPS)


def latent_frames(frames: int) -> int:
    """Latent frames of ``frames`` video frames."""
    return 1 + (frames - 1) // TEMPORAL_STRIDE


__all__ = [
    "FPS",
    "SPATIAL_STRIDE",
    "SPEECH_RATE",
    "TEMPORAL_STRIDE",
    "Clip",
    "Conditioning",
    "Guide",
    "Pictures",
    "Plan",
    "Size",
    "Soundtrack",
    "Source",
    "Window",
    "frame_time",
    "latent_frames",
]
