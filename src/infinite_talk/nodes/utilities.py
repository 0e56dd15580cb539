"""Small tools beside the sampler: sizes, loudness, scales of latents, keys of embeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image, ImageDraw

from infinite_talk.errors import InputError, UsageError
from infinite_talk.inputs.loudness import BLOCK
from infinite_talk.models.vae.config import WAN_MEAN, WAN_STD
from infinite_talk.nodes.declare import CATEGORY, Inputs, checked, choice, integer, link, number
from infinite_talk.nodes.helpers.resizing import fit, plan_fit
from infinite_talk.types import SPATIAL_STRIDE

_TOKEN = 2  # latent cells along a side of the transformer's tokens
_SILENCE = 100.0  # LUFS, either way: beyond it there is no loudness that means something


class WanVideoImageResizeToClosest:
    """Pictures at the largest size within an area whose sides the model takes."""

    RETURN_TYPES: ClassVar = ("IMAGE", "INT", "INT")
    RETURN_NAMES: ClassVar = ("image", "width", "height")
    FUNCTION = "process"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802 - ComfyUI's name
        return {
            "required": {
                "image": link("IMAGE"),
                "generation_width": integer(832, 64, 8096, 8),
                "generation_height": integer(480, 64, 8096, 8),
                "aspect_ratio_preservation": choice(("keep_input", "stretch_to_new", "crop_to_new")),
            }
        }

    @checked()
    def process(
        self,
        image: torch.Tensor,
        generation_width: int = 832,
        generation_height: int = 480,
        aspect_ratio_preservation: str = "keep_input",
    ) -> tuple[torch.Tensor, int, int]:
        """The pictures (Lanczos), their width and height; both multiples of 16, the area no larger than asked."""
        height, width = image.shape[1:3]
        kept = aspect_ratio_preservation == "keep_input"
        shape = height / width if kept else generation_height / generation_width
        to_height, to_width = closest_size(generation_height * generation_width, shape)
        cut = "crop" if aspect_ratio_preservation == "crop_to_new" else "stretch"
        plan = plan_fit(height, width, to_height=to_height, to_width=to_width, proportion=cut)
        return fit(image[..., :3], plan, "lanczos", proportion=cut), to_width, to_height


def closest_size(area: int, shape: float) -> tuple[int, int]:
    """Height and width in pixels of the largest picture of about ``shape`` (height / width) within ``area``.

    Wan2.1's own formula: each side is rounded down to a multiple of 16; an extreme shape keeps one token.
    """
    step = SPATIAL_STRIDE * _TOKEN
    sides = (float(np.sqrt(area * shape)), float(np.sqrt(area / shape)))
    height, width = (max(int(side // SPATIAL_STRIDE // _TOKEN), 1) * step for side in sides)
    return height, width


class NormalizeAudioLoudness:
    """A sound at another loudness."""

    RETURN_TYPES: ClassVar = ("AUDIO",)
    RETURN_NAMES: ClassVar = ("audio",)
    FUNCTION = "normalize"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {"required": {"audio": link("AUDIO"), "lufs": number(-23.0, -100.0, 0.0, 0.1)}}

    @checked()
    def normalize(self, audio: Mapping[str, Any], lufs: float = -23.0) -> tuple[dict[str, Any]]:
        """All channels times one factor, each item of the batch by itself; silence stays as it is."""
        rate = int(audio["sample_rate"])
        waveform: torch.Tensor = audio["waveform"].float()
        made = torch.stack([item * _factor(item, rate, lufs) for item in waveform])
        return ({**audio, "waveform": made},)


def _factor(waveform: torch.Tensor, rate: int, lufs: float) -> float:
    """What brings ``(channels, samples)`` to a loudness (ITU-R BS.1770); 1 for silence."""
    import pyloudnorm  # brings scipy, a second that others need not wait for

    samples = waveform.cpu().numpy().T
    shortest = int(np.ceil(BLOCK * rate))
    if len(samples) < shortest:  # measured as if it were repeated
        samples = np.resize(samples, (shortest, samples.shape[1]))
    loudness = float(pyloudnorm.Meter(rate, block_size=BLOCK).integrated_loudness(samples))
    return 1.0 if abs(loudness) > _SILENCE else float(10 ** ((lufs - loudness) / 20))


class WanVideoLatentReScale:
    """Latents between ComfyUI's own scale and that of this pack, which is the model's."""

    RETURN_TYPES: ClassVar = ("LATENT",)
    RETURN_NAMES: ClassVar = ("samples",)
    FUNCTION = "encode"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {
            "required": {
                "samples": link("LATENT"),
                "direction": choice(("comfy_to_wrapper", "wrapper_to_comfy")),
            }
        }

    @checked()
    def encode(
        self, samples: Mapping[str, Any], direction: str = "comfy_to_wrapper"
    ) -> tuple[dict[str, Any]]:
        """``(x - mean) / std`` by channel, or back; what was given is not changed.

        Raises:
            InputError: the latent has other channels than Wan2.1's 16.
        """
        latent: torch.Tensor = samples["samples"]
        if latent.dim() != 5 or latent.shape[1] != len(WAN_MEAN):
            raise InputError(
                f"The latent has the shape {tuple(latent.shape)}; expected (B, {len(WAN_MEAN)}, T, h, w) of Wan2.1."
            )
        mean, std = (latent.new_tensor(numbers).view(1, -1, 1, 1, 1) for numbers in (WAN_MEAN, WAN_STD))
        into = direction == "comfy_to_wrapper"
        return ({**samples, "samples": (latent - mean) / std if into else latent * std + mean},)


class WanVideoAddExtraLatent:
    """Latents that are given, and held at their place."""

    RETURN_TYPES: ClassVar = ("WANVIDIMAGE_EMBEDS",)
    RETURN_NAMES: ClassVar = ("image_embeds",)
    FUNCTION = "add"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {
            "required": {
                "embeds": link("WANVIDIMAGE_EMBEDS"),
                "extra_latents": link("LATENT"),
                "latent_index": integer(0, -1000, 1000, 1),
            }
        }

    @checked()
    def add(
        self, embeds: Mapping[str, Any], extra_latents: Mapping[str, Any], latent_index: int = 0
    ) -> tuple[dict[str, Any]]:
        """The embeds with one more entry of ``extra_latents``; what was given is not changed."""
        before = embeds.get("extra_latents") or []
        several = before if isinstance(before, list) else [before]
        entry = {"samples": extra_latents["samples"], "index": latent_index}
        return ({**embeds, "extra_latents": [*several, entry]},)


class WanVideoAddPusaNoise:
    """Noise of their own for given latents, with the scheduler ``flowmatch_pusa``."""

    RETURN_TYPES: ClassVar = ("WANVIDIMAGE_EMBEDS",)
    RETURN_NAMES: ClassVar = ("image_embeds",)
    FUNCTION = "add"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {
            "required": {
                "embeds": link("WANVIDIMAGE_EMBEDS"),
                "noise_multipliers": number(0.0, 0.0, 100.0, 0.01),
                "noisy_steps": integer(-1, -1, 1000),
            }
        }

    @checked(lists=("noise_multipliers",))
    def add(
        self,
        embeds: Mapping[str, Any],
        noise_multipliers: float | Sequence[float] = 0.0,
        noisy_steps: int = -1,
    ) -> tuple[dict[str, Any]]:
        """The embeds with ``pusa_noise_multipliers`` and ``pusa_noisy_steps``; what was given is not changed."""
        more = {"pusa_noise_multipliers": noise_multipliers, "pusa_noisy_steps": noisy_steps}
        return ({**embeds, **more},)


class DummyComfyWanModelObject:
    """A model that only knows its sigmas, for ComfyUI's nodes that make schedules."""

    RETURN_TYPES: ClassVar = ("MODEL",)
    RETURN_NAMES: ClassVar = ("model",)
    FUNCTION = "create"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {"required": {"shift": number(1.0, -100.0, 100.0, 0.01)}}

    @checked()
    def create(self, shift: float = 1.0) -> tuple[ShiftedModel]:
        """It.

        Raises:
            UsageError: a shift with which sigmas do not fall from 1 to 0.
        """
        if shift <= 0:
            raise UsageError(
                f"shift is {shift}; give a number above 0, or there is no way from noise to picture."
            )
        return (ShiftedModel(shift),)


