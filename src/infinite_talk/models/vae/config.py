"""The shape of a video autoencoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Wan2.1's own latent statistics, published with its code and not stored in its checkpoint.
WAN_MEAN = (
    *(-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508),
    *(0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921),
)
WAN_STD = (
    *(2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743),
    *(3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160),
)

_DIFFUSERS = {
    "base_dim": "dim",
    "temperal_downsample": "temporal_downsample",  # its spelling
    "latents_mean": "mean",
    "latents_std": "std",
}
"""Names in the ``config.json`` of diffusers -> ours."""

MAP_BYTES_GPU = 2e9
"""Size of the codec's widest map for the frames it takes at a time on a GPU with memory for it: 24 frames of the
largest official 480 bucket in 16 bits, a quarter of a window. A few such maps live at once. With smaller pieces the
kernels no longer fill an H200, larger ones gain nothing; 24 is a multiple of the frames that one program of the
convolution computes.
"""
CACHE_BYTES = 32e6
"""The same on a CPU, whose last cache holds about as much: beyond it, all that is not a convolution waits for
memory, and each large map is fetched anew from the operating system, page by page. Less than four latent frames
at a time take more multiplications (``ops/causal_conv``).
"""


@dataclass(frozen=True, slots=True)
class VAEConfig:
    """Sizes of the Wan2.1 video autoencoder, and the statistics of its latents.

    Raises:
        ValueError: when the numbers contradict each other.
    """

    dim: int  # channels of the first level
    z_dim: int  # channels of the latent
    dim_mult: tuple[int, ...]  # channels of each level, in units of ``dim``; each step halves the picture
    num_res_blocks: int  # residual blocks per level of the encoder; the decoder has one more
    temporal_downsample: tuple[bool, ...]  # which of the steps between levels also halve the time
    mean: tuple[float, ...]  # per latent channel; the normalised latent is (mu - mean) / std
    std: tuple[float, ...]
    patch: int = 1  # pixels folded into channels at the input and unfolded at the output, per axis

    def __post_init__(self) -> None:
        if len(self.temporal_downsample) != len(self.dim_mult) - 1:
            steps = len(self.dim_mult) - 1
            raise ValueError(
                f"{len(self.dim_mult)} levels have {steps} steps between them, but temporal_downsample names "
                f"{len(self.temporal_downsample)}"
            )
        if not len(self.mean) == len(self.std) == self.z_dim:
            raise ValueError(f"mean and std need one number for each of the {self.z_dim} latent channels")
        if min(self.std) <= 0:
            raise ValueError("std must be positive in every latent channel")
        if self.patch < 1:
            raise ValueError(f"patch is {self.patch}, expected 1 or more")

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> VAEConfig:
        """Read a configuration as stored beside weights; names that do not shape the network are passed over.

        Without ``mean`` and ``std`` the latents are those of Wan2.1. The names of diffusers' ``AutoencoderKLWan``
        are read as well.

        Raises:
            ValueError: when attention is asked for at other places than the middle, which this network lacks.
            KeyError: when a needed name is missing.
        """
        if values.get("attn_scales"):
            raise ValueError(f"attn_scales is {values['attn_scales']}: attention exists only in the middle")
        values = {_DIFFUSERS.get(name, name): value for name, value in values.items()}
        return cls(
            dim=int(values["dim"]),
            z_dim=int(values["z_dim"]),
            dim_mult=tuple(int(factor) for factor in values["dim_mult"]),
            num_res_blocks=int(values["num_res_blocks"]),
            temporal_downsample=tuple(bool(halved) for halved in values["temporal_downsample"]),
            mean=tuple(float(number) for number in values.get("mean", WAN_MEAN)),
            std=tuple(float(number) for number in values.get("std", WAN_STD)),
            patch=int(values.get("patch", 1)),
        )

    @property
    def spatial_stride(self) -> int:
        """Pixels per latent cell along each side."""
        return self.patch << (len(self.dim_mult) - 1)

    @property
    def temporal_stride(self) -> int:
        """Frames per latent frame, after the first one."""
        return 1 << sum(self.temporal_downsample)

    @property
    def picture_channels(self) -> int:
        """Channels of a picture after folding ``patch`` x ``patch`` pixels into one."""
        return 3 * self.patch**2
