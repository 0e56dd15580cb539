"""Names of wav2vec 2.0 weights in published checkpoints."""

from __future__ import annotations

from collections.abc import Iterable

from infinite_talk.models.keymap import Entry, KeyMap, choose, unchanged
from infinite_talk.models.speech.config import SpeechConfig

_UNUSED = ("masked_spec_embed", "quantizer.", "project_hid.", "project_q.")
"""For pretraining only: what masked places held, and the heads of the contrastive task."""
_POSITIONS = "encoder.pos_conv_embed.conv."
_WEIGHT_NORM = {
    "parametrizations.weight.original0": "weight_g",
    "parametrizations.weight.original1": "weight_v",
}
"""Names of the two halves of a normalised weight in torch: since 2.0, and before."""


def key_map(config: SpeechConfig, stored: Iterable[str]) -> KeyMap:
    """The dialect that a checkpoint speaks: new or old weight norm, bare or below ``wav2vec2.``, or ours."""
    dialects = [_dialect(config, prefix, old) for prefix in ("", "wav2vec2.") for old in (False, True)]
    return choose((*dialects, unchanged(dialects[0])), stored)


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
        "wav2vec 2.0 encoder",
        {f"model.{name}": Entry(stored(name)) for name in names(config)},
        ignored=tuple(place + name for name in _UNUSED for place in dict.fromkeys((prefix, ""))),
    )