class ShiftedModel:
    """What ``BasicScheduler`` and its like ask of a model."""

    def __init__(self, shift: float) -> None:
        self.sampling = ShiftedSigmas(shift)

    def get_model_object(self, name: str) -> ShiftedSigmas | None:
        """``model_sampling``; nothing else is there."""
        return self.sampling if name == "model_sampling" else None


class ShiftedSigmas:
    """Flow matching's sigmas with a shift, under the names of ComfyUI's ``ModelSamplingDiscreteFlow``."""

    STEPS = 1000

    def __init__(self, shift: float) -> None:
        self.shift = shift
        self.multiplier = float(self.STEPS)
        self.sigmas = self._shifted(torch.arange(1, self.STEPS + 1) / self.STEPS)

    @property
    def sigma_min(self) -> torch.Tensor:
        """Of the last of a thousand steps."""
        return self.sigmas[0]

    @property
    def sigma_max(self) -> torch.Tensor:
        """Noise alone."""
        return self.sigmas[-1]

    def timestep(self, sigma: torch.Tensor) -> torch.Tensor:
        """0..1000."""
        return sigma * self.multiplier

    def sigma(self, timestep: torch.Tensor) -> torch.Tensor:
        """Of a time before the shift, 0..1000."""
        return self._shifted(timestep / self.multiplier)

    def percent_to_sigma(self, percent: float) -> float:
        """Of a share of the steps that is done, 0..1."""
        return float(self._shifted(torch.tensor(1.0 - min(max(percent, 0.0), 1.0))))

    def _shifted(self, sigma: torch.Tensor) -> torch.Tensor:
        return self.shift * sigma / (1 + (self.shift - 1) * sigma)


