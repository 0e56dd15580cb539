"""AUDIO, ``{"waveform": [B, C, S], "sample_rate": Hz}``: from files, to soundtracks, in parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import soxr
import torch
from numpy.typing import NDArray

from infinite_talk.errors import InputError, UsageError
from infinite_talk.inputs.files import shown
from infinite_talk.inputs.recording import Tally, blocks, open_recording

Audio: TypeAlias = Mapping[str, Any]


def read_audio(
    path: Path, *, start: float = 0.0, end: float | None = None, max_seconds: float
) -> dict[str, Any]:
    """All channels of a recording at its own rate, ``[1, C, S]`` float32.

    Args:
        path: any audio or video file.
        start: seconds left out at the beginning.
        end: second at which it is cut; ``None`` for its end.
        max_seconds: longest sound that is read.

    Raises:
        InputError: see ``open_recording``; ``audio_too_long``, ``audio_trim``.
    """
    recording = open_recording(path, start=start, end=end)
    kept: list[NDArray[np.float32]] = []
    samples = 0
    for block in blocks(recording, Tally()):
        kept.append(block)
        samples += len(block)
        if samples > max_seconds * recording.rate:
            raise InputError(
                f"{shown(path)} has more than {max_seconds:.0f} s of sound. Cut it.", code="audio_too_long"
            )
    if not kept:
        raise InputError(f"{shown(path)}: starting at {start:g} s leaves nothing of it.", code="audio_trim")
    waveform = np.ascontiguousarray(np.concatenate(kept).T)
    return {"waveform": torch.from_numpy(waveform)[None], "sample_rate": recording.rate}


def samples_of(audio: Any) -> tuple[torch.Tensor, int]:  # noqa: ANN401 - what a link brings
    """Waveform ``[C, S]`` of the first item, and its rate.

    Raises:
        UsageError: no AUDIO.
    """
    if not isinstance(audio, Mapping) or not {"waveform", "sample_rate"} <= set(audio):
        raise UsageError(
            f"Sound came as {type(audio).__name__}; expected a table with waveform [B, C, S] and sample_rate."
        )
    waveform, rate = audio["waveform"], int(audio["sample_rate"])
    if waveform.ndim != 3 or rate < 1 or not waveform.shape[0]:
        raise UsageError(f"A waveform of {tuple(waveform.shape)} at {rate} Hz; expected [B, C, S].")
    return waveform[0].detach().float().cpu(), rate


def seconds_of(audio: Audio) -> float:
    """Its length."""
    waveform, rate = samples_of(audio)
    return waveform.shape[1] / rate


def cut(audio: Audio, start: float, end: float) -> dict[str, Any]:
    """The part between two times in seconds.

    Raises:
        UsageError: nothing is between them.
    """
    waveform, rate = audio["waveform"], int(audio["sample_rate"])
    first, last = round(start * rate), min(round(end * rate), waveform.shape[-1])
    if not 0 <= first < last:
        raise UsageError(
            f"The sound lasts {waveform.shape[-1] / rate:.2f} s; nothing lies between {start:g} s and {end:g} s."
        )
    return {"waveform": waveform[..., first:last], "sample_rate": rate}


def resampled(waveform: torch.Tensor, rate: int, wanted: int) -> torch.Tensor:
    """``[C, S]`` at another rate (soxr HQ)."""
    if rate == wanted:
        return waveform
    converted = soxr.resample(np.ascontiguousarray(waveform.numpy().T), rate, wanted, quality="HQ")
    return torch.from_numpy(np.ascontiguousarray(converted.T))


@dataclass(frozen=True, slots=True)
class WaveformTrack:
    """A ``types.Soundtrack`` over samples in memory."""

    waveform: torch.Tensor  # [C, S]
    rate: int

    @property
    def channels(self) -> int:
        """How many."""
        return int(self.waveform.shape[0])

    @property
    def samples(self) -> int:
        """Per channel."""
        return int(self.waveform.shape[1])

    def blocks(self, start: int = 0, end: int | None = None) -> Iterator[NDArray[np.float32]]:
        """``(n, channels)`` in -1..1, a second each."""
        end = self.samples if end is None else min(end, self.samples)
        for at in range(start, end, self.rate):
            part = self.waveform[:, at : min(at + self.rate, end)]
            yield part.clamp(-1, 1).T.contiguous().numpy()
