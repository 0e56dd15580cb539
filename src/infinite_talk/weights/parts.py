"""The parts of a model, and whose names a file has."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from infinite_talk.errors import CheckpointError
from infinite_talk.models.dit import DiTConfig
from infinite_talk.models.dit import keys as transformer_keys
from infinite_talk.models.keymap import KeyMap
from infinite_talk.models.shapes import Shapes
from infinite_talk.models.speech import SpeechConfig
from infinite_talk.models.speech import keys as speech_keys
from infinite_talk.models.text import TextConfig
from infinite_talk.models.text import keys as text_keys
from infinite_talk.models.tiny_vae import TinyVAEConfig
from infinite_talk.models.tiny_vae import keys as tiny_vae_keys
from infinite_talk.models.tiny_vae.config import by_name
from infinite_talk.models.vae import VAEConfig
from infinite_talk.models.vae import keys as vae_keys
from infinite_talk.models.vision import VisionConfig
from infinite_talk.models.vision import keys as vision_keys

Config = DiTConfig | VAEConfig | TinyVAEConfig | TextConfig | VisionConfig | SpeechConfig
"""The sizes of a part."""


class Part(StrEnum):
    """What a file can be."""

    TRANSFORMER = "transformer"
    """Wan2.1 image-to-video, with or without the speech branch."""
    ADAPTER = "adapter"
    """The speech branch alone: InfiniteTalk or MultiTalk."""
    VAE = "vae"
    TINY_VAE = "tiny_vae"
    TEXT = "text"
    VISION = "vision"
    SPEECH = "speech"
    LORA = "lora"


WORDS: Mapping[Part, str] = {
    Part.TRANSFORMER: "transformer",
    Part.ADAPTER: "speech branch",
    Part.VAE: "video autoencoder",
    Part.TINY_VAE: "tiny decoder",
    Part.TEXT: "text encoder",
    Part.VISION: "image encoder",
    Part.SPEECH: "speech encoder",
    Part.LORA: "LoRA",
}
"""The parts in messages."""


@dataclass(frozen=True, slots=True)
class _Names:
    """What a part's room knows about names and shapes."""

    recognises: Callable[[Shapes], bool]
    config_of: Callable[[Shapes], Config]
    dialects: Callable[[Any], tuple[KeyMap, ...]]


_NAMES: Mapping[Part, _Names] = {
    Part.TEXT: _Names(text_keys.recognises, text_keys.config_of, text_keys.dialects),
    Part.VISION: _Names(vision_keys.recognises, vision_keys.config_of, vision_keys.dialects),
    Part.SPEECH: _Names(speech_keys.recognises, speech_keys.config_of, speech_keys.dialects),
    Part.VAE: _Names(vae_keys.recognises, vae_keys.config_of, vae_keys.dialects),
    Part.TINY_VAE: _Names(tiny_vae_keys.recognises, tiny_vae_keys.config_of, tiny_vae_keys.dialects),
}

_LORA = re.compile(
    r"\.(lora_(up|down|A|B)\b.*|lora\.(up|down)\.weight|lora_magnitude_vector.*|diff(_b|_m)?|dora_scale"
    r"|hada_w[12]\w*|lokr_w[12]\w*)$"
)

# What the first tensors of well-known models of others are called.
_STRANGERS = (
    (r"^model\.diffusion_model\.input_blocks\.", "Stable Diffusion"),
    (r"(^|\.)double_blocks\.\d+\.img_attn\.", "FLUX or HunyuanVideo"),
    (r"(^|\.)joint_blocks\.\d+\.", "Stable Diffusion 3"),
    (r"(^|\.)down_blocks\.\d+\.(attentions|resnets|motion_modules)\.", "a UNet of diffusers"),
    (r"(^|\.)transformer_blocks\.\d+\.attn\.add_q_proj\.", "FLUX, Qwen-Image or Stable Diffusion 3"),
    (r"(^|\.)(encoder|decoder)\.mid\.block_1\.", "the autoencoder of a picture model"),
    (r"^model\.layers\.\d+\.self_attn\.q_proj\.", "a language model"),
    (r"^text_model\.encoder\.layers\.", "the text tower of CLIP"),
    (
        r"^(encoder|decoder)\.layers\.\d+\.self_attn\.|^model\.encoder\.conv1\.",
        "Whisper or another speech model",
    ),
)


def part_of(shapes: Shapes) -> Part | None:
    """What the names of a file belong to; ``None``: to nothing that is known."""
    what = transformer_keys.what_for(shapes)
    if what == "transformer":
        return Part.TRANSFORMER
    if any(_LORA.search(name) for name in shapes):  # before the speech branch, which may have a LoRA
        return Part.LORA
    if what == "adapter":
        return Part.ADAPTER
    return next((part for part, names in _NAMES.items() if names.recognises(shapes)), None)


def refusal(shapes: Shapes) -> str | None:
    """Why a file of a family that is known is of no use here, or whose it is if that shows."""
    if reason := transformer_keys.refusal(shapes):
        return reason
    if part_of(shapes) is not None:
        return None
    for pattern, whose in _STRANGERS:
        if any(re.search(pattern, name) for name in shapes):
            return f"this looks like {whose}"
    return None


def config_of(
    part: Part, shapes: Shapes, paths: tuple[Path, ...], beside: Mapping[str, Any] | None
) -> Config:
    """The sizes of a part.

    Args:
        paths: the files. A tiny decoder's name alone says which latents it takes.
        beside: the contents of a ``config.json`` with the file.

    Raises:
        CheckpointError: the shapes are those of another variant, or contradict each other.
    """
    if part in (Part.TRANSFORMER, Part.ADAPTER):
        return transformer_keys.config_of(shapes, transformer_keys.config_beside(beside or {}))
    try:
        config = _NAMES[part].config_of(shapes)
    except (KeyError, IndexError, ValueError, StopIteration, ZeroDivisionError) as error:
        raise CheckpointError(
            f"The {WORDS[part]} is incomplete: its sizes cannot be told ({error}). Download it again.",
            code="checkpoint_mismatch",
        ) from error
    if isinstance(config, TinyVAEConfig):
        return replace(config, denormalise=by_name(paths[0].name))
    return config


def dialects(part: Part, config: Config, stored: Iterable[str]) -> tuple[KeyMap, ...]:
    """The dialects of a part with these sizes, of which the names in a file may be one."""
    if part in (Part.TRANSFORMER, Part.ADAPTER):
        assert isinstance(config, DiTConfig)
        return transformer_keys.dialects(config, stored)
    return _NAMES[part].dialects(config)