class FaceMaskFromPoseKeypoints:
    """Masks of one person's face, from the key points of OpenPose."""

    RETURN_TYPES: ClassVar = ("MASK",)
    RETURN_NAMES: ClassVar = ("MASK",)
    FUNCTION = "createmask"
    CATEGORY = "ControlNet Preprocessors/Pose Keypoint Postprocess"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {"required": {"pose_kps": link("POSE_KEYPOINT"), "person_index": integer(0, 0, 100, 1)}}

    @checked()
    def createmask(self, pose_kps: Sequence[Mapping[str, Any]], person_index: int = 0) -> tuple[torch.Tensor]:
        """``(F, H, W)``, 1 inside the line of the jaw; 0 in frames without a usable face.

        The person is chosen in the first frame that has faces, and followed by the nearest face since.

        Raises:
            InputError: there are no frames, or their canvases differ.
        """
        if not pose_kps:
            raise InputError("pose_kps is empty; connect the key points of at least one frame.")
        sizes = {(frame["canvas_height"], frame["canvas_width"]) for frame in pose_kps}
        if len(sizes) > 1:
            raise InputError(
                f"The canvases of pose_kps differ: {sorted(sizes)}. Give key points of one video."
            )
        before: np.ndarray[Any, Any] | None = None
        masks = []
        for frame in pose_kps:
            face = _face_of(frame, person_index, before)
            before = before if face is None else face.mean(axis=0)
            masks.append(_mask_of(face, *sizes.copy().pop()))
        return (torch.from_numpy(np.stack(masks)),)


_JAW = 17
"""Points of the jaw, the first ones of a face."""
_LEAST, _MOST = 0.001, 0.5
"""Shares of the canvas that a face can have; others are wrong detections."""


def _face_of(
    frame: Mapping[str, Any], index: int, before: np.ndarray[Any, Any] | None
) -> np.ndarray[Any, Any] | None:
    """Points ``(n, 2)`` of the face nearest to ``before``; without that, of the one with the index, or the first."""
    faces = []
    for person in frame["people"]:
        numbers = np.asarray(person.get("face_keypoints_2d") or (), dtype=np.float64)
        points = numbers[: len(numbers) // 3 * 3].reshape(-1, 3)[:, :2]
        if len(points) and np.isfinite(points).all() and points.any():
            faces.append(points)
    if not faces:
        return None
    if before is not None:
        return min(faces, key=lambda points: float(np.linalg.norm(points.mean(axis=0) - before)))
    return faces[index if index < len(faces) else 0]


def _mask_of(face: np.ndarray[Any, Any] | None, height: int, width: int) -> np.ndarray[Any, Any]:
    """The jaw line filled; empty for what cannot be a face."""
    canvas = Image.new("L", (width, height))
    if face is not None and len(face) >= _JAW and (face >= 0).all():
        jaw = face[:_JAW]
        x, y = jaw[:, 0], jaw[:, 1]
        area = abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2  # shoelace
        if _LEAST <= area / (width * height) <= _MOST:
            ImageDraw.Draw(canvas).polygon([tuple(point) for point in jaw.round()], fill=1)
    return np.asarray(canvas, dtype=np.float32)
