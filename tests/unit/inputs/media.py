"""Small media files for tests: sounds by ``struct``, everything else by PyAV."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

PCM, FLOAT, MULAW = 1, 3, 7


def tone(seconds: float, rate: int = 16_000, pitch: float = 220.0, level: float = 0.3) -> np.ndarray:
    """A speech-like sound: a few harmonics, four syllables per second. ``(samples,)`` float64."""
    time = np.arange(round(seconds * rate)) / rate
    voice = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 6))
    return level * voice / 2 * (0.55 + 0.45 * np.sin(2 * np.pi * 4 * time))


def write_wav(
    path: Path, samples: np.ndarray, rate: int = 16_000, *, bits: int = 16, kind: int = PCM, declared=None
) -> Path:
    """Write ``(n,)`` or ``(n, channels)`` samples."""
    samples = samples if samples.ndim == 2 else samples[:, None]
    data = samples.tobytes() if kind == MULAW else _coded(samples, bits, kind)
    size = len(data) if declared is None else declared
    channels = samples.shape[1]
    width = bits // 8
    header = struct.pack(
        "<IHHIIHH", 16, kind, channels, rate, rate * channels * width, channels * width, bits
    )
    riff = min(36 + size, 0xFFFFFFFF)
    path.write_bytes(
        b"RIFF" + struct.pack("<I", riff) + b"WAVEfmt " + header + b"data" + struct.pack("<I", size) + data
    )
    return path


def _coded(samples: np.ndarray, bits: int, kind: int) -> bytes:
    if kind == FLOAT:
        return samples.astype(f"<f{bits // 8}").tobytes()
    scaled = np.clip(np.round(samples * 2 ** (bits - 1)), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    if bits == 8:
        return (scaled + 128).astype(np.uint8).tobytes()
    if bits == 24:
        return scaled.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    return scaled.astype(f"<i{bits // 8}").tobytes()


def encode(
    path: Path,
    *,
    pictures=(),
    rate: Fraction | int = 25,
    pts=None,
    video_codec: str = "libx264",
    pixels: str = "yuv420p",
    video_options=None,
    aspect: Fraction | None = None,
    rotation: int | None = None,
    sounds=(),
    sound_rate: int = 48_000,
    audio_codec: str = "aac",
    options=None,
    container_format: str | None = None,
    prepare=None,
) -> Path:
    """Write one video stream, if there are ``pictures``, and one audio stream per sound ``(n, channels)``.

    ``pts`` gives the time of each picture in 1/1000 s; ``prepare(stream)`` may set more of the video stream.
    """
    layouts = {1: "mono", 2: "stereo", 6: "5.1"}
    with av.open(str(path), "w", format=container_format, options=options or {}) as container:
        video = None
        if len(pictures):
            video = container.add_stream(video_codec, rate=rate, options=video_options or {})
            video.height, video.width = pictures[0].shape[:2]
            video.pix_fmt = pixels
            if pts is not None:
                video.codec_context.time_base = Fraction(1, 1000)
            if aspect is not None:
                video.codec_context.sample_aspect_ratio = aspect
            if rotation is not None:
                video.set_display_rotation(rotation)
            if prepare is not None:
                prepare(video)
        audio = [
            container.add_stream(
                audio_codec, rate=sound_rate, layout={1: "mono", 2: "stereo", 6: "5.1"}[s.shape[1]]
            )
            for s in sounds
        ]
        if video is not None:
            _encode_pictures(container, video, pictures, pts)
        for stream, sound in zip(audio, sounds, strict=True):
            _encode_sound(container, stream, sound, sound_rate, layouts[sound.shape[1]])
    return path


def _encode_pictures(container, stream, pictures, pts):
    for index, picture in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        if pts is not None:
            frame.pts, frame.time_base = pts[index], Fraction(1, 1000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def _encode_sound(container, stream, sound, rate, layout):
    frame = av.AudioFrame.from_ndarray(
        np.ascontiguousarray(sound.reshape(1, -1), np.float32), format="flt", layout=layout
    )
    frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
    container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def numbered(count: int, height: int = 64, width: int = 96) -> list[np.ndarray]:
    """Pictures that show their number as grey ``40 + 8 * (number % 25)``, and a bright top left corner."""
    pictures = []
    for number in range(count):
        picture = np.full((height, width, 3), 40 + 8 * (number % 25), np.uint8)
        picture[: height // 4, : width // 4] = 255
        pictures.append(picture)
    return pictures


def number_of(picture: np.ndarray) -> int:
    """The number of a ``numbered`` picture, modulo 25."""
    height, width = picture.shape[:2]
    return round((float(picture[height // 2 :, width // 2 :].mean()) - 40) / 8)
