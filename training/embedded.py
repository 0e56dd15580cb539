"""Sizes of the embedded model: the same modules as the 14B model, small enough to ship and to run on a CPU.

Budget: 32 MB in the package. Weights of the transformer and the VAE are stored as 8-bit integers with one scale
per output row, the rest in half precision.
"""

from __future__ import annotations

SIZE = 192
"""Pixels, square."""
WINDOW = 49
"""Frames per window, 13 latent frames."""
MOTION = 9
"""Frames carried from window to window, 3 latent frames."""
FIRST_HELD_OUT = 1_000_000
"""Portraits with this seed or a larger one are never trained on."""

VAE = {
    "dim": 48,
    "z_dim": 16,
    "dim_mult": [1, 2, 3],
    "num_res_blocks": 1,
    "temporal_downsample": [True, True],
    "patch": 2,
    "mean": [0.0] * 16,
    "std": [1.0] * 16,
}
TEXT = {
    "vocab_size": 384,
    "dim": 64,
    "dim_attn": 64,
    "dim_ffn": 128,
    "num_heads": 4,
    "num_layers": 2,
    "num_buckets": 32,
    "max_dist": 128,
    "text_len": 96,
}
VISION = {"image_size": 224, "patch_size": 28, "dim": 64, "num_heads": 4, "num_layers": 4, "mlp_ratio": 4}
TRANSFORMER = {
    "dim": 256,
    "ffn_dim": 1024,
    "freq_dim": 128,
    "in_dim": 36,
    "out_dim": 16,
    "num_heads": 4,
    "num_layers": 10,
    "text_dim": 64,
    "text_len": 96,
    "clip_dim": 64,
    "clip_tokens": 65,
    "audio_window": 5,
    "intermediate_dim": 128,
    "output_dim": 128,
    "context_tokens": 8,
    # audio_blocks and audio_channels follow the speech encoder
}
