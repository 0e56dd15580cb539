"""The embedded speech encoder, a small wav2vec 2.0, and the heads that supervise it.

The convolutions have the kernels and strides of wav2vec2-base. Their output is interpolated linearly (ends
aligned) to the video's 25 frames a second before the transformer, as InfiniteTalk does, and the stacked
outputs of the layers are the features of the video model.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from training.speech.phonemes import CHANNELS, CLASSES
from transformers import Wav2Vec2Config, Wav2Vec2Model

CONTEXT = 2  # frames before and after whose class a layer must also know


def embedded_config() -> Wav2Vec2Config:
    """About 2.5 M parameters."""
    return _config(width=192, layers=6, inner=448, channels=128)


def tiny_config() -> Wav2Vec2Config:
    """For tests of the training itself."""
    return _config(width=32, layers=2, inner=48, channels=16)


def _config(width: int, layers: int, inner: int, channels: int) -> Wav2Vec2Config:
    return Wav2Vec2Config(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=inner,
        conv_dim=(channels,) * 7,
        num_conv_pos_embeddings=32,
        num_conv_pos_embedding_groups=4,
        feat_extract_norm="group",
        do_stable_layer_norm=False,
        layerdrop=0.0,
        hidden_dropout=0.05,
        attention_dropout=0.05,
        activation_dropout=0.05,
        feat_proj_dropout=0.0,
        final_dropout=0.0,
        apply_spec_augment=False,
        mask_time_prob=0.0,
    )


class Encoder(nn.Module):
    """Waveform (B, S) at 16 kHz, normalised to unit variance -> features (B, F, K, D) at 25 fps."""

    def __init__(self, config: Wav2Vec2Config):
        super().__init__()
        self.model = Wav2Vec2Model(config)

    def forward(self, sound: Tensor, frames: int) -> Tensor:
        conv = self.model.feature_extractor(sound)
        conv = functional.interpolate(conv.float(), size=frames, mode="linear", align_corners=True)
        hidden, _ = self.model.feature_projection(conv.transpose(1, 2))
        transformer = self.model.encoder
        hidden = transformer.dropout(transformer.layer_norm(hidden + transformer.pos_conv_embed(hidden)))
        outputs = []
        for layer in transformer.layers:
            answer = layer(hidden)  # a tuple in some releases of transformers, a tensor in others
            hidden = answer[0] if isinstance(answer, tuple) else answer
            outputs.append(hidden)
        return torch.stack(outputs, 2)


@dataclass(frozen=True)
class Estimate:
    """What the heads read: `mouth` (B, F, 6) and `level` (B, F) in 0..1, `classes` logits (B, F, 23)."""

    mouth: Tensor
    level: Tensor
    classes: Tensor


class LayerHead(nn.Module):
    """One linear reading of one layer: class now, before and after, mouth and level."""

    def __init__(self, width: int):
        super().__init__()
        self.read = nn.Linear(width, 3 * len(CLASSES) + len(CHANNELS) + 1)

    def forward(self, hidden: Tensor) -> tuple[Estimate, Tensor, Tensor]:
        """(B, F, D) -> the estimate now, and the class logits CONTEXT frames before and after."""
        count = len(CLASSES)
        now, before, after, track = (
            self.read(hidden).float().split((count, count, count, len(CHANNELS) + 1), -1)
        )
        track = torch.sigmoid(track)
        return Estimate(track[..., :-1], track[..., -1], now), before, after


class MouthReader(nn.Module):
    """The best estimate: all layers together, over five frames."""

    def __init__(self, width: int, layers: int, inner: int = 128):
        super().__init__()
        self.mix = nn.Linear(width * layers, inner)
        self.over_time = nn.Conv1d(inner, inner, 5, padding=2)
        self.read = nn.Linear(inner, len(CLASSES) + len(CHANNELS) + 1)

    def forward(self, features: Tensor) -> Estimate:
        """Features (B, F, K, D) -> estimate."""
        mixed = functional.gelu(self.mix(features.flatten(2)))
        seen = mixed + functional.gelu(self.over_time(mixed.transpose(1, 2)).transpose(1, 2))
        classes, track = self.read(seen).float().split((len(CLASSES), len(CHANNELS) + 1), -1)
        track = torch.sigmoid(track)
        return Estimate(track[..., :-1], track[..., -1], classes)


class SpeechTrainer(nn.Module):
    """Encoder and heads together."""

    def __init__(self, config: Wav2Vec2Config):
        super().__init__()
        self.encoder = Encoder(config)
        self.heads = nn.ModuleList([LayerHead(config.hidden_size) for _ in range(config.num_hidden_layers)])
        self.reader = MouthReader(config.hidden_size, config.num_hidden_layers)

    def forward(self, sound: Tensor, frames: int) -> tuple[Estimate, list[tuple[Estimate, Tensor, Tensor]]]:
        features = self.encoder(sound, frames)
        layers = [head(features[:, :, i]) for i, head in enumerate(self.heads)]
        return self.reader(features), layers

    @torch.no_grad()
    def estimate(self, sound: Tensor, frames: int) -> Estimate:
        """The mouth of normalised sound (B, S)."""
        return self.reader(self.encoder(sound, frames))


def save(trainer: SpeechTrainer, folder: Path) -> None:
    """Write `encoder.safetensors` (fp16, names of transformers' Wav2Vec2Model, config as metadata) and
    `heads`.
    """
    config = trainer.encoder.model.config.to_json_string(use_diff=True)
    encoder = {k: v.half().contiguous().cpu() for k, v in trainer.encoder.model.state_dict().items()}
    save_file(encoder, str(folder / "encoder.safetensors"), {"config": config})
    heads = {
        k: v.half().contiguous().cpu()
        for k, v in trainer.state_dict().items()
        if not k.startswith("encoder.")
    }
    save_file(
        heads,
        str(folder / "heads.safetensors"),
        {"classes": " ".join(CLASSES), "channels": " ".join(CHANNELS)},
    )


def load(folder: Path) -> SpeechTrainer:
    """Read what `save` wrote, in float32, for evaluation."""
    import json

    with safe_open(str(folder / "encoder.safetensors"), "pt") as file:
        config = Wav2Vec2Config(**json.loads(file.metadata()["config"]))
    trainer = SpeechTrainer(config)
    tensors = {f"encoder.model.{k}": v for k, v in load_file(str(folder / "encoder.safetensors")).items()}
    tensors |= load_file(str(folder / "heads.safetensors"))
    trainer.load_state_dict({k: v.float() for k, v in tensors.items()})
    return trainer.eval()
