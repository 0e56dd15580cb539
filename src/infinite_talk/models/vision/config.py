"""The shape of a CLIP image tower."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""Of the red, green and blue in CLIP's training pictures, on the scale 0..1."""


@dataclass(frozen=True, slots=True)
class VisionConfig:
    """Sizes of a CLIP image tower under the names of the Wan2.1 program; the defaults are ViT-H/14."""

    dim: int = 1280
    num_heads: int = 16
    num_layers: int = 32
    used_layers: int = 31  # the output of this many blocks is the feature; later blocks are not even loaded
    mlp_ratio: int = 4
    image_size: int = 224
    patch_size: int = 14
    eps: float = 1e-5
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD

    def __post_init__(self) -> None:
        if self.dim % self.num_heads:
            raise ValueError(f"{self.num_heads} heads do not divide a width of {self.dim}")
        if self.image_size % self.patch_size:
            raise ValueError(f"patches of {self.patch_size} pixels do not divide {self.image_size}")
        if not 0 < self.used_layers <= self.num_layers:
            raise ValueError(f"used_layers is {self.used_layers}, expected 1 to {self.num_layers}")

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> VisionConfig:
        """Read a configuration as stored beside weights; some names have a spelling with ``vision_``.

        Raises:
            KeyError: a needed name is missing.
        """

        def either(name: str, other: str) -> Any:  # noqa: ANN401 - JSON
            return values[name] if name in values else values[other]

        layers = int(either("num_layers", "vision_layers"))
        ratio = values.get("mlp_ratio", values.get("vision_mlp_ratio", 4))
        return cls(
            dim=int(either("dim", "vision_dim")),
            num_heads=int(either("num_heads", "vision_heads")),
            num_layers=layers,
            used_layers=int(values.get("used_layers", layers - 1)),
            mlp_ratio=int(ratio),
            image_size=int(values.get("image_size", 224)),
            patch_size=int(values.get("patch_size", 14)),
            eps=float(values.get("eps", values.get("norm_eps", 1e-5))),
            mean=tuple(float(number) for number in values.get("mean", CLIP_MEAN)),
            std=tuple(float(number) for number in values.get("std", CLIP_STD)),
        )

    @property
    def tokens(self) -> int:
        """Feature tokens of a picture: one for the whole, one for each patch."""
        return 1 + (self.image_size // self.patch_size) ** 2
