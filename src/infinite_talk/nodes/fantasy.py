"""Another voice (FantasyTalking) and a face to follow (FantasyPortrait), heard in the transformer's cross-attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F

from infinite_talk.device import choose_device
from infinite_talk.errors import CapabilityError, InputError, UsageError
from infinite_talk.models.adapters import FantasyPortrait, FantasyTalking
from infinite_talk.nodes.declare import CATEGORY, Inputs, checked, choice, integer, link, number
from infinite_talk.nodes.handles import SpeechModel
from infinite_talk.nodes.helpers.waveforms import resampled, samples_of
from infinite_talk.nodes.host import host
from infinite_talk.nodes.networks import (
    PRECISIONS,
    AdapterModel,
    need_network,
    network_dtype,
    network_names,
    network_path,
)
from infinite_talk.types import SPEECH_RATE
from infinite_talk.weights.adapters import open_fantasy_portrait, open_fantasy_talking


class FantasyTalkingModelLoader:
    """The network of FantasyTalking."""

    RETURN_TYPES: ClassVar = ("FANTASYTALKINGMODEL",)
    RETURN_NAMES: ClassVar = ("model",)
    FUNCTION = "loadmodel"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {
            "required": {
                "model": choice(network_names("diffusion_models")),
                "base_precision": choice(PRECISIONS, "fp16"),
            }
        }

    @checked()
    def loadmodel(self, model: str, base_precision: str = "fp16") -> tuple[AdapterModel[FantasyTalking]]:
        """Read it, strictly.

        Raises:
            CheckpointError: it is missing, damaged or no FantasyTalking.
        """
        dtype = network_dtype(base_precision, choose_device(host().settings), model)
        path = network_path("diffusion_models", model, "FantasyTalking")
        return (AdapterModel(open_fantasy_talking(path, dtype), model),)


class FantasyTalkingWav2VecEmbeds:
    """Speech as FantasyTalking hears it, latent frame by latent frame."""

    RETURN_TYPES: ClassVar = ("FANTASYTALKING_EMBEDS",)
    RETURN_NAMES: ClassVar = ("fantasytalking_embeds",)
    FUNCTION = "process"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {
            "required": {
                "wav2vec_model": link("WAV2VECMODEL"),
                "fantasytalking_model": link("FANTASYTALKINGMODEL"),
                "audio": link("AUDIO"),
                "num_frames": integer(81, 1, 1000, 1),
                "fps": number(23.0, 1.0, 60.0, 0.1),
                "audio_scale": number(1.0, 0.0, 100.0, 0.1),
                "audio_cfg_scale": number(1.0, 0.0, 100.0, 0.1),
            }
        }

    @checked(lists=("audio_cfg_scale",))
    def process(
        self,
        wav2vec_model: SpeechModel,
        fantasytalking_model: AdapterModel[FantasyTalking],
        audio: dict[str, Any],
        num_frames: int = 81,
        fps: float = 23.0,
        audio_scale: float = 1.0,
        audio_cfg_scale: float | Sequence[float] = 1.0,
    ) -> tuple[dict[str, Any]]:
        """``audio_proj`` (1, T, L, C) and ``audio_context_lens`` (T,) with the scales, under the pack's keys.

        The first ``num_frames / fps`` seconds are heard, all channels mixed; where the audio is shorter, there is
        silence after it. (The pack takes the first channel, and stretches what there is over all frames.)

        Raises:
            InputError: the audio is none, or too short for a feature.
            UsageError: the encoder is not the one that FantasyTalking was trained with.
        """
        need_network(
            fantasytalking_model, FantasyTalking, "fantasytalking_model", "FantasyTalkingModelLoader"
        )
        _need_encoder(wav2vec_model, fantasytalking_model.network.config.speech_dim)
        samples = int(num_frames / fps * SPEECH_RATE)
        waveform = resampled(*samples_of(audio), SPEECH_RATE).mean(dim=0)[:samples]
        sound = F.pad(waveform, (0, samples - len(waveform)))[None]
        with wav2vec_model.model.at_hand() as encoder, torch.inference_mode():
            # As many "frames" as the encoder has features: they are left where they are, 50 in a second.
            count = max(encoder.config.features(samples), 1)
            features = encoder(sound.to(wav2vec_model.model.device), count)[:, :, -1]
        dealt = fantasytalking_model.network.listen(features, num_frames)
        return (
            {
                "audio_proj": dealt.features,
                "audio_context_lens": dealt.lengths,
                "audio_scale": audio_scale,
                "audio_cfg_scale": audio_cfg_scale,
            },
        )


class FantasyPortraitModelLoader:
    """The network of FantasyPortrait."""

    RETURN_TYPES: ClassVar = ("FANTASYPORTRAITMODEL",)
    RETURN_NAMES: ClassVar = ("model",)
    FUNCTION = "loadmodel"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {
            "required": {
                "model": choice(network_names("diffusion_models")),
                "base_precision": choice(PRECISIONS, "fp16"),
            }
        }

    @checked()
    def loadmodel(self, model: str, base_precision: str = "fp16") -> tuple[AdapterModel[FantasyPortrait]]:
        """Read it, strictly.

        Raises:
            CheckpointError: it is missing, damaged or no FantasyPortrait.
        """
        dtype = network_dtype(base_precision, choose_device(host().settings), model)
        path = network_path("diffusion_models", model, "FantasyPortrait")
        return (AdapterModel(open_fantasy_portrait(path, dtype), model),)


class FantasyPortraitFaceDetector:
    """The moving face in pictures, for FantasyPortrait; kept so that workflows load."""

    RETURN_TYPES: ClassVar = ("PORTRAIT_EMBEDS", "BBOX", "LANDMARKS")
    RETURN_NAMES: ClassVar = ("portrait_embeds", "bbox", "landmarks")
    FUNCTION = "detect"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {
            "required": {"portrait_model": link("FANTASYPORTRAITMODEL"), "images": link("IMAGE")},
            "optional": {
                "adapter_scale": number(1.0, 0.0, 10.0, 0.01),
                "mouth_scale": number(1.0, 0.0, 10.0, 0.01),
                "emo_scale": number(1.0, 0.0, 10.0, 0.01),
                "device": choice(("cuda", "cpu"), "cuda"),
            },
        }

    @checked()
    def detect(
        self,
        portrait_model: AdapterModel[FantasyPortrait],
        images: torch.Tensor,
        adapter_scale: float = 1.0,
        mouth_scale: float = 1.0,
        emo_scale: float = 1.0,
        device: str = "cuda",  # noqa: ARG002
    ) -> tuple[torch.Tensor, list[Any], list[Any]]:
        """Embed the numbers of a face that come in place of pictures; pictures themselves are refused.

        Args:
            images: numbers of a face ``(1, F, 554)``: head pose (6), eyes (6), mood (30) and mouth (512) of each
                frame, as PD-FGC's motion encoder gives them.

        Raises:
            CapabilityError: these are pictures.
            InputError: they are neither.
        """
        need_network(portrait_model, FantasyPortrait, "portrait_model", "FantasyPortraitModelLoader")
        if isinstance(images, torch.Tensor) and images.dim() == 4:
            raise CapabilityError(
                "No face can be found in pictures here: that takes a face detector (face_det.onnx), a landmark model "
                "(face_landmark.onnx) and PD-FGC's motion encoder, which this program does not run. Give the numbers "
                "of a face (1, frames, 554) computed elsewhere as images, or leave FantasyPortrait out."
            )
        if not isinstance(images, torch.Tensor):
            raise InputError(
                f"images is a {type(images).__name__}; expected numbers of a face (1, frames, 554)."
            )
        scales = {"whole": adapter_scale, "mouth": mouth_scale, "mood": emo_scale}
        # A latent frame stands for four frames, the first one for one; what is left over is dropped.
        kept = images[:, : (images.shape[1] - 1) // 4 * 4 + 1] if images.dim() == 3 else images
        return portrait_model.network.watch(kept, **scales).features, [], []


class WanVideoAddFantasyPortrait:
    """A face to follow, beside a window's pictures."""

    RETURN_TYPES: ClassVar = ("WANVIDIMAGE_EMBEDS",)
    RETURN_NAMES: ClassVar = ("image_embeds",)
    FUNCTION = "add"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {
            "required": {
                "embeds": link("WANVIDIMAGE_EMBEDS"),
                "portrait_embeds": link("PORTRAIT_EMBEDS"),
                "strength": number(1.0, 0.0, 100.0, 0.01),
                "start_percent": number(0.0, 0.0, 1.0, 0.01),
                "end_percent": number(1.0, 0.0, 1.0, 0.01),
                "portrait_cfg": number(1.0, 0.0, 20.0, 0.01),
            }
        }

    @checked(lists=("portrait_cfg",))
    def add(
        self,
        embeds: Mapping[str, Any],
        portrait_embeds: torch.Tensor,
        strength: float = 1.0,
        start_percent: float = 0.0,
        end_percent: float = 1.0,
        portrait_cfg: float | Sequence[float] = 1.0,
    ) -> tuple[dict[str, Any]]:
        """The same embeds with ``portrait_embeds``; what was given is not changed."""
        entry = {
            "adapter_proj": portrait_embeds,
            "strength": strength,
            "start_percent": start_percent,
            "end_percent": end_percent,
            "cfg_scale": portrait_cfg,
        }
        return ({**embeds, "portrait_embeds": entry},)


def _need_encoder(model: object, width: int) -> None:
    if not isinstance(model, SpeechModel):
        raise UsageError(
            f"wav2vec_model is a {type(model).__name__}; connect Wav2VecModelLoader of this pack."
        )
    found = model.model.opened.config.hidden_size
    if model.kind != "facebook" or found != width:
        raise UsageError(
            f"FantasyTalking hears through facebook/wav2vec2-base-960h ({width} channels), not through "
            f"{model.model.title} ({found}). Put its model.safetensors into the wav2vec2 folder, 'facebook' or '960h' "
            "in its name, and load it with Wav2VecModelLoader."
        )
