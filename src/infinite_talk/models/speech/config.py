"""The shape of a wav2vec 2.0 encoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import prod
from typing import Any

_FIXED = {
    "feat_extract_norm": "group",
    "feat_extract_activation": "gelu",
    "hidden_act": "gelu",
    "do_stable_layer_norm": False,
    "add_adapter": False,
}
"""What could be chosen in wav2vec 2.0, and is the same in every encoder of this package."""


@dataclass(frozen=True, slots=True)
class SpeechConfig:
    """Sizes of a wav2vec 2.0 encoder under the names of ``transformers``; the defaults are wav2vec2-base."""

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    layer_norm_eps: float = 1e-5
    conv_dim: tuple[int, ...] = (512,) * 7
    conv_kernel: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    conv_stride: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    conv_bias: bool = False
    num_conv_pos_embeddings: int = 128
    num_conv_pos_embedding_groups: int = 16

    def __post_init__(self) -> None:
        if not len(self.conv_dim) == len(self.conv_kernel) == len(self.conv_stride):
            raise ValueError("conv_dim, conv_kernel and conv_stride must name equally many layers")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(f"{self.num_attention_heads} heads do not divide a width of {self.hidden_size}")

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SpeechConfig:
        """Read a ``transformers`` configuration; what is absent has the value of wav2vec2-base.

        Raises:
            ValueError: it describes another variant than group norm in front and post-norm layers.
        """
        for name, expected in _FIXED.items():
            if values.get(name, expected) != expected:
                raise ValueError(f"{name} is {values[name]!r}; this encoder has {expected!r}")
        known = {field.name for field in fields(cls)}
        chosen: dict[str, Any] = {name: value for name, value in values.items() if name in known}
        chosen |= {name: tuple(value) for name, value in chosen.items() if isinstance(value, list)}
        return cls(**chosen)

    @property
    def hop(self) -> int:
        """Samples from one convolutional feature to the next."""
        return prod(self.conv_stride)

    @property
    def reach(self) -> int:
        """Samples that one convolutional feature hears; a shorter waveform has none."""
        reach, hop = 1, 1
        for kernel, stride in zip(self.conv_kernel, self.conv_stride, strict=True):
            reach, hop = reach + (kernel - 1) * hop, hop * stride
        return reach

    def features(self, samples: int) -> int:
        """Convolutional features of a waveform."""
        return max(0, (samples - self.reach) // self.hop + 1)
