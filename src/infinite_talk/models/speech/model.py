"""wav2vec 2.0 as InfiniteTalk uses it: features at the video's rate, the outputs of all layers together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from infinite_talk.errors import InputError
from infinite_talk.models.speech.config import SpeechConfig

if TYPE_CHECKING:
    from transformers import Wav2Vec2Model

VARIANCE_FLOOR = 1e-7
"""Keeps the normalisation of a silent waveform finite; the number of wav2vec 2.0's own feature extractor."""
BLOCK = 1 << 17
"""Windows measured at a time, to bound memory on long recordings."""


@dataclass(frozen=True, slots=True)
class Loudness:
    """What the encoder needs to know of a whole recording before it can encode a part of it.

    Two of its steps look at all of the time line: the waveform is brought to mean 0 and variance 1, and the
    first convolution's output likewise in every channel. The latter is linear in short windows of the
    waveform, so their mean and covariance tell its statistics exactly, for whatever weights.
    """

    mean: Tensor  # (B, 1) of the waveform
    scale: Tensor  # (B, 1): one over its standard deviation
    window_mean: Tensor  # (B, kernel), float64, of the normalised waveform
    window_covariance: Tensor  # (B, kernel, kernel), float64


class SpeechEncoder(nn.Module):
    """Waveforms at 16 kHz to features ``(B, F, K, D)``: K layers of D channels for each video frame."""

    def __init__(self, config: SpeechConfig) -> None:
        super().__init__()
        self.config = config
        self.model = _wav2vec2(config)

    def forward(self, waveform: Tensor, frames: int) -> Tensor:
        """Features of a whole recording at once, as the official program computes them.

        Time and memory of the attention grow with the square of the length; see ``encode_long``.

        Args:
            waveform: ``(B, S)`` float32, any loudness.
            frames: video frames that the recording lasts; they divide it evenly.

        Raises:
            InputError: the recording is too short for a single feature.
        """
        self._check(waveform, frames)
        heard: Tensor = self.model.feature_extractor(normalise(waveform))  # (B, C, L)
        heard = functional.interpolate(heard, size=frames, mode="linear", align_corners=True)
        return self._layers(heard)

    def encode_long(
        self,
        waveform: Tensor,
        frames: int,
        chunk_frames: int = 1500,
        context_frames: int = 250,
        *,
        home: torch.device | str | None = None,
        between: Callable[[], object] = lambda: None,
    ) -> Tensor:
        """As ``forward``, in bounded time per second and bounded working memory.

        A recording of up to ``chunk_frames`` is encoded at once, with the very same result. A longer one is
        encoded in chunks that also hear ``context_frames`` before and after. All statistics are those of the
        whole recording, and the position convolution (64 frames each way in wav2vec2-base) sees what it would
        see; what differs is the attention, which reaches no further than the context.

        Args:
            home: where the features go, chunk by chunk; ``None``: they stay with the model.
            between: called after each chunk; may raise to stop.
        """
        home = home or waveform.device
        if frames <= chunk_frames:
            whole: Tensor = self(waveform, frames)
            return whole.to(home)
        chunks = []
        for chunk in self.encode_chunks(waveform, frames, chunk_frames, context_frames):
            chunks.append(chunk.to(home))
            between()
        return torch.cat(chunks, dim=1)

    def encode_chunks(
        self, waveform: Tensor, frames: int, chunk_frames: int = 1500, context_frames: int = 250
    ) -> Iterator[Tensor]:
        """Yield the features of ``encode_long`` by ``chunk_frames``, for recordings longer than memory."""
        loudness = self.measure(waveform)
        for start in range(0, frames, chunk_frames):
            stop = min(start + chunk_frames, frames)
            yield self.encode_part(waveform, frames, start, stop, loudness, context_frames)

    def measure(self, waveform: Tensor) -> Loudness:
        """Measure a recording ``(B, S)`` for ``encode_part``."""
        mean, scale = statistics(waveform)
        kernel, stride = self.config.conv_kernel[0], self.config.conv_stride[0]
        windows = waveform.unfold(1, kernel, stride)  # (B, L, kernel), a view
        total = windows.new_zeros(len(waveform), kernel, dtype=torch.float64)
        products = windows.new_zeros(len(waveform), kernel, kernel, dtype=torch.float64)
        for block in torch.split(windows, BLOCK, dim=1):
            level = ((block - mean[..., None]) * scale[..., None]).double()
            total += level.sum(1)
            products += level.mT @ level
        window_mean = total / windows.shape[1]
        covariance = products / windows.shape[1] - window_mean[:, :, None] * window_mean[:, None]
        return Loudness(mean, scale, window_mean, covariance)

    def encode_part(
        self,
        waveform: Tensor,
        frames: int,
        start: int,
        stop: int,
        loudness: Loudness,
        context_frames: int = 250,
    ) -> Tensor:
        """Features of the frames ``start`` to ``stop`` of a recording; see ``encode_long``.

        Args:
            waveform: the whole recording ``(B, S)``; only the part that is heard is read.
            frames: of the whole recording.
            loudness: what ``measure`` said of it.
        """
        self._check(waveform, frames)
        first, last = max(0, start - context_frames), min(frames, stop + context_frames)
        count = self.config.features(waveform.shape[1])
        step = (count - 1) / (frames - 1) if frames > 1 else 0.0
        place = torch.arange(first, last, dtype=torch.float64, device=waveform.device) * step
        below = place.floor().long().clamp(max=count - 1)
        begin, end = int(below[0]), min(int(below[-1]) + 2, count)
        heard = self._hear(waveform, loudness, begin, end)
        share = (place - below).to(heard.dtype)
        here = heard[..., below - begin]
        following = heard[..., (below + 1).clamp(max=count - 1) - begin]
        layers = self._layers(here * (1 - share) + following * share)
        return layers[:, start - first : stop - first]

    def _hear(self, waveform: Tensor, loudness: Loudness, begin: int, end: int) -> Tensor:
        """Convolutional features ``begin`` to ``end`` of a measured recording, ``(B, C, end - begin)``."""
        hop, reach = self.config.hop, self.config.reach
        piece = waveform[:, begin * hop : (end - 1) * hop + reach]
        first, *others = self.model.feature_extractor.conv_layers
        weight = first.conv.weight[:, 0].double()  # (C, kernel)
        mean = loudness.window_mean @ weight.T  # (B, C)
        variance = ((weight @ loudness.window_covariance) * weight).sum(-1)
        if first.conv.bias is not None:
            mean = mean + first.conv.bias.double()
        heard: Tensor = first.conv(((piece - loudness.mean) * loudness.scale)[:, None])
        norm = first.layer_norm
        scale = (variance.clamp_min(0) + norm.eps).rsqrt() * norm.weight
        shift = norm.bias - mean * scale
        heard = first.activation(heard * scale[..., None].to(heard) + shift[..., None].to(heard))
        for layer in others:
            heard = layer(heard)
        return heard

    def _layers(self, heard: Tensor) -> Tensor:
        """``(B, C, F)`` at the video's rate to the outputs of all layers, ``(B, F, K, D)``."""
        hidden, _ = self.model.feature_projection(heard.transpose(1, 2))
        encoder = self.model.encoder
        hidden = encoder.layer_norm(hidden + encoder.pos_conv_embed(hidden))
        outputs = []
        # Layer by layer, since transformers 5 no longer returns their outputs from a bare encoder.
        for layer in encoder.layers:
            answer = layer(hidden)
            hidden = answer[0] if isinstance(answer, tuple) else answer  # a tuple before transformers 5
            outputs.append(hidden)
        return torch.stack(outputs, dim=2)

    def _check(self, waveform: Tensor, frames: int) -> None:
        if waveform.shape[1] < self.config.reach or frames < 1:
            raise InputError(
                f"The speech has {waveform.shape[1]} samples at 16 kHz for {frames} video frames; at least "
                f"{self.config.reach} samples and 1 frame are needed. Give a longer recording.",
                code="audio_too_short",
            )


