"""Speech: features of the whole recording, computed once, then cut into windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from infinite_talk.plan.speech import REACH, official_speech_indices, speech_indices
from infinite_talk.request import Compat
from infinite_talk.rooms import Rooms
from infinite_talk.types import FPS, SPEECH_RATE, Plan, Source, Window

HOST = torch.device("cpu")


def speech_frames(samples: int) -> int:
    """Speech features of a recording: one per video frame, a broken last one dropped.

    In floating point as the official program has it, which for some lengths drops one more.
    """
    return int(samples / SPEECH_RATE * FPS)


@torch.inference_mode()
def encode_speech(
    source: Source,
    plan: Plan,
    compat: Compat,
    rooms: Rooms,
    between: Callable[[], object] = lambda: None,
) -> tuple[torch.Tensor, ...]:
    """Features of each person, ``(frames, K, D)``, in the host's memory: an hour of speech is 3.3 GB.

    The last window usually reaches beyond the recording. What the model hears there is silence, added to the
    waveform, so that the mouth comes to rest. (The official program plays the last features backwards.)
    """
    last = plan.windows[-1]
    heard = last.start + last.frames + REACH
    features = []
    with rooms.using(rooms.speech) as encoder:
        for waveform in source.speech:
            if compat is Compat.OFFICIAL:
                sound = torch.from_numpy(waveform)[None].to(rooms.device)
                features.append(encoder(sound, speech_frames(len(waveform)))[0].to(HOST))
            else:
                sound = torch.from_numpy(_fit(waveform, heard * SPEECH_RATE // FPS))[None].to(rooms.device)
                features.append(encoder.encode_long(sound, heard, home=HOST, between=between)[0])
    return tuple(features)


def listen(
    features: Sequence[torch.Tensor], plan: Plan, compat: Compat
) -> tuple[tuple[torch.Tensor, ...], ...]:
    """For each window and person the numbers ``(F, 5)`` of the features that the model hears."""

    def numbers(window: Window, length: int) -> torch.Tensor:
        if compat is Compat.OFFICIAL:
            return torch.from_numpy(official_speech_indices(plan, window, length))
        return torch.from_numpy(speech_indices(window, length))

    return tuple(tuple(numbers(window, len(own)) for own in features) for window in plan.windows)


def speech_window(features: Sequence[torch.Tensor], hearing: Sequence[torch.Tensor]) -> torch.Tensor:
    """What the model hears in a window, ``(P, F, 5, K, D)``: each frame with two neighbours on either side."""
    return torch.stack([own[at.to(own.device)] for own, at in zip(features, hearing, strict=True)])


def _fit(waveform: NDArray[np.float32], samples: int) -> NDArray[np.float32]:
    """Cut to ``samples``, or continue with silence."""
    return np.pad(waveform[:samples], (0, max(0, samples - len(waveform))))
