"""The smallest rooms that run: real transformer and codec of a few thousand parameters, stand-ins for the
encoders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from infinite_talk.models.dit import DiTConfig, WanTransformer
from infinite_talk.models.vae import VAEConfig, VideoVAE
from infinite_talk.presets import Defaults
from infinite_talk.rooms import Rooms
from infinite_talk.types import SPEECH_RATE, Size, Source

TRANSFORMER = DiTConfig(
    dim=24,
    ffn_dim=32,
    freq_dim=16,
    num_heads=2,
    num_layers=1,
    text_dim=8,
    text_len=6,
    clip_dim=8,
    clip_tokens=5,
    audio_blocks=2,
    audio_channels=4,
    intermediate_dim=8,
    context_tokens=2,
    output_dim=8,
)
VAE = VAEConfig.from_json(
    {
        "dim": 4,
        "z_dim": 16,
        "dim_mult": [1, 1, 1, 1],
        "num_res_blocks": 1,
        "temporal_downsample": [False, True, True],
    }
)
DEFAULTS = Defaults(
    size="64x64!",
    steps=2,
    shift=3.0,
    text_guidance=3.0,
    audio_guidance=2.0,
    window_frames=17,
    motion_frames=5,
)


class Texts(torch.nn.Module):
    """Each text becomes its own noise."""

    def encode(self, texts: Sequence[str]) -> list[torch.Tensor]:
        return [_noise(4, 8, seed=sum(text.encode())) for text in texts]

    def notes(self, texts: Sequence[str]) -> tuple[str, ...]:
        return tuple(f"{text[:8]} was cut" for text in texts if len(text) > 400)


class Eyes(torch.nn.Module):
    """Sees the brightness of the picture's rows."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        rows = torch.nn.functional.interpolate(image, size=(5, 8), mode="area")
        return rows.mean(1)


class Ears(torch.nn.Module):
    """Hears the loudness of each frame, nothing else; works at any length."""

    def forward(
        self, waveform: torch.Tensor, frames: int, home: object = None, between: object = None
    ) -> torch.Tensor:
        parts = torch.nn.functional.interpolate(waveform[:, None].abs(), size=frames, mode="area")
        return parts[:, 0, :, None, None].expand(-1, -1, 2, 4) * torch.arange(1, 5, device=waveform.device)

    encode_long = forward


@dataclass
class Moving:
    """Pictures of a film: every frame a shade lighter."""

    still: bool = False
    looked_at: list[int] = field(default_factory=list)

    def __getitem__(self, frame: int) -> np.ndarray:
        self.looked_at.append(frame)
        return np.full((70, 90, 3), min(255, 2 * frame), np.uint8)


@dataclass
class Still:
    """A picture."""

    still: bool = True
    looked_at: list[int] = field(default_factory=list)

    def __getitem__(self, frame: int) -> np.ndarray:
        self.looked_at.append(frame)
        return np.random.default_rng(5).integers(0, 255, (70, 90, 3), np.uint8)


def tiny_rooms() -> Rooms:
    torch.manual_seed(3)
    transformer, vae = WanTransformer(TRANSFORMER), VideoVAE(VAE)
    for name, parameter in [*transformer.named_parameters(), *vae.named_parameters()]:
        if not name.endswith(("gamma", "norm.weight")):
            torch.nn.init.normal_(parameter, std=0.3 if parameter.dim() > 1 else 0.02)
    return Rooms(
        transformer.eval(),
        vae.eval(),
        Texts(),
        Eyes(),
        Ears(),
        DEFAULTS,
        torch.device("cpu"),
        torch.float32,
        name="tiny",
    )


def source(frames: int, people: int = 1, pictures: object = None, cuts: tuple[int, ...] = ()) -> Source:
    """Speech of noise that is different for every person."""
    samples = frames * SPEECH_RATE // 25
    masks = np.zeros((people + 1, 70, 90), np.bool_)
    for person in range(people):
        masks[person, 10:60, 90 * person // people : 90 * (person + 1) // people] = True
    masks[people] = ~masks[:people].any(0)
    return Source(
        pictures=pictures or Still(),
        source_size=(70, 90),
        size=Size(64, 64),
        speech=tuple(
            np.random.default_rng(person).normal(0, 0.1, samples).astype(np.float32)
            for person in range(people)
        ),
        soundtrack=None,
        frames=frames,
        masks=masks,
        cuts=cuts,
    )


def _noise(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
