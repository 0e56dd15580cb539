"""``DiTConfig``: the sizes of a video transformer. Field names are those of the published configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from infinite_talk.errors import CheckpointError

# Switches of the published code that every known checkpoint leaves on; the model has no other branch.
_ALWAYS = {
    "model_type": "i2v",
    "qk_norm": True,
    "cross_attn_norm": True,
    "norm_input_visual": True,
    "norm_output_audio": True,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DiTConfig:
    """Sizes of a transformer; the defaults are InfiniteTalk on Wan2.1-I2V-14B.

    Raises:
        CheckpointError: sizes that do not fit each other.
    """

    dim: int = 5120
    ffn_dim: int = 13824
    freq_dim: int = 256
    """Width of the sinusoidal time embedding."""
    num_heads: int = 40
    num_layers: int = 40
    in_dim: int = 36
    """Latent channels, then mask and latent channels of the reference picture."""
    out_dim: int = 16
    """Latent channels; the first ``out_dim`` of ``in_dim`` are the noisy latent."""
    patch_size: tuple[int, int, int] = (1, 2, 2)
    eps: float = 1e-6
    text_dim: int = 4096
    text_len: int = 512
    """Text rows after padding; the padding is attended to, as in training."""
    clip_dim: int = 1280
    clip_tokens: int = 257
    audio_window: int = 5
    """Speech vectors around each video frame."""
    audio_blocks: int = 12
    """Layers of the speech encoder."""
    audio_channels: int = 768
    vae_scale: int = 4
    """Video frames per latent frame (after the first)."""
    intermediate_dim: int = 512
    context_tokens: int = 32
    """Speech tokens per person and latent frame."""
    output_dim: int = 768
    """Width of a speech token."""
    class_range: int = 24
    class_interval: int = 4
    """Positions that tell people apart: person i owns ``class_interval`` positions, see ``people.py``."""

    def __post_init__(self) -> None:
        if self.dim % self.num_heads or self.head_dim % 2:
            raise CheckpointError(
                f"A width of {self.dim} cannot be split into {self.num_heads} heads of even size; "
                "correct dim or num_heads in the model's configuration.",
                code="config",
            )
        if self.in_dim <= self.out_dim:
            raise CheckpointError(
                f"in_dim {self.in_dim} leaves no reference channels beside {self.out_dim} latent channels; "
                "this is not an image-to-video model.",
                code="config",
            )

    @property
    def head_dim(self) -> int:
        return self.dim // self.num_heads

    @property
    def reference_dim(self) -> int:
        """Channels of the reference input: 4 of mask and 16 of picture in the published model."""
        return self.in_dim - self.out_dim

    @property
    def audio_window_group(self) -> int:
        """Speech vectors around a group of ``vae_scale`` frames."""
        return self.audio_window + self.vae_scale - 1

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> DiTConfig:
        """Read a configuration file; keys that hold no size of the model are passed over.

        Raises:
            CheckpointError: the file describes a variant of the architecture that this model is not.
        """
        for name, expected in _ALWAYS.items():
            if values.get(name, expected) != expected:
                raise CheckpointError(
                    f"The configuration says {name} = {values[name]!r}, this model needs {expected!r}; "
                    "the checkpoint is of another architecture.",
                    code="config",
                )
        known = {field.name for field in fields(cls)}
        sizes = {name: value for name, value in values.items() if name in known}
        if "patch_size" in sizes:
            sizes["patch_size"] = tuple(sizes["patch_size"])
        return cls(**sizes)
