"""Names of the transformer's weights in published checkpoints, and what the shapes in a file say about its sizes.

The published names are ours. Files differ in a prefix for all names, in what the speech projection is called,
in whether the speech branch is there, alone or missing, and diffusers has names of its own. InfiniteTalk's
and MultiTalk's speech branches have the same names and shapes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import product
from typing import Any

from infinite_talk.errors import CheckpointError
from infinite_talk.models.dit.config import DiTConfig
from infinite_talk.models.keymap import Entry, KeyMap

Shapes = Mapping[str, tuple[int, ...]]

# Longest first: a shorter one may be the beginning of a longer one.
_WRAPPERS = ("model.diffusion_model.", "diffusion_model.", "pipe.dit.", "transformer.", "module.", "model.")
_SPEECH = ("audio_proj.", "multitalk_audio_proj.")  # published; in files of the ComfyUI wrapper
_HEAD_DIM = 128  # of every Wan2.1
_IN_DIM = 36  # latent, mask and picture channels of image-to-video
_AUDIO_CHANNELS = 768  # of the speech encoder that every adapter was trained with

_BLOCK = {
    "self_attn.q": "attn1.to_q",
    "self_attn.k": "attn1.to_k",
    "self_attn.v": "attn1.to_v",
    "self_attn.o": "attn1.to_out.0",
    "self_attn.norm_q": "attn1.norm_q",
    "self_attn.norm_k": "attn1.norm_k",
    "cross_attn.q": "attn2.to_q",
    "cross_attn.k": "attn2.to_k",
    "cross_attn.v": "attn2.to_v",
    "cross_attn.o": "attn2.to_out.0",
    "cross_attn.norm_q": "attn2.norm_q",
    "cross_attn.norm_k": "attn2.norm_k",
    "cross_attn.k_img": "attn2.add_k_proj",
    "cross_attn.v_img": "attn2.add_v_proj",
    "cross_attn.norm_k_img": "attn2.norm_added_k",
    "norm3": "norm2",  # diffusers counts in order of use
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
    "modulation": "scale_shift_table",
}
"""Inside a block: our module or tensor -> that of diffusers' ``WanTransformer3DModel``."""
_OUTSIDE = {
    "patch_embedding": "patch_embedding",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "img_emb.proj.0": "condition_embedder.image_embedder.norm1",
    "img_emb.proj.1": "condition_embedder.image_embedder.ff.net.0.proj",
    "img_emb.proj.3": "condition_embedder.image_embedder.ff.net.2",
    "img_emb.proj.4": "condition_embedder.image_embedder.norm2",
    "head.head": "proj_out",
    "head.modulation": "scale_shift_table",
}
"""Outside the blocks, likewise."""


def our_names(stored: Iterable[str]) -> dict[str, str]:
    """Our name -> stored name for every key of a checkpoint; a common wrapping prefix is taken off."""
    names = list(stored)
    prefix = next((w for w in _WRAPPERS if names and all(name.startswith(w) for name in names)), "")
    return {name.removeprefix(prefix): name for name in names}


def _wrapper(names: Iterable[str]) -> str:
    """The prefix of most names, or none; what lacks it is a stranger, to be named as such."""
    names = list(names)
    shared = (w for w in _WRAPPERS if sum(name.startswith(w) for name in names) * 2 > len(names))
    return next(shared, "")


def is_speech_key(name: str) -> bool:
    """Whether a weight belongs to InfiniteTalk's speech branch, which the base Wan2.1 checkpoint lacks."""
    return name.startswith(_SPEECH) or ".audio_cross_attn." in name or ".norm_x." in name


def names(config: DiTConfig) -> tuple[str, ...]:
    """All weights of the transformer, as published."""
    outside = [name for module in _OUTSIDE for name in _tensors(module)]
    blocks = [f"blocks.{i}.{name}" for i in range(config.num_layers) for m in _BLOCK for name in _tensors(m)]
    speech = [f"blocks.{i}.{m}.{k}" for i in range(config.num_layers) for m in _SPEECH_BLOCK for k in _AFFINE]
    speech += [
        f"audio_proj.{m}.{k}" for m in ("proj1", "proj1_vf", "proj2", "proj3", "norm") for k in _AFFINE
    ]
    return (*outside, *blocks, *speech)


_AFFINE = ("weight", "bias")
_SPEECH_BLOCK = ("audio_cross_attn.q_linear", "audio_cross_attn.kv_linear", "audio_cross_attn.proj", "norm_x")


def _tensors(module: str) -> list[str]:
    if module.endswith("modulation"):
        return [module]
    return [f"{module}.weight"] if ".norm_" in module else [f"{module}.{kind}" for kind in _AFFINE]


