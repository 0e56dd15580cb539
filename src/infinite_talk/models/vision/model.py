"""CLIP's image tower as Wan2.1 uses it: all tokens of the last block but one, without the final norm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional

from infinite_talk.models.vision.config import VisionConfig

if TYPE_CHECKING:
    from transformers import CLIPVisionModel


class ImageEncoder(nn.Module):
    """Pictures ``(B, 3, H, W)`` in [-1, 1] to tokens ``(B, L, D)``: the whole picture's, then row by row."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        whole = _clip(config)
        # Before transformers 5 the tower is inside the model, under a name that would come into our keys.
        self.model = getattr(whole, "vision_model", whole)
        self.model.post_layernorm = nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        hidden: Tensor = self.model(pixel_values=self.prepare(image)).last_hidden_state
        return hidden

    def prepare(self, image: Tensor) -> Tensor:
        """Stretch to the tower's square, whatever the aspect, and bring to the scale of its training."""
        side = self.config.image_size
        small = functional.interpolate(
            image.float(), (side, side), mode="bicubic", align_corners=False, antialias=False
        )
        mean, std = small.new_tensor([self.config.mean, self.config.std])[:, None, :, None, None]
        pixels: Tensor = (small * 0.5 + 0.5 - mean) / std
        return pixels


def _clip(config: VisionConfig) -> CLIPVisionModel:
    from transformers import CLIPVisionConfig, CLIPVisionModel  # slow to import: only where a model is built

    settings = CLIPVisionConfig(
        hidden_size=config.dim,
        intermediate_size=config.dim * config.mlp_ratio,
        num_hidden_layers=config.used_layers,
        num_attention_heads=config.num_heads,
        image_size=config.image_size,
        patch_size=config.patch_size,
        layer_norm_eps=config.eps,
        hidden_act="gelu",
        attention_dropout=0.0,
    )
    return CLIPVisionModel(settings)
