"""Names of LoRA files: which of our weights a key is for, and what it holds.

Keys consist of a wrapper (``diffusion_model.``, ``lora_unet__``, ...), the name of a layer, in the spelling of
the published checkpoints or of diffusers, with dots or underscores, and an ending (``.lora_up.weight``, ...).
All three are read independently, so that every mixture is understood.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum


class Kind(StrEnum):
    """What a tensor of a LoRA file is to its layer."""

    UP = "lora_up"
    DOWN = "lora_down"
    B = "lora_B"
    """The same as ``UP`` in the spelling of PEFT."""
    A = "lora_A"
    ALPHA = "alpha"
    MAGNITUDE = "dora_scale"
    """DoRA: the length of each row or column of the updated weight."""
    DIFF = "diff"
    DIFF_BIAS = "diff_b"
    DIFF_MODULATION = "diff_m"
    W1A = "hada_w1_a"
    W1B = "hada_w1_b"
    W2A = "hada_w2_a"
    W2B = "hada_w2_b"
    """LoHa: two low-rank products, multiplied number by number."""
    K1 = "lokr_w1"
    K1A = "lokr_w1_a"
    K1B = "lokr_w1_b"
    K2 = "lokr_w2"
    K2A = "lokr_w2_a"
    K2B = "lokr_w2_b"
    """LoKr: the Kronecker product of two matrices, each whole or of low rank."""


_PEFT_NAME = r"(?:\.[^.]+)?"  # PEFT puts the adapter's name between, often ``default``
_ENDINGS = tuple(
    (re.compile(rf"\.{pattern}$"), kind)
    for pattern, kind in (
        (r"lora_down\.weight", Kind.DOWN),
        (r"lora_up\.weight", Kind.UP),
        (r"lora\.down\.weight", Kind.DOWN),
        (r"lora\.up\.weight", Kind.UP),
        (rf"lora_A{_PEFT_NAME}\.weight", Kind.A),
        (rf"lora_B{_PEFT_NAME}\.weight", Kind.B),
        (r"alpha", Kind.ALPHA),
        (r"dora_scale", Kind.MAGNITUDE),
        (rf"lora_magnitude_vector{_PEFT_NAME}(?:\.weight)?", Kind.MAGNITUDE),
        (r"(?:diff|w_norm)", Kind.DIFF),
        (r"(?:diff_b|b_norm)", Kind.DIFF_BIAS),
        (r"diff_m", Kind.DIFF_MODULATION),
        *((kind.value, kind) for kind in Kind if kind.value.startswith(("hada", "lokr"))),
    )
)

_UNSUPPORTED = {
    "lora_mid": "LoCon with a kernel in the middle",
    "hada_t": "LoHa in Tucker form",
    "lokr_t2": "LoKr in Tucker form",
    "oft_": "OFT",
    "glora": "GLoRA",
    "on_input": "IA3",
    "lora_embedding": "LoRA of an embedding table",
    "set_weight": "a replacement of weights",
    "reshape_weight": "a control LoRA that changes the model's shape",
    "modules_to_save": "whole layers saved by PEFT",
    "vera_lambda": "VeRA",
    "_loras.": "Stand-In",
}
"""Part of a key -> the kind of adapter it stands for, which this program does not compute."""

_ELSEWHERE = {
    "img_emb.emb_pos": "made for the first-and-last-frame model (FLF2V)",
    "vace": "made for VACE",
    "control_adapter": "made for a camera or control model",
    "ref_conv": "made for a control model with a reference",
    "dwpose_embedding": "a UniAnimate adapter",
    "randomref_embedding_pose": "a UniAnimate adapter",
    "face_adapter": "made for Wan-Animate",
    "motion_encoder": "made for Wan-Animate",
    "casual_audio_encoder": "made for the speech-to-video model (S2V)",
    "audio_injector": "made for the speech-to-video model (S2V)",
    "lora_te": "made for a text encoder too",
    "text_encoder": "made for a text encoder too",
}
"""Part of a key -> the model whose layers these are."""

_PREFIXES = (
    "base_model.model.",
    "model.diffusion_model.",
    "diffusion_model.",
    "diffusion.model.",
    "transformer.",
    "pipe.dit.",
    "lora_unet__",
    "lora_unet_",
    "lycoris_",
)

_IN_BLOCK = {
    "modulation": "scale_shift_table",
    "self_attn.q": "attn1.to_q",
    "self_attn.k": "attn1.to_k",
    "self_attn.v": "attn1.to_v",
    "self_attn.o": "attn1.to_out.0",
    "self_attn.norm_q": "attn1.norm_q",
    "self_attn.norm_k": "attn1.norm_k",
    "norm3": "norm2",  # diffusers counts the norms in the order in which they run
    "cross_attn.q": "attn2.to_q",
    "cross_attn.k": "attn2.to_k",
    "cross_attn.v": "attn2.to_v",
    "cross_attn.o": "attn2.to_out.0",
    "cross_attn.norm_q": "attn2.norm_q",
    "cross_attn.norm_k": "attn2.norm_k",
    "cross_attn.k_img": "attn2.add_k_proj",
    "cross_attn.v_img": "attn2.add_v_proj",
    "cross_attn.norm_k_img": "attn2.norm_added_k",
    "norm_x": "norm_x",
    "audio_cross_attn.q_linear": "audio_cross_attn.q_linear",
    "audio_cross_attn.kv_linear": "audio_cross_attn.kv_linear",
    "audio_cross_attn.proj": "audio_cross_attn.proj",
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
}
_OUTSIDE = {
    "patch_embedding": "patch_embedding",
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "img_emb.proj.0": "condition_embedder.image_embedder.norm1",
    "img_emb.proj.1": "condition_embedder.image_embedder.ff.net.0.proj",
    "img_emb.proj.3": "condition_embedder.image_embedder.ff.net.2",
    "img_emb.proj.4": "condition_embedder.image_embedder.norm2",
    "audio_proj.proj1": "audio_proj.proj1",
    "audio_proj.proj1_vf": "audio_proj.proj1_vf",
    "audio_proj.proj2": "audio_proj.proj2",
    "audio_proj.proj3": "audio_proj.proj3",
    "audio_proj.norm": "audio_proj.norm",
    "head": "head",
    "head.head": "proj_out",
    "head.modulation": "scale_shift_table",
}
"""Our layers, and what diffusers' ``WanTransformer3DModel`` calls them (its conversion script)."""


