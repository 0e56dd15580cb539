"""One node for the whole way: a portrait and speech in, a talking video out, of ComfyUI's own types."""

from __future__ import annotations

import sys
import wave
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from infinite_talk import Engine, Request, Settings, Speaker, UsageError

from .host import Bar, comfy_settings

EMBEDDED = "embedded"
_LARGEST_SEED = 2**63 - 1


class InfiniteTalkPortrait:
    """A portrait speaks one or two recordings, for as long as they last; the video grows on disk, not in memory."""

    RETURN_TYPES = ("VIDEO", "STRING")
    RETURN_NAMES = ("video", "path")
    FUNCTION = "talk"
    CATEGORY = "InfiniteTalk"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Any]]:  # noqa: N802 - ComfyUI's name
        """As ComfyUI reads it."""
        kept = "0 takes the model's own."
        return {
            "required": {
                "image": ("IMAGE", {"tooltip": "The portrait; the first picture of a batch."}),
                "audio": ("AUDIO", {"tooltip": "What is said."}),
                "prompt": ("STRING", {"default": "", "multiline": True, "tooltip": "What is seen."}),
                "model": (
                    "STRING",
                    {
                        "default": EMBEDDED,
                        "tooltip": "A folder with model files, a preset's name, or embedded.",
                    },
                ),
                "seed": ("INT", {"default": 42, "min": 0, "max": _LARGEST_SEED}),
            },
            "optional": {
                "audio_2": ("AUDIO", {"tooltip": "What the person on the right says."}),
                "size": (
                    "STRING",
                    {"default": "", "tooltip": "480, 720, WxH or WxH!; empty: the model's own."},
                ),
                "steps": ("INT", {"default": 0, "min": 0, "max": 200, "tooltip": f"Denoising steps. {kept}"}),
                "filename_prefix": ("STRING", {"default": "InfiniteTalk"}),
            },
        }

    def talk(
        self,
        image: Any,  # noqa: ANN401 - ComfyUI's IMAGE
        audio: dict[str, Any],
        prompt: str,
        model: str,
        seed: int,
        audio_2: dict[str, Any] | None = None,
        size: str = "",
        steps: int = 0,
        filename_prefix: str = "InfiniteTalk",
    ) -> tuple[Any, str]:
        """Make the video in ComfyUI's output folder.

        Raises:
            InfiniteTalkError: see ``Engine.write``.
        """
        folder_paths = sys.modules["folder_paths"]
        recordings = [audio] if audio_2 is None else [audio, audio_2]
        beside = Path(folder_paths.get_temp_directory())
        beside.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=beside) as temporary:
            place = Path(temporary)
            speakers = []
            for number, recording in enumerate(recordings):
                speakers.append(Speaker(audio=write_sound(recording, place / f"speaker{number + 1}.wav")))
            request = Request(
                image=write_picture(image, place / "portrait.png"),
                speakers=tuple(speakers),
                prompt=prompt,
                seed=seed,
                size=size or None,
                steps=steps or None,
            )
            output = _output(folder_paths, filename_prefix)
            result = Engine(_settings(model, folder_paths), progress=Bar()).write(request, output)
        return import_module("comfy_api.input_impl").VideoFromFile(str(result.path)), str(result.path)


def _settings(model: str, folder_paths: Any) -> Settings:  # noqa: ANN401 - a module of ComfyUI
    base = comfy_settings()
    folders = (Path(folder_paths.models_dir),)
    named = None if model.strip() in ("", EMBEDDED) else Path(model.strip())
    return Settings(model=named, models_dirs=folders, device=base.device)


def _output(folder_paths: Any, prefix: str) -> Path:  # noqa: ANN401 - a module of ComfyUI
    """The next free name, by ComfyUI's own rule, which also keeps it inside the output folder."""
    folder, name, counter, *_ = folder_paths.get_save_image_path(prefix, folder_paths.get_output_directory())
    path = Path(folder) / f"{name}_{counter:05}_.mp4"
    while path.exists():
        counter += 1
        path = Path(folder) / f"{name}_{counter:05}_.mp4"
    return path


def write_picture(image: Any, path: Path) -> Path:  # noqa: ANN401 - ComfyUI's IMAGE
    """The first picture of a batch ``(B, H, W, 3)`` in [0, 1] as a PNG file.

    Raises:
        UsageError: it is no such batch.
    """
    if getattr(image, "ndim", 0) != 4 or image.shape[0] < 1 or image.shape[3] not in (3, 4):
        shape = tuple(getattr(image, "shape", ()))
        raise UsageError(f"The image has the shape {shape}; connect an IMAGE, (B, H, W, 3).")
    levels = (image[0, ..., :3].float().clamp(0, 1) * 255).round().byte().cpu().numpy()
    Image.fromarray(levels).save(path)
    return path


def write_sound(audio: dict[str, Any], path: Path) -> Path:
    """ComfyUI's AUDIO, waveform ``(1, C, S)`` in [-1, 1], as a WAV file of 16 bits.

    Raises:
        UsageError: it is no such dict.
    """
    if not isinstance(audio, dict) or not {"waveform", "sample_rate"} <= audio.keys():
        found = sorted(audio) if isinstance(audio, dict) else type(audio).__name__
        raise UsageError(f"The audio has {found}; connect an AUDIO, a dict with waveform and sample_rate.")
    samples = audio["waveform"][0].float().cpu().numpy()  # (C, S)
    levels = np.nan_to_num(np.clip(samples, -1, 1) * 32767).round().astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(levels.shape[0])
        file.setsampwidth(2)
        file.setframerate(int(audio["sample_rate"]))
        file.writeframes(levels.T.tobytes())
    return path
