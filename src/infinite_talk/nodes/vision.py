"""Pictures become ``clip_embeds``: what CLIP sees, ``(B, 257, 1280)`` from its last block but one."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch.nn import functional

from infinite_talk.errors import UsageError
from infinite_talk.nodes.declare import CATEGORY, Inputs, checked, choice, flag, integer, link, number
from infinite_talk.nodes.handles import Loadable
from infinite_talk.nodes.pictures import checked_pictures

COMBINATIONS = ("average", "sum", "concat", "batch")


class WanVideoClipVisionEncode:
    """What CLIP sees in one or more pictures."""

    RETURN_TYPES: ClassVar = ("WANVIDIMAGE_CLIPEMBEDS",)
    RETURN_NAMES: ClassVar = ("image_embeds",)
    FUNCTION = "process"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802 - ComfyUI's name
        return {
            "required": {
                "clip_vision": link("CLIP_VISION"),
                "image_1": link("IMAGE"),
                "strength_1": number(1.0, 0.0, 10.0, 0.001),
                "strength_2": number(1.0, 0.0, 10.0, 0.001),
                "crop": choice(("center", "disabled"), "center"),
                "combine_embeds": choice(COMBINATIONS, "average"),
                "force_offload": flag(True),
            },
            "optional": {
                "image_2": link("IMAGE"),
                "negative_image": link("IMAGE"),
                "tiles": integer(0, 0, 16, 2),
                "ratio": number(0.5, 0.0, 1.0, 0.01),
            },
        }

    @checked()
    def process(
        self,
        clip_vision: object,
        image_1: torch.Tensor,
        strength_1: float = 1.0,
        strength_2: float = 1.0,
        force_offload: bool = True,
        crop: str = "center",
        combine_embeds: str = "average",
        image_2: torch.Tensor | None = None,
        negative_image: torch.Tensor | None = None,
        tiles: int = 0,
        ratio: float = 0.5,
    ) -> tuple[dict[str, Any]]:
        """``{"clip_embeds": (B, L, D), "negative_clip_embeds": the same or None}``.

        With several pictures their features, times their strength, are averaged, added, put side by side (``concat``)
        or kept apart (``batch``). Every picture of a batch counts.

        Raises:
            UsageError: no image encoder is connected.
            InputError: an image is no picture.
        """
        see = _Eyes(clip_vision, crop, tiles, ratio)
        seen = [see(one) * strength_1 for one in checked_pictures("image_1", image_1)]
        if image_2 is not None:
            seen += [see(one) * strength_2 for one in checked_pictures("image_2", image_2)]
        found = combined(seen, combine_embeds)
        negative = None
        if negative_image is not None:
            negative = torch.cat([see(one) for one in checked_pictures("negative_image", negative_image)])
        if force_offload:
            see.release()
        return ({"clip_embeds": found, "negative_clip_embeds": negative},)


def combined(seen: list[torch.Tensor], how: str) -> torch.Tensor:
    """Features ``(1, L, D)`` of several pictures as one."""
    if how == "concat":
        return torch.cat(seen, dim=1)
    if how == "batch":
        return torch.cat(seen)
    total = torch.stack(seen).sum(0)
    return total / len(seen) if how == "average" else total


def centre_square(picture: torch.Tensor) -> torch.Tensor:
    """The largest square in the middle of a picture ``(H, W, 3)``."""
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return picture[top : top + side, left : left + side]


class _Eyes:
    """An image encoder of ours, or ComfyUI's own object."""

    def __init__(self, clip_vision: object, crop: str, tiles: int, ratio: float) -> None:
        if clip_vision is None or not (
            isinstance(clip_vision, Loadable) or hasattr(clip_vision, "encode_image")
        ):
            raise UsageError(
                f"clip_vision is {'None' if clip_vision is None else f'a {type(clip_vision).__name__}'}; connect "
                "CLIPVisionLoader or LoadWanVideoClipTextEncoder."
            )
        self._model: Any = clip_vision
        self._crop, self._tiles, self._ratio = crop, tiles, ratio

    def __call__(self, picture: torch.Tensor) -> torch.Tensor:
        """Features ``(1, L, D)`` of a picture ``(H, W, 3)``, on the CPU."""
        shown = centre_square(picture) if self._crop == "center" else picture
        whole = self._see(shown[None])
        if self._tiles < 2:
            return whole
        return self._ratio * whole + (1 - self._ratio) * self._tiled(shown)

    def release(self) -> None:
        """Let a model of ours go; ComfyUI cares for its own."""
        if isinstance(self._model, Loadable):
            self._model.release()

    def _tiled(self, picture: torch.Tensor) -> torch.Tensor:
        """The features of ``tiles`` x ``tiles`` parts, on the grid of the whole picture."""
        count = self._tiles
        rows = [picture.tensor_split(count, dim=0)[i].tensor_split(count, dim=1) for i in range(count)]
        parts = torch.cat([self._see(part[None]) for row in rows for part in row])  # (tiles ** 2, L, D)
        side = round((parts.shape[1] - 1) ** 0.5)
        cells = parts[:, 1:].reshape(count, count, side, side, -1)  # (n, n, s, s, D)
        grid = cells.permute(4, 0, 2, 1, 3).flatten(3, 4).flatten(1, 2)[None]  # (1, D, n s, n s)
        pooled = functional.adaptive_avg_pool2d(grid, side)[0].flatten(1).T
        return torch.cat([parts[:, 0].mean(0, keepdim=True), pooled])[None]

    @torch.inference_mode()
    def _see(self, pictures: torch.Tensor) -> torch.Tensor:
        """``(B, H, W, 3)`` in 0..1 to ``(B, L, D)``; each is stretched to the tower's square."""
        if not isinstance(self._model, Loadable):
            hidden: torch.Tensor = self._model.encode_image(pictures).penultimate_hidden_states
            return hidden.float().cpu()
        with self._model.at_hand() as tower:
            shown = (pictures.permute(0, 3, 1, 2) * 2 - 1).to(self._model.device)
            features: torch.Tensor = tower(shown)
            return features.float().cpu().clone()
