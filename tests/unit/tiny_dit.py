"""A transformer small enough for a test of milliseconds, and inputs for it."""

from __future__ import annotations

import torch
from torch import Tensor

from infinite_talk.models.dit import DiTConfig, WanTransformer
from infinite_talk.ops.attention import AttentionCallable, sdpa

CONFIG = DiTConfig(
    dim=48,
    ffn_dim=64,
    freq_dim=16,
    num_heads=3,
    num_layers=2,
    text_dim=12,
    text_len=8,
    clip_dim=20,
    clip_tokens=9,
    audio_blocks=2,
    audio_channels=6,
    intermediate_dim=10,
    context_tokens=3,
    output_dim=14,
)
GRID = (3, 6, 8)  # latent frames, height, width


def model(attention: AttentionCallable = sdpa, config: DiTConfig = CONFIG) -> WanTransformer:
    generator = torch.Generator().manual_seed(1)
    made = WanTransformer(config, attention)
    made.init_weights(generator)
    # The head starts at zero; without this every prediction would be zero.
    torch.nn.init.normal_(made.head.head.weight, std=0.1, generator=generator)
    return made


def noise(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def inputs(people: int = 1, batch: int = 2, seed: int = 0) -> dict[str, Tensor]:
    """Arguments of ``condition``."""
    t, h, w = GRID
    masks = torch.zeros(batch, people + 1, h, w)
    for i in range(people):  # side by side, the background between and above
        masks[:, i, 2:, i * w // people : (i + 1) * w // people - 1] = 1
    masks[:, people] = 1 - masks[:, :people].amax(dim=1)
    return {
        "text": noise(batch, 5, CONFIG.text_dim, seed=seed),
        "image": noise(batch, CONFIG.clip_tokens, CONFIG.clip_dim, seed=seed + 1),
        "speech": noise(
            batch, people, 4 * (t - 1) + 1, 5, CONFIG.audio_blocks, CONFIG.audio_channels, seed=seed + 2
        ),
        "token_masks": masks,
        "reference": noise(batch, CONFIG.reference_dim, t, h, w, seed=seed + 3),
    }


def latent(batch: int = 2, seed: int = 10) -> Tensor:
    return noise(batch, CONFIG.out_dim, *GRID, seed=seed)


TIMES = torch.tensor([903.5, 120.0])
