"""``Rooms``: the five models of one checkpoint, built when they are needed and shared by all runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import nn

from infinite_talk.errors import UsageError
from infinite_talk.models.dit import WanTransformer
from infinite_talk.models.speech import SpeechEncoder
from infinite_talk.models.text import TextEncoder
from infinite_talk.models.tiny_vae import TinyVAE
from infinite_talk.models.vae import VideoVAE
from infinite_talk.models.vae.config import CACHE_BYTES, MAP_BYTES_GPU
from infinite_talk.models.vae.still import encode_still
from infinite_talk.models.vision import ImageEncoder
from infinite_talk.presets import Defaults
from infinite_talk.types import SPATIAL_STRIDE, TEMPORAL_STRIDE

M = TypeVar("M", bound=nn.Module)
_log = logging.getLogger(__name__)


class Resident(Generic[M]):
    """A model that is built at its first use, and then stays or leaves after each use.

    What leaves is built again from its file, which the operating system keeps in memory while there is room: so
    no copy of ours stands in the host's memory.
    """

    def __init__(self, make: Callable[[], M], *, keep: bool) -> None:
        """``make`` builds the model on its device; ``keep``: whether it stays."""
        self._make, self.keep = make, keep
        self._model: M | None = None

    @property
    def there(self) -> bool:
        """Whether it is built."""
        return self._model is not None

    @contextmanager
    def at_hand(self) -> Iterator[M]:
        """The model, for as long as the block lasts."""
        if self._model is None:
            # What the allocator keeps from earlier work would be filled with pieces of the weights, and then lie
            # broken up for as long as they stay.
            _empty_cache()
            self._model = self._make()
        try:
            yield self._model
        finally:
            if not self.keep:
                self.release()

    def release(self) -> None:
        """Let the model go; its memory returns to the device."""
        self._model = None
        _empty_cache()


def _empty_cache() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def using(model: M | Resident[M]) -> Iterator[M]:
    """Have ``model`` on the device for as long as the block lasts."""
    if isinstance(model, Resident):
        with model.at_hand() as built:
            yield built
    else:
        yield model


@dataclass(frozen=True, slots=True, eq=False)
class Codec:
    """Frames to latents and back, in pieces that fit."""

    vae: VideoVAE | Resident[VideoVAE] | None
    """``None``: only ``tiny_vae`` is there, which cannot encode."""
    device: torch.device
    tiny_vae: TinyVAE | Resident[TinyVAE] | None = None
    """Decodes instead of ``vae``."""
    decode_frames: int | None = None
    """Video frames that the codec takes at a time; ``None``: what ``models/vae/config.py`` allows."""
    vae_tile: int | None = None
    """Side in pixels of the tiles in which the codec works; ``None``: whole frames."""

    @torch.inference_mode()
    def encode_video(self, video: torch.Tensor) -> torch.Tensor:
        """Frames ``(3, F, H, W)`` in [-1, 1] as a normalised latent ``(16, T, h, w)``, float32."""
        video = video[None].to(self.device, torch.float32)
        with using(self._exact()) as vae:
            latents = 1 + (video.shape[2] - 1) // TEMPORAL_STRIDE
            at_once = self._latents_at_once(video[0, 0, 0].numel(), vae)

            def encode(at_once: int) -> torch.Tensor:
                if self.vae_tile is None and at_once >= latents:
                    return vae.encode(video)[0]
                return vae.encode_pieces(video, self.vae_tile, at_once)[0]

            return _in_range(vae, encode, at_once)

    @torch.inference_mode()
    def encode_still(self, picture: torch.Tensor, frames: int, colour: float) -> torch.Tensor:
        """As ``encode_video`` of ``picture`` ``(3, H, W)`` and ``frames - 1`` frames of ``colour`` behind it."""
        with using(self._exact()) as vae:
            if self.vae_tile is None:
                shown = picture[None].to(self.device, torch.float32)
                return _in_range(vae, lambda _: encode_still(vae, shown, frames, colour)[0], 1)
        video = torch.full((3, frames, *picture.shape[1:]), colour, device=picture.device)
        video[:, 0] = picture
        return self.encode_video(video)

    @torch.inference_mode()
    def decode_video(self, latent: torch.Tensor) -> torch.Tensor:
        """The inverse: frames ``(3, F, H, W)`` in [-1, 1], float32."""
        if self.tiny_vae is not None:
            with using(self.tiny_vae) as tiny:
                return torch.cat(list(tiny.decode_chunks(latent[None])), dim=2)[0]
        with using(self._exact()) as vae:
            at_once = self._latents_at_once(SPATIAL_STRIDE**2 * latent[0, 0].numel(), vae)
            return _in_range(
                vae, lambda at_once: vae.decode_pieces(latent[None], at_once, self.vae_tile)[0], at_once
            )

    def _exact(self) -> VideoVAE | Resident[VideoVAE]:
        if self.vae is None:
            raise UsageError(
                "A tiny decoder cannot encode pictures. Load the whole codec with WanVideoVAELoader and give it to the "
                "nodes that encode; the tiny one decodes."
            )
        return self.vae

    def _latents_at_once(self, pixels: int, vae: VideoVAE) -> int:
        """Latent frames of a video with frames of ``pixels`` pixels that the codec takes at a time."""
        if self.decode_frames is not None:
            return max(1, self.decode_frames // TEMPORAL_STRIDE)
        widest = vae.dtype.itemsize * vae.config.dim / vae.config.patch**2  # bytes for a pixel of video
        most = CACHE_BYTES if self.device.type == "cpu" else MAP_BYTES_GPU
        return max(1, int(most / (TEMPORAL_STRIDE * pixels * widest)))


@dataclass(frozen=True, slots=True, eq=False)
class Rooms:
    """Models in evaluation mode on ``device``, and what they want by default."""

    transformer: WanTransformer | Resident[WanTransformer]
    vae: VideoVAE | Resident[VideoVAE]
    text: TextEncoder | Resident[TextEncoder]
    vision: ImageEncoder | Resident[ImageEncoder]
    speech: SpeechEncoder | Resident[SpeechEncoder]
    defaults: Defaults
    device: torch.device
    dtype: torch.dtype  # of the transformer; the other models keep what suits them
    name: str = "unnamed"
    version: str = "0"
    tiny_vae: TinyVAE | Resident[TinyVAE] | None = None
    """Decodes instead of ``vae``, for drafts; pictures and motion frames are encoded by ``vae`` all the same."""
    runs: str = ""
    """What runs, for people: ``"cuda, bf16, attention sdpa"``."""
    decode_frames: int | None = None
    """Video frames that the codec takes at a time; ``None``: what ``models/vae/config.py`` allows."""
    batch_branches: bool = False
    """The guidance branches of a step are one batch, or follow one another."""
    vae_tile: int | None = None
    """Side in pixels of the tiles in which the codec works; ``None``: whole frames."""
    width: int = 5120
    """Of the transformer's stream: 5120 is 14B."""

    def using(self, model: M | Resident[M]) -> AbstractContextManager[M]:
        """Have ``model`` on the device for as long as the block lasts."""
        return using(model)

    @property
    def codec(self) -> Codec:
        """What encodes and decodes frames."""
        return Codec(self.vae, self.device, self.tiny_vae, self.decode_frames, self.vae_tile)

    def encode_video(self, video: torch.Tensor) -> torch.Tensor:
        """Frames ``(3, F, H, W)`` in [-1, 1] as a normalised latent ``(16, T, h, w)``, float32."""
        return self.codec.encode_video(video)

    def encode_still(self, picture: torch.Tensor, frames: int, colour: float) -> torch.Tensor:
        """As ``encode_video`` of ``picture`` ``(3, H, W)`` and ``frames - 1`` frames of ``colour`` behind it."""
        return self.codec.encode_still(picture, frames, colour)

    def decode_video(self, latent: torch.Tensor) -> torch.Tensor:
        """The inverse of ``encode_video``: frames ``(3, F, H, W)`` in [-1, 1], float32."""
        return self.codec.decode_video(latent)


def _in_range(vae: VideoVAE, run: Callable[[int], torch.Tensor], at_once: int) -> torch.Tensor:
    """``run(at_once)``; in float32 and one latent frame at a time if it left the range of float16.

    Numbers that overflow are infinite and turn into NaN at the next norm. On its last notch, when pieces are of
    one latent frame already, the second run needs more memory than was planned.
    """
    found = run(at_once)
    if vae.dtype is not torch.float16 or bool(found.isfinite().all()):
        return found
    _log.warning("The video codec left the range of float16 and works in float32 instead; this takes longer.")
    try:
        vae.float()
        return run(1)
    finally:
        vae.half()  # the same numbers as before
