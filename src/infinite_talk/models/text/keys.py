"""Names of UMT5 weights in published checkpoints."""

from __future__ import annotations

from collections.abc import Iterable

from infinite_talk.models.keymap import Entry, KeyMap, choose, unchanged
from infinite_talk.models.text.config import TextConfig

_LAYER = {
    "layer.0.layer_norm.weight": "norm1.weight",
    "layer.0.SelfAttention.q.weight": "attn.q.weight",
    "layer.0.SelfAttention.k.weight": "attn.k.weight",
    "layer.0.SelfAttention.v.weight": "attn.v.weight",
    "layer.0.SelfAttention.o.weight": "attn.o.weight",
    "layer.0.SelfAttention.relative_attention_bias.weight": "pos_embedding.embedding.weight",
    "layer.1.layer_norm.weight": "norm2.weight",
    "layer.1.DenseReluDense.wi_0.weight": "ffn.gate.0.weight",
    "layer.1.DenseReluDense.wi_1.weight": "ffn.fc1.weight",
    "layer.1.DenseReluDense.wo.weight": "ffn.fc2.weight",
}
"""One layer: name in ``transformers`` -> name in the Wan2.1 checkpoint."""


def key_map(config: TextConfig, stored: Iterable[str]) -> KeyMap:
    """The dialect that a checkpoint speaks: Wan2.1's, ``transformers``' or ours."""
    return choose((wan(config), transformers(config), unchanged(wan(config))), stored)


def wan(config: TextConfig) -> KeyMap:
    """Our names -> the Wan2.1 checkpoint's."""
    entries = {"model.embed_tokens.weight": Entry("token_embedding.weight")}
    for layer in range(config.num_layers):
        entries |= {f"model.block.{layer}.{n}": Entry(f"blocks.{layer}.{w}") for n, w in _LAYER.items()}
    return KeyMap("UMT5 encoder", {**entries, "model.final_layer_norm.weight": Entry("norm.weight")})


def transformers(config: TextConfig) -> KeyMap:
    """Our names -> those of ``UMT5EncoderModel`` files, where the embedding may be stored twice."""
    entries = {name: Entry("encoder." + name.removeprefix("model.")) for name in wan(config).entries}
    entries["model.embed_tokens.weight"] = Entry("shared.weight")
    return KeyMap("UMT5 encoder", entries, ignored=("encoder.embed_tokens.",))
