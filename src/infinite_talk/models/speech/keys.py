"""Names of wav2vec 2.0 weights in published checkpoints, and what shapes tell of the model."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from infinite_talk.errors import CheckpointError
from infinite_talk.models.keymap import Entry, KeyMap, choose, unchanged
from infinite_talk.models.shapes import Shapes, count_layers, matrix, whole_shapes
from infinite_talk.models.speech.config import SpeechConfig

DTYPE = torch.float32
"""As the official program runs it, on every device: the model is small, and the lips follow its features."""

_HEAD_WIDTH = 64
"""Of every published wav2vec 2.0; shapes do not tell it."""
_STRIDES = SpeechConfig().conv_stride
"""Of every published wav2vec 2.0; shapes do not tell them."""

_UNUSED = ("masked_spec_embed", "quantizer.", "project_hid.", "project_q.", "lm_head.")
"""For training only: what masked places held, the heads of the contrastive task and of transcription."""
_POSITIONS = "encoder.pos_conv_embed.conv."
_WEIGHT_NORM = {
    "parametrizations.weight.original0": "weight_g",
    "parametrizations.weight.original1": "weight_v",
}
"""Names of the two halves of a normalised weight in torch: since 2.0, and before."""
_PREFIXES = ("", "wav2vec2.", "model.")
"""Bare, inside a model with a head, and ours."""


def key_map(config: SpeechConfig, stored: Iterable[str]) -> KeyMap:
    """The dialect that a checkpoint speaks."""
    return choose(dialects(config), stored)


def dialects(config: SpeechConfig) -> tuple[KeyMap, ...]:
    """Of ``transformers``: new or old weight norm, bare or below ``wav2vec2.``; and ours."""
    published = [_dialect(config, prefix, old) for prefix in _PREFIXES[:2] for old in (False, True)]
    return (*published, unchanged(published[0]))


def recognises(shapes: Shapes) -> bool:
    """Whether these are the names of a wav2vec 2.0 encoder, in any dialect."""
    return _prefix(shapes) is not None


def config_of(shapes: Shapes) -> SpeechConfig:
    """Sizes of the encoder whose tensors have these shapes.

    Raises:
        CheckpointError: it is another variant than wav2vec2-base, or its tensors contradict each other.
    """
    shapes = whole_shapes(shapes)
    prefix = _prefix(shapes) or ""
    here = {name.removeprefix(prefix): shape for name, shape in shapes.items()}
    layers = "feature_extractor.conv_layers."
    convolutions = [
        matrix(here, f"{layers}{layer}.conv.weight", 3) for layer in range(count_layers(here, layers))
    ]
    _check_variant(here, len(convolutions))
    hidden = matrix(here, "feature_projection.projection.weight")[0]
    new, old = (_POSITIONS + half for half in ("parametrizations.weight.original1", "weight_v"))
    width, shared, kernel = matrix(here, new if new in here else old, 3)
    return SpeechConfig(
        hidden_size=hidden,
        num_hidden_layers=count_layers(here, "encoder.layers."),
        num_attention_heads=hidden // _HEAD_WIDTH,
        intermediate_size=matrix(here, "encoder.layers.0.feed_forward.intermediate_dense.weight")[0],
        conv_dim=tuple(shape[0] for shape in convolutions),
        conv_kernel=tuple(shape[2] for shape in convolutions),
        conv_stride=_STRIDES,
        conv_bias=f"{layers}0.conv.bias" in here,
        num_conv_pos_embeddings=kernel,
        num_conv_pos_embedding_groups=width // shared,
    )


def _prefix(shapes: Shapes) -> str | None:
    names = "feature_extractor.conv_layers.0.conv.weight", "feature_projection.projection.weight"
    fits = (prefix for prefix in _PREFIXES if all(prefix + name in shapes for name in names))
    return next(fits, None)


def _check_variant(shapes: Shapes, convolutions: int) -> None:
    hidden = matrix(shapes, "feature_projection.projection.weight")[0]
    normed = "feature_extractor.conv_layers.1.layer_norm.weight" in shapes
    if convolutions == len(_STRIDES) and hidden % _HEAD_WIDTH == 0 and not normed:
        return
    raise CheckpointError(
        f"This wav2vec 2.0 encoder has {convolutions} convolutions{' with a norm each' if normed else ''} and "
        f"width {hidden}; InfiniteTalk was trained with chinese-wav2vec2-base: 7, with one norm, and 768. "
        "Take that one.",
        code="checkpoint_mismatch",
    )


def names(config: SpeechConfig) -> tuple[str, ...]:
    """All weights as ``transformers`` calls them today."""
    layers = [name for layer in range(config.num_hidden_layers) for name in _layer(layer)]
    convolutions = []
    for layer in range(len(config.conv_dim)):
        convolutions += _affine(f"feature_extractor.conv_layers.{layer}.conv", bias=config.conv_bias)
    return (
        *convolutions,
        *_affine("feature_extractor.conv_layers.0.layer_norm"),
        *_affine("feature_projection.layer_norm"),
        *_affine("feature_projection.projection"),
        _POSITIONS + "bias",
        *(_POSITIONS + half for half in _WEIGHT_NORM),
        *_affine("encoder.layer_norm"),
        *layers,
    )


def _layer(layer: int) -> list[str]:
    parts = [f"attention.{part}_proj" for part in ("k", "v", "q", "out")]
    parts += [
        "layer_norm",
        "feed_forward.intermediate_dense",
        "feed_forward.output_dense",
        "final_layer_norm",
    ]
    return [name for part in parts for name in _affine(f"encoder.layers.{layer}.{part}")]


def _affine(module: str, *, bias: bool = True) -> list[str]:
    return [f"{module}.weight", f"{module}.bias"] if bias else [f"{module}.weight"]


def _dialect(config: SpeechConfig, prefix: str, old: bool) -> KeyMap:
    def stored(name: str) -> str:
        half = name.removeprefix(_POSITIONS)
        return prefix + (_POSITIONS + _WEIGHT_NORM[half] if old and half in _WEIGHT_NORM else name)

    return KeyMap(
        "hf",
        {f"model.{name}": Entry(stored(name)) for name in names(config)},
        ignored=tuple(place + name for name in _UNUSED for place in dict.fromkeys((prefix, ""))),
        part="speech encoder",
    )