def dialects(config: DiTConfig, stored: Iterable[str] | None = None) -> tuple[KeyMap, ...]:
    """Every way in which a transformer of these sizes is stored: whole, without speech, or its speech branch.

    Args:
        stored: the names in a file, so that only the wrapper that they have is considered.
    """
    wrappers = ("", *_WRAPPERS) if stored is None else (_wrapper(stored),)
    ours = names(config)
    speech = tuple(name for name in ours if is_speech_key(name))
    base = tuple(name for name in ours if not is_speech_key(name))
    maps = [_prefixed("transformer without speech branch", base, w) for w in wrappers]
    for wrapper, projection in product(wrappers, _SPEECH):
        maps.append(_prefixed("transformer", ours, wrapper, projection))
        maps.append(_prefixed("speech branch", speech, wrapper, projection))
    return (*maps, _diffusers("transformer without speech branch", base), _diffusers("transformer", ours))


def _prefixed(part: str, ours: Iterable[str], wrapper: str, projection: str = _SPEECH[0]) -> KeyMap:
    comfy = "diffusion_model" in wrapper
    dialect = "kijai" if projection != _SPEECH[0] else "comfy" if comfy else "official"
    published = _SPEECH[0]
    entries = {
        name: Entry(wrapper + (projection + name[len(published) :] if name.startswith(published) else name))
        for name in ours
    }
    return KeyMap(dialect, entries, part=part)


def _diffusers(part: str, ours: Iterable[str]) -> KeyMap:
    return KeyMap("diffusers", {name: Entry(diffusers_name(name)) for name in ours}, part=part)


def diffusers_name(name: str) -> str:
    """What diffusers calls one of our tensors; of the speech branch it knows nothing and its names stay."""
    if is_speech_key(name):
        return name
    block = re.match(r"blocks\.\d+\.", name)
    start, table = (block.group(), _BLOCK) if block else ("", _OUTSIDE)
    inner = name.removeprefix(start)
    if inner in table:
        return start + table[inner]
    module, _, kind = inner.rpartition(".")
    return f"{start}{table[module]}.{kind}"


def recognises(shapes: Shapes) -> bool:
    """Whether these are the names of a Wan transformer of any kind, or of a speech branch."""
    return what_for(shapes) is not None or refusal(shapes) is not None


def what_for(shapes: Shapes) -> str | None:
    """``"transformer"``, ``"adapter"`` (a speech branch alone), or ``None``."""
    bare = _bare(shapes)
    if "patch_embedding.weight" in bare and (
        "blocks.0.self_attn.q.weight" in bare or "blocks.0.attn1.to_q.weight" in bare
    ):
        return "transformer"
    return "adapter" if any(is_speech_key(name) for name in bare) else None


def refusal(shapes: Shapes) -> str | None:
    """Why a file of the same family is no transformer for this program, e.g. a text-to-video Wan2.1."""
    bare = _bare(shapes)
    if what_for(shapes) != "transformer":
        return None
    patch = bare["patch_embedding.weight"]
    for beginning, model in _RELATIVES.items():
        if any(name.startswith(beginning) for name in bare):
            return f"this is {model} (it has {beginning}...), not Wan2.1 image-to-video"
    if {"img_emb.emb_pos", "condition_embedder.image_embedder.pos_embed"} & set(bare):
        return "this is Wan2.1 for first and last frames (it has img_emb.emb_pos), not image-to-video"
    if not any(name.endswith(("cross_attn.k_img.weight", "attn2.add_k_proj.weight")) for name in bare):
        if len(patch) > 1 and patch[1] == 48:
            return "this is Wan2.2 5B (48 latent channels), not Wan2.1 image-to-video 14B"
        if len(patch) > 1 and patch[1] == 36:
            return "this is a Wan2.2 image-to-video (no cross_attn.k_img), not Wan2.1 image-to-video"
        size = " 1.3B" if patch[0] == 1536 else ""
        return f"this is a text-to-video Wan2.1{size} (no cross_attn.k_img), not image-to-video"
    if len(patch) > 1 and patch[1] != _IN_DIM:
        return f"this is a Wan2.1 with {patch[1]} input channels, not image-to-video with {_IN_DIM}"
    return None


_RELATIVES = {
    "vace_blocks.": "Wan2.1 VACE",
    "vace_patch_embedding.": "Wan2.1 VACE",
    "casual_audio_encoder.": "Wan2.2 speech-to-video",
    "face_adapter.": "Wan2.2 Animate",
    "control_adapter.": "Wan2.1 camera control",
    "ref_conv.": "Wan2.1 Fun control",
    "audio_model.": "Ovi",
}


