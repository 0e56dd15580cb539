"""Nodes that cut and join sound."""

from __future__ import annotations

from typing import Any

import torch

from infinite_talk.errors import UsageError
from infinite_talk.nodes.declare import Inputs, checked, choice, link, number, words
from infinite_talk.nodes.helpers.waveforms import cut, resampled, samples_of, seconds_of


class TrimAudioDuration:
    """A part of a sound."""

    RETURN_TYPES = ("AUDIO",)
    FUNCTION = "trim"
    CATEGORY = "audio"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802 - ComfyUI's name
        """The sound and the part."""
        return {
            "required": {
                "audio": link("AUDIO"),
                "start_index": number(0.0, -1e7, 1e7, 0.01),
                "duration": number(60.0, 0.0, step=0.01),
            }
        }

    @checked()
    def trim(self, audio: dict[str, Any], start_index: float, duration: float) -> tuple[dict[str, Any]]:
        """From ``start_index`` seconds on (negative: counted from the end), ``duration`` seconds at most."""
        start = start_index if start_index >= 0 else max(0.0, seconds_of(audio) + start_index)
        return (cut(audio, start, start + duration),)


class AudioCrop:
    """A part of a sound between two times on the clock."""

    RETURN_TYPES = ("AUDIO",)
    FUNCTION = "main"
    CATEGORY = "audio"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        """The sound and the times, ``1:30``."""
        return {
            "required": {"audio": link("AUDIO")},
            "optional": {"start_time": words("0:00"), "end_time": words("1:00")},
        }

    @checked()
    def main(
        self, audio: dict[str, Any], start_time: str = "0:00", end_time: str = "1:00"
    ) -> tuple[dict[str, Any]]:
        """The part; an end behind the sound's, or of 0:00, is the sound's own."""
        end = clock(end_time)
        return (cut(audio, clock(start_time), end if end > 0 else seconds_of(audio)),)


def clock(text: str) -> float:
    """Seconds of ``90``, ``1:30``, ``0:01:30.5``.

    Raises:
        UsageError: no time.
    """
    try:
        parts = [float(part) for part in text.strip().split(":")]
        if not 1 <= len(parts) <= 3 or not all(part >= 0 for part in parts):
            raise ValueError
    except ValueError as error:
        raise UsageError(f"The time {text!r}; give seconds, or minutes and seconds such as 1:30.") from error
    seconds = 0.0
    for part in parts:
        seconds = seconds * 60 + part
    return seconds


class AudioConcat:
    """One sound after another."""

    RETURN_TYPES = ("AUDIO",)
    FUNCTION = "concatenate"
    CATEGORY = "audio"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        """The sounds."""
        return {
            "required": {
                "audio1": link("AUDIO"),
                "audio2": link("AUDIO"),
                "direction": choice(("after", "before")),
            }
        }

    @checked()
    def concatenate(
        self, audio1: dict[str, Any], audio2: dict[str, Any], direction: str = "after"
    ) -> tuple[dict[str, Any]]:
        """Both at the higher rate and the larger number of channels."""
        first, second = (audio1, audio2) if direction == "after" else (audio2, audio1)
        waveforms, rate = alike([first, second])
        return ({"waveform": torch.cat(waveforms, dim=-1)[None], "sample_rate": rate},)


def alike(sounds: list[dict[str, Any]]) -> tuple[list[torch.Tensor], int]:
    """``[C, S]`` of several sounds at the highest rate and the largest number of channels among them."""
    read = [samples_of(sound) for sound in sounds]
    rate = max(rate for _, rate in read)
    channels = max(waveform.shape[0] for waveform, _ in read)
    found = []
    for waveform, own in read:
        converted = resampled(waveform, own, rate)
        repeats = channels if converted.shape[0] == 1 else 1
        converted = converted.repeat(repeats, 1)
        found.append(torch.nn.functional.pad(converted, (0, 0, 0, channels - converted.shape[0])))
    return found, rate


class GetAudioDuration:
    """``Audio Duration`` of several packs."""

    RETURN_TYPES = ("FLOAT",)
    RETURN_NAMES = ("seconds",)
    FUNCTION = "measure"
    CATEGORY = "audio"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        """The sound."""
        return {"required": {"audio": link("AUDIO")}}

    def measure(self, audio: dict[str, Any]) -> tuple[float]:
        """Its length in seconds."""
        return (seconds_of(audio),)
