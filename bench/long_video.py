"""Does a long video cost no more memory, and no more time per window, than a short one, and stay in step?

python -m bench.long_video --minutes 10                  # on the CPU
python -m bench.long_video --minutes 10 --device cuda    # on a GPU, writes long_video_cuda.json
"""

from __future__ import annotations

import tempfile
import wave
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
import torch

from bench.common import RATE, RESULTS, SAMPLES, parser, save, speech
from bench.sounds import delay, heard, lengths, write_wav
from infinite_talk import Engine, Phase, Progress, Request, Settings, Speaker
from infinite_talk.settings import Device

FIRST_MINUTE = 60.0
COMPARED = 5.0
"""Seconds of sound that are compared at the start, in the middle and at the end."""


@dataclass(frozen=True)
class LongVideo:
    """What was measured."""

    frames: int
    expected_frames: int
    windows: int
    video_seconds: float
    sound_seconds: float
    delays: dict[str, float]  # of the sound, in seconds
    memory_after_first_minute: int  # bytes resident when 60 s of video were finished
    memory_peak_later: int  # the most that was seen after a window from then on
    memory_at_end: int  # after the file was complete
    gpu_memory_after_first_minute: int  # bytes that torch holds on the GPU; 0 without one
    gpu_memory_peak_later: int
    seconds_per_window_early: float  # median of the first tenth
    seconds_per_window_late: float  # median of the last tenth
    slope: float  # by which share of the median a window takes longer than the one before; a line through all
    seconds: float

    @property
    def growth(self) -> float:
        """Memory in the end, or at its peak if that is higher, against that after the first minute."""
        return max(self.memory_peak_later, self.memory_at_end) / self.memory_after_first_minute

    @property
    def gpu_growth(self) -> float | None:
        """The same on the GPU, if there is one."""
        if not self.gpu_memory_after_first_minute:
            return None
        return self.gpu_memory_peak_later / self.gpu_memory_after_first_minute


def make_long_video(request: Request, settings: Settings, output: Path) -> LongVideo:
    """Make the video of a mono WAV file in this process and look at both."""
    engine, resident = Engine(settings), Resident()
    result = engine.write(request, output, progress=resident.listen)
    pace = result.timings.windows
    tenth = max(1, len(pace) // 10)
    # Frames leave at an even pace, so the share of windows is the share of the video.
    first = min(len(pace) - 1, int(len(pace) * FIRST_MINUTE / result.seconds))
    recording = request.speakers[0].audio
    assert recording is not None
    samples, rate = read_wav(recording)
    frames, video_seconds, sound_seconds = lengths(output)
    return LongVideo(
        frames=frames,
        expected_frames=int(len(samples) / rate * 25 + 0.5),
        windows=len(pace),
        video_seconds=video_seconds,
        sound_seconds=sound_seconds,
        delays=delays(samples, rate, output),
        memory_after_first_minute=resident.after[first],
        memory_peak_later=max(resident.after[first:]),
        memory_at_end=psutil.Process().memory_info().rss,
        gpu_memory_after_first_minute=resident.on_gpu[first],
        gpu_memory_peak_later=max(resident.on_gpu[first:]),
        seconds_per_window_early=round(median(pace[:tenth]), 4),
        seconds_per_window_late=round(median(pace[-tenth:]), 4),
        slope=round(slope(pace), 6),
        seconds=round(result.timings.seconds, 2),
    )


def slope(pace: Sequence[float]) -> float:
    """How much longer each window takes than the one before, as a share of the median: least squares."""
    if len(pace) < 2:
        return 0.0
    return float(np.polyfit(np.arange(len(pace)), pace, 1)[0]) / median(pace)


class Resident:
    """Listens to a run and notes the resident memory, and the GPU's, after each window."""

    def __init__(self) -> None:
        self.after: list[int] = []
        self.on_gpu: list[int] = []

    def listen(self, event: Progress) -> None:
        """Progress listener."""
        if event.phase is Phase.WRITING and len(self.after) < event.window:
            self.after.append(psutil.Process().memory_info().rss)
            self.on_gpu.append(torch.cuda.memory_reserved() if torch.cuda.is_initialized() else 0)


def read_wav(path: Path) -> tuple[np.ndarray, int]:
    """Samples ``(S,)`` of a mono file of 16 bits, and their rate."""
    with wave.open(str(path)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2"), file.getframerate()


def delays(samples: np.ndarray, rate: int, video: Path) -> dict[str, float]:
    """How late the sound is at three places."""
    length = len(samples) / rate
    last = max(0.0, length - COMPARED)  # where a recording is shorter, all of it is compared
    places = {"start": 0.0, "middle": last / 2, "end": last}
    found = {}
    for place, start in places.items():
        played, played_rate = heard(video, start, start + COMPARED)
        assert played_rate == rate
        found[place] = delay(samples[round(start * rate) :][: len(played)], played, rate)
    return found


def lip_lag(video: Path, seconds: float) -> dict[str, Any]:
    """How well the mouth follows the sound in the whole video and in its last ``seconds``."""
    from infinite_talk.lipsync import measure, score
    from infinite_talk.types import FPS

    report = measure(video)
    last = slice(-round(seconds * FPS), None)
    late = score(report.mouth.opening[last], report.loudness[last])
    return {"whole": report.summary()["loudness"], "end": {"r": round(late.r, 4), "lag": late.lag}}


def main() -> None:
    """Command line."""
    options = parser(__doc__ or "")
    options.add_argument("--minutes", type=float, default=10)
    options.add_argument("--device", type=Device, choices=list(Device), default=Device.CPU)
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recording = write_wav(folder / "speech.wav", speech(60 * asked.minutes), RATE)
        request = Request(
            image=SAMPLES / "portrait.png",
            speakers=(Speaker(audio=recording),),
            seed=asked.seed,
            steps=asked.steps,
        )
        settings = Settings(model=asked.model, threads=asked.threads, device=asked.device)
        made = make_long_video(request, settings, folder / "long.mp4")
        lips = lip_lag(folder / "long.mp4", 60) if asked.model is None else None
    growth = {"memory_growth": made.growth, "gpu_memory_growth": made.gpu_growth}
    values = {"minutes": asked.minutes, "device": asked.device, **growth, **asdict(made), "lips": lips}
    name = "long_video" if asked.device is Device.CPU else f"long_video_{asked.device}"
    save("long_video", asked.out or RESULTS / f"{name}.json", values)


if __name__ == "__main__":
    main()