def config_of(shapes: Shapes, like: DiTConfig | None = None) -> DiTConfig:
    """The sizes of a transformer or of a speech branch.

    Args:
        shapes: names and shapes of a file in any dialect; packed weights by their whole shape.
        like: sizes known from elsewhere, e.g. a ``config.json``. Where shapes do not tell (heads, layers of the
            speech encoder) its values count, else those of the published models.

    Raises:
        CheckpointError: a tensor that tells a size is missing or has too few axes, or the number of heads is
            not known.
    """
    ours = _bare(shapes)
    published = {diffusers_name(name): name for name in names(DiTConfig(num_layers=1)) if name not in ours}
    ours |= {published[name]: shape for name, shape in ours.items() if name in published}
    known = like or DiTConfig()
    try:
        if "patch_embedding.weight" in ours:
            known = _base_config(ours, known, given=like is not None)
        if "audio_proj.proj1.weight" in ours or "blocks.0.norm_x.weight" in ours:
            known = _speech_config(ours, known, given=like is not None)
    except (KeyError, IndexError) as error:
        raise CheckpointError(
            f"The transformer is incomplete: no {error.args[0]} of the expected shape. Download it again.",
            code="checkpoint_mismatch",
        ) from error
    return known


def config_beside(values: Mapping[str, Any]) -> DiTConfig | None:
    """The sizes in a ``config.json``, of Wan2.1's own layout or diffusers'; ``None`` if they are not there.

    Raises:
        CheckpointError: it is of another architecture.
    """
    heads, width = values.get("num_attention_heads"), values.get("attention_head_dim")
    if isinstance(heads, int) and isinstance(width, int):  # diffusers
        return DiTConfig(num_heads=heads, dim=heads * width)
    return DiTConfig.from_json(values) if {"num_heads", "dim"} <= set(values) else None


def _base_config(ours: Shapes, known: DiTConfig, *, given: bool) -> DiTConfig:
    patch = ours["patch_embedding.weight"]
    dim, size = patch[0], (patch[2], patch[3], patch[4])
    return replace(
        known,
        dim=dim,
        num_heads=known.num_heads if given and known.dim == dim else _heads(dim),
        in_dim=patch[1],
        patch_size=size,
        ffn_dim=ours["blocks.0.ffn.0.weight"][0],
        freq_dim=ours["time_embedding.0.weight"][1],
        text_dim=ours["text_embedding.0.weight"][1],
        clip_dim=ours["img_emb.proj.0.weight"][0] if "img_emb.proj.0.weight" in ours else known.clip_dim,
        out_dim=ours["head.head.weight"][0] // (size[0] * size[1] * size[2]),
        num_layers=_layers(ours),
    )


def _speech_config(ours: Shapes, known: DiTConfig, *, given: bool) -> DiTConfig:
    dim = ours["blocks.0.norm_x.weight"][0]
    if dim != known.dim:  # a speech branch alone
        known = replace(known, dim=dim, num_heads=_heads(dim))
    speech, grouped = ours["audio_proj.proj1.weight"][1], ours["audio_proj.proj1_vf.weight"][1]
    one = (grouped - speech) // (known.vae_scale - 1)  # of one speech vector: the group has that many more
    given_or_published = given or one % _AUDIO_CHANNELS
    channels = known.audio_channels if given_or_published else _AUDIO_CHANNELS
    output = ours["audio_proj.norm.weight"][0]
    return replace(
        known,
        num_layers=_layers(ours),
        audio_window=speech // max(one, 1),
        audio_channels=channels,
        audio_blocks=max(one // channels, 1),
        intermediate_dim=ours["audio_proj.proj2.weight"][0],
        context_tokens=ours["audio_proj.proj3.weight"][0] // output,
        output_dim=output,
    )


def _heads(dim: int) -> int:
    if dim % _HEAD_DIM:
        raise CheckpointError(
            f"The shapes do not say how many heads a transformer of width {dim} has; put its config.json beside it.",
            code="config",
        )
    return dim // _HEAD_DIM


def _layers(bare: Shapes) -> int:
    numbers = {int(m.group(1)) for name in bare if (m := re.match(r"blocks\.(\d+)\.", name))}
    return max(numbers, default=-1) + 1


def _bare(shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """Shapes by the names without wrapper, the speech projection under its published name."""
    prefix = _wrapper(shapes)
    bare = {name.removeprefix(prefix): shape for name, shape in shapes.items()}
    ours, theirs = _SPEECH
    return {
        ours + name.removeprefix(theirs) if name.startswith(theirs) else name: shape
        for name, shape in bare.items()
    }
