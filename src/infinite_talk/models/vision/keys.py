"""Names of a CLIP image tower's weights in published checkpoints."""

from __future__ import annotations

from collections.abc import Iterable

from infinite_talk.models.keymap import Entry, KeyMap, choose, unchanged
from infinite_talk.models.vision.config import VisionConfig

_LAYER = {
    "layer_norm1": "norm1",
    "self_attn.out_proj": "attn.proj",
    "layer_norm2": "norm2",
    "mlp.fc1": "mlp.0",
    "mlp.fc2": "mlp.2",
}
"""One block: module in ``transformers`` -> module in the Wan2.1 checkpoint, besides the joint q, k and v."""


def key_map(config: VisionConfig, stored: Iterable[str]) -> KeyMap:
    """The dialect that a checkpoint speaks: Wan2.1's (both towers in one file), ``transformers``' or ours."""
    published = wan(config), transformers(config, ""), transformers(config, "vision_model.")
    return choose((*published, unchanged(published[0])), stored)


def wan(config: VisionConfig) -> KeyMap:
    """Our names -> the names in ``models_clip_open-clip-xlm-roberta-large-vit-huge-14``."""
    entries = {
        "model.embeddings.class_embedding": Entry("visual.cls_embedding", dropped=2),
        "model.embeddings.patch_embedding.weight": Entry("visual.patch_embedding.weight"),
        "model.embeddings.position_embedding.weight": Entry("visual.pos_embedding", dropped=1),
        "model.pre_layrnorm.weight": Entry("visual.pre_norm.weight"),
        "model.pre_layrnorm.bias": Entry("visual.pre_norm.bias"),
    }
    for layer in range(config.used_layers):
        ours, theirs = f"model.encoder.layers.{layer}.", f"visual.transformer.{layer}."
        for kind in ("weight", "bias"):
            entries |= {
                f"{ours}{name}.{kind}": Entry(f"{theirs}{wan}.{kind}") for name, wan in _LAYER.items()
            }
            for part, name in enumerate("qkv"):
                joint = Entry(f"{theirs}attn.to_qkv.{kind}", part, parts=3)
                entries[f"{ours}self_attn.{name}_proj.{kind}"] = joint
    unused = (f"visual.transformer.{layer}." for layer in range(config.used_layers, config.num_layers))
    return KeyMap(
        "CLIP image tower",
        entries,
        ignored=("textual.", "log_scale", "visual.head", "visual.post_norm.", *unused),
    )


def transformers(config: VisionConfig, prefix: str) -> KeyMap:
    """Our names -> those of ``CLIPVisionModel`` files; before transformers 5 below ``vision_model.``."""
    entries = {name: Entry(prefix + name.removeprefix("model.")) for name in wan(config).entries}
    unused = [f"encoder.layers.{layer}." for layer in range(config.used_layers, config.num_layers)]
    ignored = ("post_layernorm.", "embeddings.position_ids", *unused)
    return KeyMap("CLIP image tower", entries, ignored=tuple(prefix + name for name in ignored))
