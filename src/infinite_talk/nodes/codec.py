"""Frames to latents and back: the nodes around the video codec, and the two shapes of a sampler's result.

A sampler gives latents, ``{"samples": (1, 16, t, h, w)}``, or finished frames, ``{"video": (T, H, W, 3) in [-1, 1] or
None, "output_path": folder}``. ``WanVideoDecode`` takes both and changes neither.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch

from infinite_talk.errors import UsageError
from infinite_talk.nodes.clips import augmented
from infinite_talk.nodes.declare import CATEGORY, Inputs, checked, choice, flag, integer, link, listed, number
from infinite_talk.nodes.handles import Vae, need_vae, say
from infinite_talk.nodes.pictures import SIDE, as_pictures, as_video, checked_pictures, stretched
from infinite_talk.nodes.reading import frames_at
from infinite_talk.rooms import Codec

LATENT_KEYS = (
    *("samples", "noise_mask", "looped", "end_image", "has_ref", "drop_last", "generator_state"),
    *("original_image", "cache_states", "latent_ovi_audio", "flashvsr_LQ_images"),
)
FRAME_KEYS = ("video", "output_path")
MIXED_BEFORE, MIXED_BEHIND = 3, 2
"""Latents on both sides of a loop's seam that are decoded once more, as neighbours."""
Samples = Mapping[str, Any]
_log = logging.getLogger(__name__)


class WanVideoEncode:
    """A video as latents."""

    RETURN_TYPES: ClassVar = ("LATENT",)
    RETURN_NAMES: ClassVar = ("samples",)
    FUNCTION = "encode"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802 - ComfyUI's name
        return {
            "required": {"vae": link("WANVAE"), "image": link("IMAGE"), **_encoder_tiles()},
            "optional": {
                "noise_aug_strength": number(0.0, 0.0, 10.0, 0.001),
                "latent_strength": number(1.0, 0.0, 10.0, 0.001),
                "mask": link("MASK"),
            },
        }

    @checked()
    def encode(
        self,
        vae: Vae,
        image: torch.Tensor,
        enable_vae_tiling: bool = False,
        tile_x: int = 272,
        tile_y: int = 272,
        tile_stride_x: int = 144,
        tile_stride_y: int = 128,
        noise_aug_strength: float = 0.0,
        latent_strength: float = 1.0,
        mask: torch.Tensor | None = None,
    ) -> tuple[dict[str, Any]]:
        """``{"samples": (1, 16, t, h, w) on the CPU, "noise_mask": mask or None}``.

        Sides that do not divide by 16 are scaled down to the next that do; the last frames that do not make a whole
        latent are left out. Noise is added to the frames, where they are not black.

        Raises:
            UsageError: there is no codec, or a tile is no larger than its stride.
            InputError: the image is no picture.
        """
        tile = _tile(enable_vae_tiling, (tile_x, tile_y), (tile_stride_x, tile_stride_y))
        codec = need_vae(vae).codec(tile=tile)
        video = as_video(_divisible(checked_pictures("image", image)))
        if noise_aug_strength:
            video = torch.where(video == -1, video, augmented(video, noise_aug_strength))
        latents = codec.encode_video(_whole(video)).cpu().clone() * latent_strength
        _log.info("%d frames are %s.", video.shape[1], tuple(latents.shape))
        return ({"samples": latents[None], "noise_mask": mask},)


class WanVideoEncodeLatentBatch:
    """Pictures as latents of one frame each."""

    RETURN_TYPES: ClassVar = ("LATENT",)
    RETURN_NAMES: ClassVar = ("samples",)
    FUNCTION = "encode"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {"required": {"vae": link("WANVAE"), "images": link("IMAGE"), **_encoder_tiles()}}

    @checked()
    def encode(
        self,
        vae: Vae,
        images: torch.Tensor,
        enable_vae_tiling: bool = False,
        tile_x: int = 272,
        tile_y: int = 272,
        tile_stride_x: int = 144,
        tile_stride_y: int = 128,
    ) -> tuple[dict[str, Any]]:
        """``{"samples": (n, 16, 1, h, w) on the CPU}``.

        Raises:
            UsageError: there is no codec, or a tile is no larger than its stride.
            InputError: the images are no pictures.
        """
        tile = _tile(enable_vae_tiling, (tile_x, tile_y), (tile_stride_x, tile_stride_y))
        codec = need_vae(vae).codec(tile=tile)
        video = as_video(_divisible(checked_pictures("images", images)))
        latents = [codec.encode_video(video[:, i : i + 1]).cpu().clone() for i in range(video.shape[1])]
        return ({"samples": torch.stack(latents)},)


