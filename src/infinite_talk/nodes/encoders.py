"""Loaders of the text, image and speech encoders: headers are read here, weights at their use."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch

from infinite_talk.device import choose_device
from infinite_talk.errors import CapabilityError
from infinite_talk.nodes.declare import (
    CATEGORY,
    DEVICES,
    Inputs,
    checked,
    choice,
)
from infinite_talk.nodes.handles import (
    SpeechModel,
    TextModel,
    VisionModel,
    say,
)
from infinite_talk.nodes.host import EMBEDDED_NAME, file_names, host
from infinite_talk.nodes.opening import (
    loadable,
    open_named,
    small_dtype,
    tokenizer_folder,
)
from infinite_talk.runtime import AS_STORED
from infinite_talk.weights.checkpoint import Checkpoint, Part
from infinite_talk.weights.hub.catalogue import preset
from infinite_talk.weights.hub.pull import pull
from infinite_talk.weights.hub.store import installed, stores
from infinite_talk.weights.precision import ENCODER_FLOAT8

PRECISIONS = ("fp32", "bf16", "fp16")
TENCENT, FACEBOOK = "TencentGameMate/chinese-wav2vec2-base", "facebook/wav2vec2-base-960h"


class LoadWanVideoT5TextEncoder:
    """The text encoder, UMT5-XXL."""

    RETURN_TYPES: ClassVar = ("WANTEXTENCODER",)
    RETURN_NAMES: ClassVar = ("wan_t5_model",)
    FUNCTION = "loadmodel"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {
            "required": {
                "model_name": choice(file_names("text_encoders")),
                "precision": choice(("fp32", "bf16"), "bf16"),
            },
            "optional": {
                "load_device": choice(DEVICES, "offload_device"),
                "quantization": choice(("disabled", "fp8_e4m3fn"), "disabled"),
            },
        }

    @checked()
    def loadmodel(
        self,
        model_name: str,
        precision: str = "bf16",
        load_device: str = "offload_device",  # noqa: ARG002 - read at first use, and released by force_offload
        quantization: str = "disabled",
    ) -> tuple[TextModel]:
        """Open it, in any layout, with scaled float8 too.

        Raises:
            CheckpointError: it is missing, damaged, no text encoder of Wan2.1, or without its tokenizer.
        """
        opened, device = open_named(Part.TEXT, model_name), choose_device(host().settings)
        policy = AS_STORED if quantization == "disabled" else ENCODER_FLOAT8
        dtype = small_dtype(opened, precision, device)
        return (loadable(opened, dtype, policy=policy, tokenizer=tokenizer_folder(opened)),)


class LoadWanVideoClipTextEncoder:
    """The image encoder, CLIP ViT-H, from a file that may hold its text tower too."""

    RETURN_TYPES: ClassVar = ("CLIP_VISION",)
    RETURN_NAMES: ClassVar = ("wan_clip_vision",)
    FUNCTION = "loadmodel"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {
            "required": {
                "model_name": choice(file_names("clip_vision")),
                "precision": choice(("fp16", "fp32", "bf16"), "fp16"),
            },
            "optional": {"load_device": choice(DEVICES, "offload_device")},
        }

    @checked()
    def loadmodel(
        self,
        model_name: str,
        precision: str = "fp16",
        load_device: str = "offload_device",  # noqa: ARG002 - read at first use, and released by force_offload
    ) -> tuple[VisionModel]:
        """Open it.

        Raises:
            CheckpointError: it is missing, damaged, or no image encoder of Wan2.1.
        """
        opened, device = open_named(Part.VISION, model_name), choose_device(host().settings)
        return (loadable(opened, small_dtype(opened, precision, device)),)


class CLIPVisionLoader:
    """ComfyUI's own node of this name, for use without ComfyUI."""

    RETURN_TYPES: ClassVar = ("CLIP_VISION",)
    RETURN_NAMES: ClassVar = ("CLIP_VISION",)
    FUNCTION = "load_clip"
    CATEGORY = "loaders"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {"required": {"clip_name": choice(file_names("clip_vision"))}}

    @checked()
    def load_clip(self, clip_name: str) -> tuple[VisionModel]:
        """Open it in the precision of its file."""
        return LoadWanVideoClipTextEncoder().loadmodel(clip_name, "fp16")


