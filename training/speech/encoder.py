"""The embedded speech encoder, a small wav2vec 2.0, and the heads that supervise it.

The encoder is the package's own `SpeechEncoder`: convolutions with the kernels and strides of wav2vec2-base,
their output brought to the video's 25 frames a second before the transformer, and the stacked outputs of the
layers as the features of the video model. The head that reads all layers is the package's own too: the
measure of lip sync listens with it.
"""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from infinite_talk.lipsync.voice import Estimate, VoiceReader
from infinite_talk.models.speech import SpeechConfig, SpeechEncoder
from training.speech.phonemes import CHANNELS, CLASSES

CONTEXT = 2  # frames before and after whose class a layer must also know
DROPOUT = 0.05


def embedded_config() -> SpeechConfig:
    """About 2.5 M parameters."""
    return _config(width=192, layers=6, inner=448, channels=128)


def tiny_config() -> SpeechConfig:
    """For tests of the training itself."""
    return _config(width=32, layers=2, inner=48, channels=16)


def _config(width: int, layers: int, inner: int, channels: int) -> SpeechConfig:
    return SpeechConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=inner,
        conv_dim=(channels,) * 7,
        num_conv_pos_embeddings=32,
        num_conv_pos_embedding_groups=4,
    )


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


class SpeechTrainer(nn.Module):
    """Encoder and heads together."""

    def __init__(self, config: SpeechConfig):
        super().__init__()
        self.encoder = SpeechEncoder(config)
        _drop(self.encoder)
        self.heads = nn.ModuleList([LayerHead(config.hidden_size) for _ in range(config.num_hidden_layers)])
        self.reader = VoiceReader(config.hidden_size, config.num_hidden_layers)

    def forward(self, sound: Tensor, frames: int) -> tuple[Estimate, list[tuple[Estimate, Tensor, Tensor]]]:
        features = self.encoder(sound, frames)
        layers = [head(features[:, :, i]) for i, head in enumerate(self.heads)]
        return self.reader(features), layers

    @torch.no_grad()
    def estimate(self, sound: Tensor, frames: int) -> Estimate:
        """The mouth of sound (B, S) of any loudness."""
        return self.reader(self.encoder(sound, frames))


def _drop(encoder: nn.Module) -> None:
    """Dropout inside the transformer's layers, which the package's encoder does without."""
    for module in encoder.modules():
        if isinstance(module, nn.Dropout):
            module.p = DROPOUT
        elif isinstance(getattr(module, "dropout", None), float):  # attention, which calls the function
            module.dropout = DROPOUT


def save(trainer: SpeechTrainer, folder: Path) -> None:
    """Write `encoder.safetensors` (names of transformers' Wav2Vec2Model) and `heads.safetensors`, both fp16.

    The encoder's metadata holds its `SpeechConfig` as JSON under "config".
    """
    encoder = _half(trainer.encoder.model.state_dict())
    config = json.dumps(asdict(trainer.encoder.config))
    save_file(encoder, str(folder / "encoder.safetensors"), {"config": config})
    heads = _half({k: v for k, v in trainer.state_dict().items() if not k.startswith("encoder.")})
    labels = {"classes": " ".join(CLASSES), "channels": " ".join(CHANNELS)}
    save_file(heads, str(folder / "heads.safetensors"), labels)


def _half(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.half().contiguous().cpu() for name, tensor in tensors.items()}


def load(folder: Path) -> SpeechTrainer:
    """Read what `save` wrote, in float32, for evaluation."""
    with safe_open(str(folder / "encoder.safetensors"), "pt") as file:
        config = SpeechConfig.from_json(json.loads(file.metadata()["config"]))
    trainer = SpeechTrainer(config)
    tensors = {f"encoder.model.{k}": v for k, v in load_file(str(folder / "encoder.safetensors")).items()}
    tensors |= load_file(str(folder / "heads.safetensors"))
    trainer.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return trainer.eval()