class WanVideoDecode:
    """What a sampler made, as pictures."""

    RETURN_TYPES: ClassVar = ("IMAGE",)
    RETURN_NAMES: ClassVar = ("images",)
    FUNCTION = "decode"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {
            "required": {
                "vae": link("WANVAE"),
                "samples": link("LATENT"),
                "enable_vae_tiling": flag(False),
                "tile_x": integer(272, 40, 2048, 8),
                "tile_y": integer(272, 40, 2048, 8),
                "tile_stride_x": integer(144, 32, 2040, 8),
                "tile_stride_y": integer(128, 32, 2040, 8),
            },
            "optional": {"normalization": choice(("default", "minmax", "none"), "default", advanced=True)},
        }

    @checked(also={"vae": (None,), "samples": (None,)})
    def decode(
        self,
        vae: Vae | None,
        samples: Samples,
        enable_vae_tiling: bool = False,
        tile_x: int = 272,
        tile_y: int = 272,
        tile_stride_x: int = 144,
        tile_stride_y: int = 128,
        normalization: str = "default",
    ) -> tuple[torch.Tensor]:
        """``(T, H, W, 3)`` float32 on the CPU. Frames need no codec; latents do.

        Args:
            normalization: ``default``: [-1, 1] to 0..1, clamped; ``minmax``: darkest to 0 and brightest to 1; ``none``:
                as they are.

        Raises:
            UsageError: ``samples`` is neither latents nor frames; there is no codec; a tile is no larger than its
                stride.
            InputError: the frames are not where ``output_path`` says.
        """
        given = described(samples)
        if is_frames(given):
            return (normalised(finished(given), normalization),)
        tile = _tile(enable_vae_tiling, (tile_x, tile_y), (tile_stride_x, tile_stride_y))
        codec = need_vae(vae).codec(tile=tile)
        frames = [as_pictures(_decoded(codec, latents, given)) for latents in _latents(given)]
        pictures = normalised(frames[0] if len(frames) == 1 else torch.cat(frames), normalization)
        _log.info("Decoded to pictures %s.", tuple(pictures.shape))
        return (pictures,)


class WanVideoPassImagesFromSamples:
    """Finished frames as pictures, and where they lie."""

    RETURN_TYPES: ClassVar = ("IMAGE", "STRING")
    RETURN_NAMES: ClassVar = ("images", "output_path")
    FUNCTION = "decode"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {"required": {"samples": link("LATENT")}}

    @checked(also={"samples": (None,)})
    def decode(self, samples: Samples) -> tuple[torch.Tensor, str]:
        """``(T, H, W, 3)`` in 0..1 on the CPU, and the folder, which may be none.

        Raises:
            UsageError: these are no frames.
            InputError: the frames are not where ``output_path`` says.
        """
        given = described(samples)
        if not is_frames(given):
            raise UsageError(
                "samples are latents, which are no pictures yet; connect WanVideoDecode instead of this node."
            )
        return normalised(finished(given), "default"), str(given.get("output_path") or "")


# Frames


def described(samples: object) -> Samples:
    """What a sampler gave, looked at: says to the log what came.

    Raises:
        UsageError: it is neither of the two shapes.
    """
    known = f"known are {listed(LATENT_KEYS)} (latents), {listed(FRAME_KEYS)} (frames)"
    if not isinstance(samples, Mapping):
        hint = " A node's result is a tuple: take its first entry." if isinstance(samples, tuple) else ""
        raise UsageError(f"samples is a {type(samples).__name__}, expected a dictionary; {known}.{hint}")
    _log.info("samples: %s with %s", type(samples).__name__, listed(_said(*item) for item in samples.items()))
    if "samples" not in samples and not is_frames(samples):
        raise UsageError(f"samples has the keys {listed(samples) or '(none)'}; {known}.")
    return samples


def is_frames(samples: Samples) -> bool:
    """Whether these are finished frames."""
    return samples.get("video") is not None or bool(samples.get("output_path"))


def finished(samples: Samples) -> torch.Tensor:
    """Finished frames ``(T, H, W, 3)`` in [-1, 1], a new tensor: those that were handed over, or those in the folder.

    The node pack hands over one black picture with a folder, and so may scripts: a folder is what counts.
    """
    path, video = str(samples.get("output_path") or ""), samples.get("video")
    if path and (video is None or len(video) <= 1):
        pictures = frames_at(Path(path))
        _log.info("Finished frames %s are read from %s.", tuple(pictures.shape), path)
        return pictures.mul_(2).sub_(1)
    if not isinstance(video, torch.Tensor) or video.dim() != 4 or video.shape[-1] != 3:
        came = tuple(video.shape) if isinstance(video, torch.Tensor) else type(video).__name__
        raise UsageError(
            f"video is {came}, expected a tensor (frames, height, width, 3) with values from -1 to 1."
        )
    _log.info("Finished frames %s are passed on%s.", tuple(video.shape), f", also in {path}" if path else "")
    return video.detach().to("cpu", torch.float32, copy=True)


