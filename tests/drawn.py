"""Drawn clips with known mouths, and real video files of them, for tests."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
import torch

from training.portraits import babble, identities, mouth_geometry, poses, render

SIZE = 192


@dataclass(frozen=True)
class Drawn:
    """Clips (N, F, H, W, 3) uint8 with their truth (N, F) in picture heights."""

    frames: torch.Tensor
    opening: np.ndarray
    width: np.ndarray
    rounding: np.ndarray
    mouth: torch.Tensor  # (N, F, 6)


def draw_clips(seeds: list[int], frames: int, *, start: int = 30, mouth: torch.Tensor | None = None) -> Drawn:
    """Render the lower part of the face (what measuring looks at); the rest stays grey, to save time."""
    seed = torch.tensor(seeds)
    who, pose = identities(seed), poses(seed, frames, start_frame=start)
    mouth = babble(seed, frames, start) if mouth is None else mouth
    top, bottom, left, right = (round(share * SIZE) for share in (0.42, 0.98, 0.20, 0.80))
    whole = torch.full((len(seeds), frames, SIZE, SIZE, 3), 128, dtype=torch.uint8)
    with torch.inference_mode():
        for i in range(len(seeds)):
            one = slice(i, i + 1)
            part = render(who[one], pose[one], mouth[one], SIZE, crop=(top, bottom, left, right))[0]
            whole[i, :, top:bottom, left:right] = (part * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    truth = mouth_geometry(who, pose, mouth, SIZE)
    return Drawn(
        whole,
        (truth.opening / SIZE).numpy(),
        (truth.width / SIZE).numpy(),
        truth.rounding.numpy(),
        mouth,
    )


def voice_for(opening: np.ndarray, rate: int = 16_000) -> np.ndarray:
    """A buzzing tone (S,) as loud as the mouth is open."""
    level = np.clip(opening / max(float(opening.max()), 1e-6), 0, 1)
    times = np.arange(len(level) * rate // 25) / rate
    loud = np.interp(times * 25 - 0.5, np.arange(len(level)), level)
    tone = sum(np.sin(2 * np.pi * 120 * k * times) / k for k in range(1, 8))
    return (0.3 * loud * tone).astype(np.float32)


@cache
def espeak():
    """The one espeak-ng engine of this process: starting it twice can hang."""
    from training.speech.espeak import Espeak

    return Espeak()


def speak(text: str, voice: str, lead: float = 0.3) -> tuple[np.ndarray, torch.Tensor]:
    """A voice of espeak-ng: sound (S,) at 16 kHz after some silence, and the mouth (F, 6) that goes with it."""
    from training.speech.espeak import Prosody
    from training.speech.phones import Phone
    from training.speech.tracks import classes_at, mouth_track, settle, speech_level, to_frames
    from training.speech.utterance import level_out

    spoken = espeak().speak(text, voice, Prosody())
    silence = np.zeros(round(lead * 16_000), np.float32)
    sound = np.concatenate((silence, spoken.sound, silence))
    frames = len(sound) // 640
    sound = level_out(sound[: frames * 640])
    level = speech_level(sound)
    phones = [Phone(phone.start + lead, phone.stop + lead, phone.name) for phone in spoken.phones]
    track = mouth_track(settle(classes_at(phones, len(level)), level), level)
    return sound, torch.from_numpy(to_frames(track.mouth, frames)).float()


def write_video(
    path: Path,
    frames: np.ndarray,
    voice: np.ndarray | None = None,
    *,
    rate: int = 16_000,
    crf: int = 20,
    fps: int = 25,
) -> Path:
    """Encode H.264 and AAC into an mp4."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=fps, options={"crf": str(crf), "preset": "veryfast"})
        video.height, video.width, video.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        sound = container.add_stream("aac", rate=rate, layout="mono") if voice is not None else None
        for index, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound is not None:
            for start in range(0, len(voice), 1024):
                block = av.AudioFrame.from_ndarray(
                    voice[None, start : start + 1024], format="fltp", layout="mono"
                )
                block.sample_rate, block.pts, block.time_base = rate, start, Fraction(1, rate)
                container.mux(sound.encode(block))
            container.mux(sound.encode(None))
    return path
