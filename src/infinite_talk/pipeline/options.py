"""What ``InfiniteTalkPipeline.generate`` can be told, with the controls' names of the WebUI tab that it stands for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Self

NEGATIVE = "worst quality, low quality, blurry, distorted"


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineOptions:
    """Defaults are those of the application's own pipeline, where they are not what made it fail."""

    negative_prompt: str = NEGATIVE
    width: int = 832
    height: int = 480
    """Multiples of 16."""
    video_length: int = 117
    """Frames, where ``auto_frame_count`` is off; never longer than the speech."""
    auto_frame_count: bool = True
    """The video is as long as the speech."""
    max_frames: int | None = None
    """Longest video. (There 200, which cut off the speech after 8 seconds.)"""
    audio_num_frames: int | None = None
    """No effect: all of the speech is encoded. (There a quarter of it.)"""
    fps: float = 25.0
    """The models make 25; another number plays the same motion at another pace."""
    steps: int = 6
    cfg: float = 1.0
    sampler_name: str | None = "dpm++_sde"
    scheduler: str | None = "unipc"
    """Schedule and solver (``names.scheduler_of``)."""
    sigmas: tuple[float, ...] | None = None
    """Noise level before each step and after the last, instead of the scheduler's own and of ``steps``."""
    shift: float = 7.0
    seed: int = -1
    """-1 draws one, which the log and the file's metadata tell."""
    normalize_loudness: bool = True
    audio_scale: float = 1.0
    audio_cfg_scale: float = 1.0
    frame_window_size: int = 81
    """Frames made at a time. (There the whole length at once.)"""
    motion_frame: int = 25
    colormatch: str = "mkl"
    resize_image: bool = True
    """Off: the picture is cut to the shape of the video instead."""
    resize_interpolation: str = "lanczos"
    resize_method: str = "stretch"
    """stretch, keep proportion, fill / crop, pad."""
    resize_condition: str = "always"
    """always, downscale if bigger, upscale if smaller, if bigger area, if smaller area."""
    crop_audio: bool = False
    audio_start_time: float = 0.0
    audio_duration: float = 0.0
    """Seconds; 0 is to the end."""
    separate_vocals: bool = False
    """Let the mouth hear the voice alone; the sound of the video stays whole."""
    separation_model: str = "MelBandRoformer_fp16.safetensors"
    riflex_freq_index: int = 0
    force_offload: bool = True
    tiled_vae: bool = False
    output_path: Path | str | None = None
    """The mp4 file; default ``infinite_talk_<time>.mp4`` in the pipeline's output folder."""

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """From keywords.

        Raises:
            TypeError: one is unknown; names the nearest.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        for name in given:
            if name not in names:
                near = get_close_matches(name, names, n=1)
                hint = f" Did you mean {near[0]!r}?" if near else f" It takes {', '.join(names)}."
                raise TypeError(f"InfiniteTalkPipeline.generate() has no argument {name!r}.{hint}")
        return cls(**given)
