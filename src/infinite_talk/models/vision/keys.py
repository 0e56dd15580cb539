"""Names of a CLIP image tower's weights in published checkpoints, and what shapes tell of the model."""

from __future__ import annotations

from collections.abc import Iterable
from math import isqrt

import torch

from infinite_talk.errors import CheckpointError
from infinite_talk.models.keymap import Entry, KeyMap, choose, unchanged
from infinite_talk.models.shapes import Shapes, count_layers, matrix, whole_shapes
from infinite_talk.models.vision.config import VisionConfig

DTYPE = torch.float16
"""As published and as the official program runs it, on a GPU. A CPU is slow in it: there, float32."""

_HEAD_WIDTH = 80
"""Of ViT-H/14, the tower that Wan2.1 was trained with; shapes do not tell it. ViT-L and ViT-B have 64."""

_LAYER = {
    "layer_norm1": "norm1",
    "self_attn.out_proj": "attn.proj",
    "layer_norm2": "norm2",
    "mlp.fc1": "mlp.0",
    "mlp.fc2": "mlp.2",
}
"""One block: module in ``transformers`` -> module in the Wan2.1 checkpoint, besides the joint q, k and v."""
_WITHOUT_PICTURES = ("textual.", "log_scale", "text_model.", "text_projection.", "logit_scale")
"""The text tower of whole CLIP models, and what compares the two."""


def key_map(config: VisionConfig, stored: Iterable[str]) -> KeyMap:
    """The dialect that a checkpoint speaks."""
    return choose(dialects(config), stored)


def dialects(config: VisionConfig) -> tuple[KeyMap, ...]:
    """Wan2.1's (both towers in one file), ``transformers``' before and since 5, and ours."""
    published = wan(config), transformers(config, "vision_model."), transformers(config, "")
    return (*published, unchanged(published[0]))


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
    ignored = (*_WITHOUT_PICTURES, "visual.head", "visual.post_norm.", *unused)
    return KeyMap("official", entries, ignored=ignored, part="image encoder")


def transformers(config: VisionConfig, prefix: str) -> KeyMap:
    """Our names -> those of ``CLIPVisionModel`` files; before transformers 5 below ``vision_model.``.

    Also ``CLIPVisionModelWithProjection`` (ComfyUI's ``clip_vision_h``, diffusers folders) and whole
    ``CLIPModel``: what they have besides the tower is passed over.
    """
    entries = {name: Entry(prefix + name.removeprefix("model.")) for name in wan(config).entries}
    unused = [f"encoder.layers.{layer}." for layer in range(config.used_layers, config.num_layers)]
    ignored = ("post_layernorm.", "embeddings.position_ids", *unused)
    return KeyMap(
        "hf",
        entries,
        ignored=(*(prefix + name for name in ignored), "visual_projection.", *_WITHOUT_PICTURES),
        part="image encoder",
    )


_PLACES = (
    ("visual.patch_embedding.weight", "visual.pos_embedding", "visual.transformer.", "mlp.0.weight"),
    *(
        (
            f"{prefix}embeddings.patch_embedding.weight",
            f"{prefix}embeddings.position_embedding.weight",
            f"{prefix}encoder.layers.",
            "mlp.fc1.weight",
        )
        for prefix in ("vision_model.", "", "model.")
    ),
)
"""By dialect: the patches, the positions, the beginning of a layer's names, the widest matrix of a layer."""


def recognises(shapes: Shapes) -> bool:
    """Whether these are the names of a CLIP image tower, in any dialect."""
    return any(
        len(shapes.get(patches, ())) == 4 and positions in shapes for patches, positions, *_ in _PLACES
    )


def config_of(shapes: Shapes) -> VisionConfig:
    """Sizes of the tower whose tensors have these shapes; the feature is taken before the last block.

    Raises:
        CheckpointError: it is not a ViT-H, or its tensors contradict each other.
    """
    shapes = whole_shapes(shapes)
    patches, positions, layer, widest = next(place for place in _PLACES if place[0] in shapes)
    dim, _, patch, _ = matrix(shapes, patches, 4)
    layers = count_layers(shapes, layer)
    if patches.startswith("model."):  # our own modules lack the block that is not used
        layers += 1
    if dim % _HEAD_WIDTH or layers < 2:
        raise CheckpointError(
            f"This image encoder has {layers} blocks of width {dim}; Wan2.1 was trained with ViT-H/14: 32 blocks "
            "of width 1280. Take clip_vision_h or the CLIP file of the Wan2.1 checkpoint.",
            code="checkpoint_mismatch",
        )
    places = isqrt(shapes[positions][-2] - 1)
    return VisionConfig(
        dim=dim,
        num_heads=dim // _HEAD_WIDTH,
        num_layers=layers,
        used_layers=layers - 1,
        mlp_ratio=matrix(shapes, f"{layer}0.{widest}")[0] // dim,
        image_size=places * patch,
        patch_size=patch,
    )
