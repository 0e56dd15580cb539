"""Nodes that part the voice from the music."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any, Final

import torch

from infinite_talk.nodes.declare import Files, Inputs, choice, integer, link, number
from infinite_talk.nodes.helpers.place import HIDDEN, placed
from infinite_talk.nodes.helpers.waveforms import samples_of
from infinite_talk.nodes.host import host

WITHOUT: Final = "the sound is taken as it is, with its music"


class MelBandRoFormerModelLoader:
    """The vocal separator."""

    RETURN_TYPES = ("MELROFORMERMODEL",)
    RETURN_NAMES = ("model",)
    FUNCTION = "loadmodel"
    CATEGORY = "Mel-Band RoFormer"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802 - ComfyUI's name
        """The file."""
        return {
            "required": {"model_name": choice(Files(["MelBandRoformer_fp16.safetensors"]), any_file=True)},
            "hidden": HIDDEN,
        }

    def loadmodel(
        self,
        model_name: str,
        place: Any = None,  # noqa: ANN401 - a hidden input
        unique_id: str | None = None,
    ) -> tuple[Any]:
        """The model, or nothing where its file is not here: separation is then left out, which is said."""
        path = separator_file(model_name)
        if path is None:
            missing = (
                "the embedded model has no vocal separator"
                if host().embedded
                else f"{model_name} is not here"
            )
            placed(place).tell(f"node {unique_id}: {missing}; {WITHOUT}.")
            return (None,)
        from infinite_talk.nodes.helpers.roformer import load_separator

        return (load_separator(path),)


def separator_file(name: str) -> Path | None:
    """The file of a vocal separator, if it is here; the embedded model has none."""
    by = host()
    if by.embedded:
        return None
    plain = PurePosixPath(name.replace("\\", "/"))
    found = (by.places.find("diffusion_models", str(one)) for one in (plain, plain.name))  # folders differ
    return next((path for path in found if path is not None), None)


class MelBandRoFormerSampler:
    """Voice and the rest of a sound."""

    RETURN_TYPES = ("AUDIO", "AUDIO")
    RETURN_NAMES = ("vocals", "instruments")
    FUNCTION = "process"
    CATEGORY = "Mel-Band RoFormer"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        """The model and the sound."""
        return {"required": {"model": link("MELROFORMERMODEL"), "audio": link("AUDIO")}}

    def process(self, model: Any, audio: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:  # noqa: ANN401
        """Both; without a model the voice is the whole sound, and the rest silence."""
        if model is None:
            return dict(audio), _silence(audio)
        vocals, instruments, rate = model.separate(*samples_of(audio))
        return (
            {"waveform": vocals[None], "sample_rate": rate},
            {"waveform": instruments[None], "sample_rate": rate},
        )


class AudioSeparation:
    """Four parts of a sound by Hybrid Demucs, whose weights come with torchaudio, which is not used here."""

    RETURN_TYPES = ("AUDIO", "AUDIO", "AUDIO", "AUDIO")
    RETURN_NAMES = ("Bass", "Drums", "Other", "Vocals")
    FUNCTION = "main"
    CATEGORY = "audio"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        """The sound, and how it is cut for the model."""
        shapes = ("linear", "half_sine", "logarithmic", "exponential")
        return {
            "required": {"audio": link("AUDIO")},
            "optional": {
                "chunk_fade_shape": choice(shapes),
                "chunk_length": number(10.0),
                "chunk_overlap": number(0.1),
                "segment": integer(256),
            },
            "hidden": HIDDEN,
        }

    def main(
        self,
        audio: dict[str, Any],
        chunk_fade_shape: str = "linear",  # noqa: ARG002
        chunk_length: float = 10.0,  # noqa: ARG002
        chunk_overlap: float = 0.1,  # noqa: ARG002
        segment: int = 256,  # noqa: ARG002
        place: Any = None,  # noqa: ANN401
        unique_id: str | None = None,
    ) -> tuple[dict[str, Any], ...]:
        """Vocals are the whole sound, the rest silence; which is said."""
        placed(place).tell(
            f"node {unique_id}: Hybrid Demucs is not part of this program; {WITHOUT}. "
            "MelBandRoFormerSampler separates when its weights are there."
        )
        return (_silence(audio), _silence(audio), _silence(audio), dict(audio))


def _silence(audio: dict[str, Any]) -> dict[str, Any]:
    return {"waveform": torch.zeros_like(audio["waveform"]), "sample_rate": audio["sample_rate"]}
