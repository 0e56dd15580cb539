"""Names of LoRA files: which of our weights a key is for, and what it holds.

Keys consist of a wrapper (``diffusion_model.``, ``lora_unet__``, ...), the name of a layer, in the spelling of
the published checkpoints or of diffusers, with dots or underscores, and an ending (``.lora_up.weight``, ...).
All three are read independently, so that every mixture is understood.
"""

from __future__ import annotations

import re
from enum import StrEnum

from infinite_talk.models.dit import DiTConfig
from infinite_talk.models.dit.keys import diffusers_name, names


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

_BLOCK = re.compile(r"blocks[._](\d+)(?:[._](.+))?$")


def _spellings() -> dict[str, str]:
    """Every way to write a layer or a bare parameter, with underscores for dots -> our name; of blocks the first.

    No two of them agree, so that one table serves for names with dots, with underscores, and with both, as
    kohya's programs write them.
    """
    found = {"head": "head"}  # of its modulation
    for name in names(DiTConfig(num_layers=1)):
        ours, theirs = (
            re.sub(r"\.(weight|bias)$", "", spelling) for spelling in (name, diffusers_name(name))
        )
        found |= dict.fromkeys((flat(ours), flat(theirs), flat(f"multitalk_{ours}")), ours)
    return found


def flat(name: str) -> str:
    """A name with underscores for dots."""
    return name.replace(".", "_")


_LAYERS = _spellings()


def split(key: str) -> tuple[str, Kind] | None:
    """Our name of a key's layer, and what the tensor is; ``None`` for an ending that is not known.

    A layer that our model does not have keeps its name, without wrappers.
    """
    for pattern, kind in _ENDINGS:
        if found := pattern.search(key):
            return our_name(key[: found.start()]), kind
    return None


def our_name(name: str) -> str:
    """Our name of a layer or bare parameter in any spelling; without wrappers, if we have none like it."""
    stripped = _stripped(name)
    if found := _BLOCK.match(stripped):
        number, rest = found[1], found[2]
        if rest is None:
            return f"blocks.{number}"
        if ours := _LAYERS.get(flat(f"blocks.0.{rest}")):
            return ours.replace("0", number, 1)
    return _LAYERS.get(flat(stripped), stripped)


def _stripped(name: str) -> str:
    """A name without its wrappers; they nest, in any order."""
    while prefix := next((p for p in _PREFIXES if name.startswith(p)), None):
        name = name.removeprefix(prefix)
    return name


def unsupported(keys: list[str]) -> str | None:
    """The kind of adapter that keys with an unknown ending stand for, if it has a name."""
    return next((kind for part, kind in _UNSUPPORTED.items() if any(part in key for key in keys)), None)


def origin(keys: list[str]) -> str | None:
    """What a LoRA with layers that we lack is or was made for, if that shows in the names."""
    return next((made for part, made in _ELSEWHERE.items() if any(part in key for key in keys)), None)