class Wav2VecModelLoader:
    """The speech encoder, wav2vec 2.0 base."""

    RETURN_TYPES: ClassVar = ("WAV2VECMODEL",)
    RETURN_NAMES: ClassVar = ("wav2vec_model",)
    FUNCTION = "loadmodel"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {
            "required": {
                "model": choice(file_names("wav2vec2")),
                "base_precision": choice(PRECISIONS, "fp16"),
                "load_device": choice(DEVICES, "main_device"),
            }
        }

    @checked()
    def loadmodel(
        self,
        model: str,
        base_precision: str = "fp16",
        load_device: str = "main_device",  # noqa: ARG002 - read at first use
    ) -> tuple[SpeechModel]:
        """Open it. It runs in float32, as the official program has it, whatever ``base_precision``.

        Raises:
            CheckpointError: it is missing, damaged, or another variant than wav2vec2-base.
        """
        return (_speech(open_named(Part.SPEECH, model), model, base_precision),)


class DownloadAndLoadWav2VecModel:
    """The speech encoder by the name of its repository; downloaded once."""

    RETURN_TYPES: ClassVar = ("WAV2VECMODEL",)
    RETURN_NAMES: ClassVar = ("wav2vec_model",)
    FUNCTION = "loadmodel"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {
            "required": {
                "model": choice((TENCENT, FACEBOOK), TENCENT),
                "base_precision": choice(PRECISIONS, "fp16"),
                "load_device": choice(DEVICES, "main_device"),
            }
        }

    @checked()
    def loadmodel(
        self,
        model: str = TENCENT,
        base_precision: str = "fp16",
        load_device: str = "main_device",  # noqa: ARG002 - read at first use
    ) -> tuple[SpeechModel]:
        """Taken from the disk, also from where the other pack has put it; else the Chinese one is downloaded.

        Raises:
            CheckpointError: it is not here and cannot be downloaded (``HF_HUB_OFFLINE`` is respected).
            CapabilityError: facebook's is asked for, which the catalogue lacks.
        """
        if host().embedded:
            return Wav2VecModelLoader().loadmodel(EMBEDDED_NAME, base_precision)
        if (kept := _snapshot(model)) is not None:
            return Wav2VecModelLoader().loadmodel(str(kept), base_precision)
        if model == FACEBOOK:
            raise CapabilityError(
                f"{FACEBOOK} is not downloaded by this program: InfiniteTalk and MultiTalk hear through {TENCENT}. For "
                " FantasyTalking put its model.safetensors into the wav2vec2 folder and use Wav2VecModelLoader."
            )
        (file,) = preset("speech").files
        places = stores(host().places.roots)
        at = installed(file, places)
        path = at[1] if at else pull(preset("speech")).paths[file.key]
        return Wav2VecModelLoader().loadmodel(str(path), base_precision)


class QwenLoader:
    """The language model that rewrites prompts in the pack; this program has none."""

    RETURN_TYPES: ClassVar = ("QWENMODEL",)
    RETURN_NAMES: ClassVar = ("QWENMODEL",)
    FUNCTION = "load"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {
            "required": {
                "model": choice(file_names("text_encoders")),
                "load_device": choice(DEVICES, "main_device", advanced=True),
                "precision": choice(("fp16", "bf16", "fp32"), "bf16"),
            }
        }

    @checked()
    def load(self, model: str, load_device: str = "main_device", precision: str = "bf16") -> tuple[Any]:  # noqa: ARG002
        """Refuse.

        Raises:
            CapabilityError: always.
        """
        raise CapabilityError(
            f"Prompts are not rewritten by a language model here ({model}). Write the prompt out, or rewrite it with "
            "another tool, and connect the text encoder directly."
        )


def _snapshot(repository: str) -> Path | None:
    """The weights of a repository that ComfyUI-WanVideoWrapper has downloaded into ``models/transformers``."""
    names = (f"{repository}/{file}" for file in ("model.safetensors", "pytorch_model.bin"))
    return next((found for name in names if (found := host().places.find("wav2vec2", name))), None)


def _speech(opened: Checkpoint, name: str, precision: str) -> SpeechModel:
    if precision != "fp32":
        say(f"{opened.title} runs in fp32 instead of {precision}: it is small, and the lips follow it.")
    foreign = any(word in Path(name).name.lower() for word in ("facebook", "960h")) or FACEBOOK in name
    return SpeechModel(loadable(opened, torch.float32), "facebook" if foreign else "tencent")