def _spellings(layers: Mapping[str, str]) -> dict[str, str]:
    """Every way to write a layer, with underscores for dots -> our name."""
    return {
        spelling.replace(".", "_"): ours for ours, theirs in layers.items() for spelling in (ours, theirs)
    }


_BLOCK_SPELLINGS, _OUTSIDE_SPELLINGS = _spellings(_IN_BLOCK), _spellings(_OUTSIDE)
_BLOCK = re.compile(r"blocks[._](\d+)(?:[._](.+))?$")


def split(key: str) -> tuple[str, Kind] | None:
    """Our name of a key's layer, and what the tensor is; ``None`` for an ending that is not known.

    A layer that our model does not have keeps its name, without wrappers.
    """
    for pattern, kind in _ENDINGS:
        if found := pattern.search(key):
            return our_name(key[: found.start()]), kind
    return None


def our_name(name: str) -> str:
    """Our name of a layer or bare parameter in any spelling."""
    stripped = _stripped(name)
    # No two spellings agree with underscores for dots, so that one table serves for both; kohya files mix them.
    if found := _BLOCK.match(stripped):
        number, rest = found[1], found[2]
        if rest is None:
            return f"blocks.{number}"
        if ours := _BLOCK_SPELLINGS.get(rest.replace(".", "_")):
            return f"blocks.{number}.{ours}"
    return _OUTSIDE_SPELLINGS.get(stripped.replace(".", "_"), stripped)


def _stripped(name: str) -> str:
    """A name without its wrappers; they nest, in any order."""
    while prefix := next((p for p in _PREFIXES if name.startswith(p)), None):
        name = name.removeprefix(prefix)
    return name


def unsupported(keys: list[str]) -> str | None:
    """The kind of adapter that keys with an unknown ending stand for, if it has a name."""
    return next((name for part, name in _UNSUPPORTED.items() if any(part in key for key in keys)), None)


def origin(keys: list[str]) -> str | None:
    """What a LoRA with layers that we lack is or was made for, if that shows in the names."""
    return next((name for part, name in _ELSEWHERE.items() if any(part in key for key in keys)), None)
