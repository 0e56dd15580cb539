"""Names of UMT5 weights in published checkpoints, and what shapes tell of the model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from infinite_talk.errors import CheckpointError
from infinite_talk.models.keymap import Entry, KeyMap, choose
from infinite_talk.models.shapes import Shapes, count_layers, matrix, whole_shapes
from infinite_talk.models.text.config import BYTE_VOCABULARY, TextConfig

DTYPE = torch.bfloat16
"""Published in bfloat16, and 22 GB in float32. Not float16: the residual stream of T5 leaves its range."""

EMBEDDED_TOKENIZER = "spiece_model"
"""ComfyUI files carry the SentencePiece model as a tensor of bytes under this name."""


_ATTENTION, _FEED_FORWARD = "layer.0.SelfAttention.", "layer.1.DenseReluDense."
_POSITIONS = _ATTENTION + "relative_attention_bias"
_OURS = (
    "layer.0.layer_norm",
    *(_ATTENTION + name for name in "qkvo"),
    _POSITIONS,
    "layer.1.layer_norm",
    *(_FEED_FORWARD + name for name in ("wi_0", "wi_1", "wo")),
)
"""The matrices and norms of a layer as ``transformers`` and we call them: wi_0 goes through GELU."""


@dataclass(frozen=True, slots=True)
class _Naming:
    """How one kind of file calls the parts of a UMT5 encoder; all names without ``.weight``."""

    dialect: str
    embedding: str
    norm: str  # the last one
    layer: str  # what is in front of the names of a layer, ``{}`` standing for its number
    names: tuple[str, ...]  # those of ``_OURS`` in the same order
    ignored: tuple[str, ...] = ()

    def of_layer(self, layer: int) -> dict[str, str]:
        """Our name of each matrix in a layer -> the whole stored name."""
        return {
            ours: f"{self.layer.format(layer)}{theirs}.weight"
            for ours, theirs in zip(_OURS, self.names, strict=True)
        }


_WAN = _Naming(
    dialect="official",
    embedding="token_embedding",
    norm="norm",
    layer="blocks.{}.",
    names=(
        "norm1",
        *(f"attn.{name}" for name in "qkvo"),
        "pos_embedding.embedding",
        "norm2",
        *("ffn.gate.0", "ffn.fc1", "ffn.fc2"),
    ),
)
"""``models_t5_umt5-xxl-enc-bf16.pth``, the quanto files of MeiGen-AI, and Kijai's."""

_GGUF = _Naming(
    dialect="gguf",
    embedding="token_embd",
    norm="enc.output_norm",
    layer="enc.blk.{}.",
    names=(
        "attn_norm",
        *(f"attn_{name}" for name in "qkvo"),
        "attn_rel_b",
        "ffn_norm",
        *("ffn_gate", "ffn_up", "ffn_down"),
    ),
    ignored=("dec.", "output.weight"),
)
"""llama.cpp's architecture ``t5encoder``; the decoder of a whole ``t5`` is passed over."""


_BESIDE = (EMBEDDED_TOKENIZER, "scaled_fp8", "umt5xxl.logit_scale", "umt5xxl.text_projection")
"""What ComfyUI's files hold besides the encoder."""


def _hf(dialect: str, prefix: str, embedding: str, *ignored: str) -> _Naming:
    """The naming of ``UMT5EncoderModel``; the decoder of a whole model is passed over."""
    return _Naming(
        dialect=dialect,
        embedding=prefix + embedding,
        norm=f"{prefix}encoder.final_layer_norm",
        layer=f"{prefix}encoder.block.{{}}.",
        names=_OURS,
        ignored=(*(prefix + name for name in (*ignored, "decoder.", "lm_head.")), *_BESIDE),
    )


_HF = _hf("hf", "", "shared", "encoder.embed_tokens.")
_COMFY = _hf("comfy", "umt5xxl.transformer.", "shared", "encoder.embed_tokens.")
"""As ComfyUI saves the text encoder of a workflow."""
_NAMINGS = (
    _WAN,
    _HF,  # ComfyUI's umt5_xxl files too
    _hf("hf", "", "encoder.embed_tokens"),
    _COMFY,
    _GGUF,
    _Naming("own", "model.embed_tokens", "model.final_layer_norm", "model.block.{}.", _OURS),
)


def key_map(config: TextConfig, stored: Iterable[str]) -> KeyMap:
    """The dialect that a checkpoint speaks."""
    return choose(dialects(config), stored)


def dialects(config: TextConfig) -> tuple[KeyMap, ...]:
    """All dialects of a UMT5 encoder; the last is that of our own modules."""
    return tuple(_map(naming, config) for naming in _NAMINGS)


def wan(config: TextConfig) -> KeyMap:
    """Our names -> the Wan2.1 checkpoint's."""
    return _map(_WAN, config)


def transformers(config: TextConfig) -> KeyMap:
    """Our names -> those of ``UMT5EncoderModel`` files, where the embedding may be stored twice."""
    return _map(_HF, config)


def recognises(shapes: Shapes) -> bool:
    """Whether these are the names of a T5 encoder, in any dialect."""
    shapes = whole_shapes(shapes)
    return any(_speaks(naming, shapes) for naming in _NAMINGS)


def config_of(shapes: Shapes) -> TextConfig:
    """Sizes of the encoder whose tensors have these shapes.

    Raises:
        CheckpointError: it is another T5, or its tensors contradict each other.
    """
    shapes = whole_shapes(shapes)
    naming = next(naming for naming in _NAMINGS if _speaks(naming, shapes))
    layers = count_layers(shapes, naming.layer.partition("{}")[0])
    if layers > 1 and naming.of_layer(1)[_POSITIONS] not in shapes:
        raise CheckpointError(
            "This is a T5 encoder whose layers share their relative positions, and Wan2.1 was trained with UMT5, "
            "where every layer has its own. Take a umt5-xxl file instead of t5-xxl.",
            code="checkpoint_mismatch",
        )
    first = naming.of_layer(0)
    vocab_size, dim = shapes[f"{naming.embedding}.weight"]
    buckets, heads = shapes[first[_POSITIONS]]
    return TextConfig(
        vocab_size=vocab_size,
        dim=dim,
        dim_attn=matrix(shapes, first[_ATTENTION + "q"])[0],
        dim_ffn=matrix(shapes, first[_FEED_FORWARD + "wi_1"])[0],
        num_heads=heads,
        num_layers=layers,
        num_buckets=buckets,
        bytes=vocab_size == BYTE_VOCABULARY,
    )


def _speaks(naming: _Naming, shapes: Shapes) -> bool:
    names = f"{naming.embedding}.weight", naming.of_layer(0)[_POSITIONS]
    return all(len(shapes.get(name, ())) == 2 for name in names)


def _map(naming: _Naming, config: TextConfig) -> KeyMap:
    entries = {"model.embed_tokens.weight": Entry(f"{naming.embedding}.weight")}
    for layer in range(config.num_layers):
        names = naming.of_layer(layer).items()
        entries |= {f"model.block.{layer}.{ours}.weight": Entry(stored) for ours, stored in names}
    entries["model.final_layer_norm.weight"] = Entry(f"{naming.norm}.weight")
    return KeyMap(naming.dialect, entries, ignored=naming.ignored, part="text encoder")