def statistics(waveform: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and one over the standard deviation of each row of ``(B, S)``."""
    variance, mean = torch.var_mean(waveform, dim=1, correction=0, keepdim=True)
    return mean, (variance + VARIANCE_FLOOR).rsqrt()


def normalise(waveform: Tensor) -> Tensor:
    """Each row of ``(B, S)`` with mean 0 and variance 1; silence stays silent."""
    mean, scale = statistics(waveform)
    return (waveform - mean) * scale


def _wav2vec2(config: SpeechConfig) -> Wav2Vec2Model:
    from transformers import Wav2Vec2Config, Wav2Vec2Model  # slow to import: only where a model is built

    settings = Wav2Vec2Config(
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        intermediate_size=config.intermediate_size,
        layer_norm_eps=config.layer_norm_eps,
        conv_dim=config.conv_dim,
        conv_kernel=config.conv_kernel,
        conv_stride=config.conv_stride,
        conv_bias=config.conv_bias,
        num_conv_pos_embeddings=config.num_conv_pos_embeddings,
        num_conv_pos_embedding_groups=config.num_conv_pos_embedding_groups,
        feat_extract_norm="group",
        do_stable_layer_norm=False,
        # No masking, and with it no vector for masked places.
        apply_spec_augment=False,
        mask_time_prob=0.0,
        mask_feature_prob=0.0,
        layerdrop=0.0,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        feat_proj_dropout=0.0,
    )
    return Wav2Vec2Model(settings)
