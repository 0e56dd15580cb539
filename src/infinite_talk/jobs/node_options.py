"""``NodeOptions``: what a video may ask of the nodes, beyond what ``Request`` has. Nothing here needs torch.

``Engine`` prepares picture and sound in one way, the one it was measured in. People who come from other programs know
more ways: another pace, other colour matching, resizing that stretches, a voice that is parted from its music. An order
with any of these is made by ``InfiniteTalkPipeline`` (``node_run.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final, Literal

from infinite_talk.errors import UsageError
from infinite_talk.plan.buckets import choose_size, parse_size
from infinite_talk.presets import Defaults, given, resolve
from infinite_talk.request import AudioLayout, Compat, Request

ColourMethod = Literal["disabled", "mkl", "hm", "reinhard", "mvgd", "hm-mvgd-hm", "hm-mkl-hm"]
Interpolation = Literal["lanczos", "bicubic", "bilinear", "nearest"]
Method = Literal["stretch", "keep proportion", "fill / crop", "pad"]
Condition = Literal[
    "always", "downscale if bigger", "upscale if smaller", "if bigger area", "if smaller area"
]
VOICE_MODEL: Final = "MelBandRoformer_fp16.safetensors"
"""The file that parts a voice from its music; it has to be in a models folder."""
_REAL: Final = {"fps": (1.0, 120.0), "audio_scale": (0.0, 10.0)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Resize:
    """How the picture comes to the size of the video; names are those of the node that does it."""

    interpolation: Interpolation = "lanczos"
    method: Method = "stretch"
    condition: Condition = "always"
    """Where it does not hold, the picture is cut to the shape of the video instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOptions:
    """The defaults ask for nothing."""

    fps: float = 25.0
    """Pictures per second. The models make 25; another number plays the same motion at another pace."""
    normalize_loudness: bool = True
    """Bring the speech to the loudness that the model was trained with, -23 LUFS."""
    audio_scale: float = 1.0
    """Factor on what the model hears: more or less movement."""
    colour_method: ColourMethod | None = None
    """How colours are held; ``None``: as ``Request.colour_strength`` says."""
    resize: Resize | None = None
    """``None``: the picture is cut to the shape of the video and scaled."""
    audio_frames: int | None = None
    """So many frames of the speech are used, and the video ends with them; ``None``: all."""
    separate_vocals: bool = False
    """Let the mouth hear the voice alone; the sound of the video stays whole."""

    @property
    def wanted(self) -> tuple[str, ...]:
        """Names of the options that ask for something."""
        plain = NodeOptions()
        return tuple(f.name for f in fields(self) if getattr(self, f.name) != getattr(plain, f.name))

    def check(self, request: Request) -> None:
        """Refuse what cannot be, and what the nodes' way has no place for: nothing is left out silently.

        Raises:
            UsageError: a number out of its range, or fields of the request that exclude the options.
        """
        for name, (low, high) in _REAL.items():
            if not low <= getattr(self, name) <= high:
                raise UsageError(
                    f"{name}={getattr(self, name)} is out of range; expected {low:g} to {high:g}.",
                    code="options_range",
                )
        if self.audio_frames is not None and self.audio_frames < 1:
            raise UsageError(
                f"audio_frames={self.audio_frames} is out of range; expected 1 or more.", code="options_range"
            )
        if not self.wanted:
            return
        if lacking := [name for name, asked in _elsewhere(request) if asked]:
            raise UsageError(
                f"{', '.join(self.wanted)} cannot be combined with {', '.join(lacking)}: the videos with the former "
                "are made by nodes that do not have the latter. Leave one of them out.",
                code="options_exclude",
            )


def _elsewhere(request: Request) -> tuple[tuple[str, bool], ...]:
    """What only ``Engine`` does, and whether it was asked for."""
    speakers = request.speakers
    return (
        ("video", request.video is not None),
        ("more than four speakers", len(speakers) > 4),
        ("a silent person", any(one.audio is None for one in speakers)),
        ("boxes or masks", any(one.box or one.mask for one in speakers)),
        ("audio_layout in_turn", len(speakers) > 1 and request.audio_layout is AudioLayout.IN_TURN),
        ("apg", request.apg is not None),
        ("step_cache", request.step_cache is not None),
        ("scene_cuts", request.scene_cuts),
        ("compat official", request.compat is not Compat.FIXED),
        ("colour_strength", request.colour_strength not in (0.0, 1.0)),
    )


def pipeline_options(
    request: Request, options: NodeOptions, defaults: Defaults, *, source: tuple[int, int], tiled_vae: bool
) -> dict[str, Any]:
    """The keywords of ``InfiniteTalkPipeline.generate`` that mean the same.

    Args:
        request: may leave open what the model decides.
        options: checked against it.
        defaults: the model's.
        source: height and width of the upright picture.
        tiled_vae: whether the codec works in tiles.
    """
    asked = resolve(request, defaults)
    size = choose_size(parse_size(given(asked.size)), *source)
    resize = options.resize
    keep = "reinhard" if request.colour_strength else "disabled"
    cut = bool(request.audio_start) or request.audio_end is not None
    end = request.audio_end
    limits = [one for one in (request.max_frames, options.audio_frames) if one is not None]
    return {
        "negative_prompt": asked.negative_prompt,
        "width": size.width,
        "height": size.height,
        "auto_frame_count": True,
        "max_frames": min(limits) if limits else None,
        "fps": options.fps,
        "steps": asked.steps,
        "cfg": asked.text_guidance,
        "sampler_name": None,
        "scheduler": asked.scheduler or "multitalk",
        "shift": asked.shift,
        "seed": asked.seed,
        "normalize_loudness": options.normalize_loudness,
        "audio_scale": options.audio_scale,
        "audio_cfg_scale": asked.audio_guidance,
        "frame_window_size": asked.window_frames,
        "motion_frame": asked.motion_frames,
        "colormatch": options.colour_method or keep,
        "resize_image": resize is not None,
        "resize_interpolation": (resize or Resize()).interpolation,
        "resize_method": (resize or Resize()).method,
        "resize_condition": (resize or Resize()).condition,
        "crop_audio": cut,
        "audio_start_time": request.audio_start,
        "audio_duration": 0.0 if end is None else end - request.audio_start,
        "separate_vocals": options.separate_vocals,
        "separation_model": VOICE_MODEL,
        "tiled_vae": tiled_vae,
    }


__all__ = ["VOICE_MODEL", "NodeOptions", "Resize", "pipeline_options"]
