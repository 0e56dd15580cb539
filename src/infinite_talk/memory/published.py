"""Sizes of the published model: InfiniteTalk on Wan2.1-I2V-14B with its encoders and codec."""

from __future__ import annotations

from dataclasses import replace

from infinite_talk.memory.costs import speech_encoder, text_encoder, vision_encoder
from infinite_talk.memory.sizes import ModelSizes, codec_weights, sizes_for
from infinite_talk.models.dit import DiTConfig
from infinite_talk.models.vae import VAEConfig
from infinite_talk.ops.linear import Format

WAN_VAE = VAEConfig.from_json(
    {
        "dim": 96,
        "z_dim": 16,
        "dim_mult": [1, 2, 4, 4],
        "num_res_blocks": 2,
        "temporal_downsample": [False, True, True],
    }
)
"""The codec of Wan2.1."""


def full_sizes(
    kept: Format | str | None = None, *, base: int = 2, name: str = "14B", fused: bool = True
) -> ModelSizes:
    """InfiniteTalk on Wan2.1-I2V-14B with its published encoders: text in bf16, picture in fp16, speech in fp32.

    ``fused``: as on GPUs with Triton.

    Numbers of weights are those of the published files (``text`` 5,680,910,336; ``vision`` the image tower
    without its last block; ``speech`` 94,371,712).
    """
    text, vision, speech = 5_680_910_336, 612_144_640, 94_371_712
    model = sizes_for(
        name,
        DiTConfig(),
        WAN_VAE,
        kept=kept,
        base=base,
        text=text_encoder(
            parameters=text, layers=24, vocabulary=256_384, dim=4096, ffn=10240, heads=64, length=512, base=2
        ),
        vision=vision_encoder(weights=2.0 * vision, parameters=vision, dim=1280, ratio=4, tokens=257),
        speech=speech_encoder(
            weights=4.0 * speech, parameters=speech, dim=768, layers=12, conv=512, seconds=3.24
        ),
    )
    files = 2.0 * (text + vision) + 4.0 * (speech + codec_weights(WAN_VAE))
    return replace(model, disk=model.blocks + model.rest + files, fused=fused)
