"""What a mouth should do for a recording: a small reader of the speech encoder's features.

The embedded model's speech encoder was trained on speech with phoneme times, together with this reader of
all its layers (``training/train_speech.py``). On unheard voices its opening follows the true one with
r = 0.91 on average, at a lag of 0 frames. The video model hears the same features but not this reading,
and the estimate shares nothing with the pictures: a mouth that agrees with it says what is heard.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from infinite_talk.errors import CheckpointError
from infinite_talk.models.speech import SpeechEncoder
from infinite_talk.weights.builder import build
from infinite_talk.weights.bundle import load_speech
from infinite_talk.weights.manifest import EMBEDDED, read_manifest
from infinite_talk.weights.quanto import Dequantised
from infinite_talk.weights.reader import TensorFiles

RATE = 16_000
CHANNELS = ("open", "width", "round", "teeth", "tongue", "tuck")
"""What is read of a mouth, each 0..1."""
CLASSES = 23
"""Groups of sounds that look alike, silence among them; the reader learnt to tell them apart."""
FULL = 0.136
"""Height between the lips of a typical portrait's widest mouth, in picture heights (0.123 .. 0.151)."""
VOICE = Path(__file__).resolve().parent.parent / "bundled" / "lipsync" / "voice.safetensors"
"""The reader's weights; the file's metadata names its encoder, by checksum, under ``encoder``."""


@dataclass(frozen=True)
class Estimate:
    """What is read: `mouth` (B, F, 6) and `level` (B, F) in 0..1, `classes` logits (B, F, 23)."""

    mouth: Tensor
    level: Tensor
    classes: Tensor


class VoiceReader(nn.Module):
    """The mouth from all layers of a speech encoder together, over five frames."""

    def __init__(self, width: int, layers: int, inner: int = 128) -> None:
        super().__init__()
        self.mix = nn.Linear(width * layers, inner)
        self.over_time = nn.Conv1d(inner, inner, 5, padding=2)
        self.read = nn.Linear(inner, CLASSES + len(CHANNELS) + 1)

    def forward(self, features: Tensor) -> Estimate:
        """Features (B, F, K, D) -> estimate."""
        mixed = functional.gelu(self.mix(features.flatten(2)))
        seen = mixed + functional.gelu(self.over_time(mixed.transpose(1, 2)).transpose(1, 2))
        classes, track = self.read(seen).float().split((CLASSES, len(CHANNELS) + 1), -1)
        track = torch.sigmoid(track)
        return Estimate(track[..., :-1], track[..., -1], classes)


@dataclass(frozen=True)
class Listener:
    """The shipped speech encoder and the reader of its features."""

    encoder: SpeechEncoder
    reader: VoiceReader


def load_listener(model: Path = EMBEDDED, voice: Path = VOICE) -> Listener:
    """Load the speech encoder of a model folder, nothing else of it, and the reader trained with it.

    Raises:
        CheckpointError: a file is missing, damaged, or they do not belong together.
    """
    tensors = TensorFiles(voice)
    manifest = read_manifest(model)
    file = manifest.parts["speech"].file
    if tensors.metadata.get("encoder") != manifest.sha256[file]:
        # Their shapes could agree, and what is read would be noise.
        raise CheckpointError(
            f"{voice.name} was trained with another speech encoder than {manifest.path(file)}. Export both "
            "from one training run, or install the package again.",
            code="checkpoint_mismatch",
        )
    encoder = load_speech(model, torch.device("cpu"), torch.float32)
    config = encoder.config
    reader = build(
        lambda: VoiceReader(config.hidden_size, config.num_hidden_layers),
        Dequantised(tensors, source=voice.name),
        dtype=torch.float32,
        source=voice.name,
    )
    return Listener(encoder, reader)


@torch.inference_mode()
def expected_opening(
    waveform: NDArray[np.float32], frames: int, listener: Listener | None = None
) -> NDArray[np.float32]:
    """Opening (F,) in picture heights that a typical portrait has while saying this, at 25 frames a second.

    Args:
        waveform: (S,) mono at 16 kHz, of any loudness, from the first frame on; what lies behind the last
            frame is not heard, what is missing is silence.
        listener: one from `load_listener`, to load it once for many recordings.
    """
    listener = listener or load_listener()
    samples = frames * RATE // 25
    heard = np.zeros((1, samples), np.float32)
    part = waveform[:samples]
    heard[0, : len(part)] = part
    features = listener.encoder.encode_long(torch.from_numpy(heard), frames)
    opening: NDArray[np.float32] = (listener.reader(features).mouth[0, :, 0] * FULL).numpy()
    return opening


__all__ = ["VOICE", "Estimate", "Listener", "VoiceReader", "expected_opening", "load_listener"]
