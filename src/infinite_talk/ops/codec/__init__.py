"""Steps of the video codec, for GPUs by kernels of our own."""

from infinite_talk.ops.codec.steps import (
    HOPPER,
    HOPPER_DOUBLED,
    PAST,
    Tiling,
    by_places,
    convolved,
    convolved_eager,
    doubled,
    doubled_by_places,
    doubled_eager,
    doubled_tiled,
    fused,
    norm_silu_pad,
    norm_silu_pad_eager,
    tiled,
)

__all__ = [
    "HOPPER",
    "HOPPER_DOUBLED",
    "PAST",
    "Tiling",
    "by_places",
    "convolved",
    "convolved_eager",
    "doubled",
    "doubled_by_places",
    "doubled_eager",
    "doubled_tiled",
    "fused",
    "norm_silu_pad",
    "norm_silu_pad_eager",
    "tiled",
]