def normalised(frames: torch.Tensor, how: str) -> torch.Tensor:
    """Frames in [-1, 1] as pictures, in their own memory: an hour of video exists once."""
    if how == "none":
        return frames
    if how == "minmax":
        low, high = torch.aminmax(frames)
        return frames.sub_(low).div_((high - low).clamp_min(1e-8))
    return frames.clamp_(-1, 1).add_(1).div_(2)


# Latents


def _latents(samples: Samples) -> torch.Tensor:
    """``(n, 16, t, h, w)``: without a reference in front, or what is to be dropped at the end."""
    found = samples["samples"]
    if not isinstance(found, torch.Tensor) or found.dim() not in (4, 5):
        came = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
        raise UsageError(f"The latents are {came}, expected a tensor (1, 16, frames, height, width).")
    latents = (found if found.dim() == 5 else found[None]).detach().float()
    if samples.get("has_ref"):
        latents = latents[:, :, 1:]
    if samples.get("drop_last"):
        latents = latents[:, :, :-1]
    if not latents.shape[2]:
        raise UsageError(f"Of latents {tuple(found.shape)} nothing is left without reference and last frame.")
    _log.info("Latents %s are decoded.", tuple(latents.shape))
    return latents


def _decoded(codec: Codec, latents: torch.Tensor, samples: Samples) -> torch.Tensor:
    """Frames ``(3, F, H, W)`` of latents ``(16, t, h, w)``, on the CPU.

    A loop's seam is decoded with its neighbours on both sides, the last latents in front of the first: its first five
    frames, which had no past, give way to those. A clip whose last picture was a latent of its own loses that frame.
    """
    frames = codec.decode_video(latents.to(codec.device)).cpu()
    if samples.get("looped"):
        seam = torch.cat([latents[:, -MIXED_BEFORE:], latents[:, :MIXED_BEHIND]], dim=1)
        again = codec.decode_video(seam.to(codec.device)).cpu()
        before = 1 + 4 * (MIXED_BEFORE - 1)  # frames of the latents in front, the first of which is one frame
        behind = 1 + 4 * (MIXED_BEHIND - 1)  # frames that those latents were at the beginning
        frames = torch.cat([again[:, before:], frames[:, behind:]], dim=1)
    return frames[:, :-1] if samples.get("end_image") is not None else frames


def _tile(wanted: bool, sides: tuple[int, int], strides: tuple[int, int]) -> int | None:
    """The side of the tiles; the smaller one, since here tiles are squares without seams.

    Raises:
        UsageError: a tile is no larger than its stride, which would leave gaps.
    """
    if not wanted:
        return None
    for axis, side, stride in zip("xy", sides, strides, strict=True):
        if side <= stride:
            raise UsageError(
                f"tile_{axis} is {side} and tile_stride_{axis} is {stride}; a tile must be larger."
            )
    return min(sides)


def _encoder_tiles() -> dict[str, Any]:
    return {
        "enable_vae_tiling": flag(False),
        "tile_x": integer(272, 64, 2048, 1),
        "tile_y": integer(272, 64, 2048, 1),
        "tile_stride_x": integer(144, 32, 2048, 32),
        "tile_stride_y": integer(128, 32, 2048, 32),
    }


def _divisible(pictures: torch.Tensor) -> torch.Tensor:
    height, width = (max(SIDE, side // SIDE * SIDE) for side in pictures.shape[1:3])
    if (height, width) != tuple(pictures.shape[1:3]):
        say(
            f"Pictures of {pictures.shape[2]}x{pictures.shape[1]} are scaled to {width}x{height} (multiples of 16)."
        )
    return stretched(pictures, height, width)


def _whole(video: torch.Tensor) -> torch.Tensor:
    """The frames that make whole latents, 4n + 1."""
    frames = (video.shape[1] - 1) // 4 * 4 + 1
    if frames < video.shape[1]:
        say(
            f"The last {video.shape[1] - frames} of {video.shape[1]} frames make no whole latent and are left out."
        )
    return video[:, :frames]


def _said(key: object, value: object) -> str:
    return f"{key} {tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__}"
