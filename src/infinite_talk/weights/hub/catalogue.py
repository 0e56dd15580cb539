"""Presets: sets of published files that belong together, and how much memory they suit. Data only, no torch."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from infinite_talk.errors import UsageError
from infinite_talk.weights.hub.files import (
    ADAPTER_MULTI,
    ADAPTER_MULTI_COMFY,
    ADAPTER_MULTI_FP8,
    ADAPTER_MULTITALK,
    ADAPTER_SINGLE,
    ADAPTER_SINGLE_COMFY,
    ADAPTER_SINGLE_FP8,
    ADAPTER_SINGLE_FP16,
    BASE_BF16,
    BASE_DISTILLED,
    BASE_FP8_COMFY,
    BASE_FP8_KIJAI,
    BASE_FP8_KIJAI_720,
    BASE_FP16,
    COMFY_PARTS,
    KIJAI_PARTS,
    LICENCES,
    LORA_KIJAI,
    LORA_LIGHTX2V,
    OFFICIAL_PARTS,
    QUANTO_PARTS,
    SMALL_PARTS,
    SPEECH_FP16,
    TEXT_FP8,
    TINY_VAE,
    TOKENIZER,
    VAE_COMFY,
    VISION,
    WAN,
    WAN_720,
    RemoteFile,
    gguf_adapter,
    gguf_base,
    official_shards,
    quanto,
)


@dataclass(frozen=True, slots=True)
class Preset:
    """A set of files that belong together."""

    name: str
    summary: str
    files: tuple[RemoteFile, ...]
    gpu_memory: int | None = None
    """GiB with which the whole transformer stays on the GPU at 480p; with less, its blocks are streamed."""
    people: int = 1
    """Most speakers that the speech branch was trained for."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def licences(self) -> tuple[str, ...]:
        """Of all its repositories, each once."""
        return tuple(dict.fromkeys(LICENCES[file.repo] for file in self.files))

    @property
    def complete(self) -> bool:
        """Whether a video can be made from it alone; else it is a single part."""
        return {"transformer", "vae", "text", "vision", "speech", "tokenizer"} <= {f.part for f in self.files}

    def of(self, part: str) -> tuple[RemoteFile, ...]:
        """Its files of one part."""
        return tuple(file for file in self.files if file.part == part)


PRESETS: tuple[Preset, ...] = (
    Preset(
        "official-480p",
        "as published: most exact, largest download",
        (*official_shards(WAN), ADAPTER_SINGLE, *OFFICIAL_PARTS),
        48,
    ),
    Preset(
        "official-720p",
        "as published, trained for 720p",
        (*official_shards(WAN_720), ADAPTER_SINGLE, *OFFICIAL_PARTS),
        48,
    ),
    Preset(
        "official-480p-multi",
        "as published, for two speakers",
        (*official_shards(WAN), ADAPTER_MULTI, *OFFICIAL_PARTS),
        48,
        2,
    ),
    Preset(
        "official-720p-multi",
        "as published, 720p, for two speakers",
        (*official_shards(WAN_720), ADAPTER_MULTI, *OFFICIAL_PARTS),
        48,
        2,
    ),
    Preset(
        "multitalk",
        "MultiTalk's speech branch, for two speakers",
        (*official_shards(WAN), ADAPTER_MULTITALK, *OFFICIAL_PARTS),
        48,
        2,
    ),
    Preset("quanto-int8", "as published, in 8-bit integers", (*quanto("single", "int8"), *QUANTO_PARTS), 24),
    Preset("quanto-fp8", "as published, in 8-bit floats", (*quanto("single", "fp8"), *QUANTO_PARTS), 24),
    Preset(
        "quanto-int8-multi",
        "8-bit integers, for two speakers",
        (*quanto("multi", "int8"), *QUANTO_PARTS),
        32,
        2,
    ),
    Preset(
        "kijai-bf16",
        "one bfloat16 file: half the download",
        (BASE_BF16, ADAPTER_SINGLE_FP16, *KIJAI_PARTS),
        48,
    ),
    Preset("kijai-fp16", "one float16 file", (BASE_FP16, ADAPTER_SINGLE_FP16, *KIJAI_PARTS), 48),
    Preset(
        "kijai-fp8-scaled",
        "8-bit floats with scales: good on 24 GB",
        (BASE_FP8_KIJAI, ADAPTER_SINGLE_FP8, *SMALL_PARTS),
        32,
    ),
    Preset(
        "kijai-fp8-scaled-720p",
        "the same, trained for 720p",
        (BASE_FP8_KIJAI_720, ADAPTER_SINGLE_FP8, *SMALL_PARTS),
        32,
    ),
    Preset(
        "kijai-fp8-scaled-multi",
        "the same at 480p, for two speakers",
        (BASE_FP8_KIJAI, ADAPTER_MULTI_FP8, *SMALL_PARTS),
        32,
        2,
    ),
    Preset(
        "comfy-fp8-scaled",
        "the files of ComfyUI's own workflow",
        (BASE_FP8_COMFY, ADAPTER_SINGLE_COMFY, *COMFY_PARTS),
        32,
    ),
    Preset(
        "comfy-fp8-scaled-multi",
        "the same, for two speakers",
        (BASE_FP8_COMFY, ADAPTER_MULTI_COMFY, *COMFY_PARTS),
        32,
        2,
    ),
    Preset(
        "gguf-q8",
        "GGUF, 8 bits: nearly bfloat16",
        (gguf_base("Q8_0", 17.9), gguf_adapter("Single", "Q8", 2.65), *SMALL_PARTS),
        32,
    ),
    Preset(
        "gguf-q6",
        "GGUF, 6 bits",
        (gguf_base("Q6_K", 14.0), gguf_adapter("Single", "Q6_K", 2.05), *SMALL_PARTS),
        32,
    ),
    Preset(
        "gguf-q4",
        "GGUF, 4 bits: smallest",
        (gguf_base("Q4_K_M", 11.4), gguf_adapter("Single", "Q4_K_M", 1.55), *SMALL_PARTS),
        24,
    ),
    Preset(
        "gguf-q8-multi",
        "GGUF, 8 bits, for two speakers",
        (gguf_base("Q8_0", 17.9), gguf_adapter("Multi", "Q8", 2.65), *SMALL_PARTS),
        32,
        2,
    ),
    Preset(
        "lightx2v-4step",
        "distilled to 4 steps, 8-bit floats",
        (BASE_DISTILLED, ADAPTER_SINGLE_FP16, *SMALL_PARTS),
        32,
    ),
    Preset(
        "lightx2v-4step-lora",
        "8-bit floats and the LoRA for 4 steps",
        (BASE_FP8_KIJAI, ADAPTER_SINGLE_FP8, LORA_LIGHTX2V, *SMALL_PARTS),
        32,
    ),
    Preset("encoders", "text, image and speech encoders and the codec, small", (*SMALL_PARTS,)),
    Preset("adapter", "InfiniteTalk's speech branch for one speaker", (ADAPTER_SINGLE_FP16,)),
    Preset(
        "adapter-multi", "InfiniteTalk's speech branch for two speakers", (ADAPTER_MULTI_COMFY,), people=2
    ),
    Preset("tokenizer", "the text encoder's tokenizer", TOKENIZER),
    Preset("vae", "the video codec", (VAE_COMFY,)),
    Preset("text", "the text encoder in 8 bits and its tokenizer", (TEXT_FP8, *TOKENIZER)),
    Preset("vision", "the image encoder", (VISION,)),
    Preset("speech", "the speech encoder", (SPEECH_FP16,)),
    Preset("tiny-vae", "a tiny codec for previews", (TINY_VAE,)),
    Preset("lightx2v-lora", "the LoRA for 4 to 8 steps that ComfyUI workflows use", (LORA_KIJAI,)),
)
"""Whole models first, single parts after them. A file that several presets have is stored once."""


def preset(name: str) -> Preset:
    """The preset of a name.

    Raises:
        UsageError: there is none; says which come near.
    """
    found = {one.name: one for one in PRESETS}
    if name in found:
        return found[name]
    near = difflib.get_close_matches(name, found, n=3, cutoff=0.4)
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    raise UsageError(
        f"There is no preset {name!r}. {hint}infinite-talk models list shows all.", code="unknown_preset"
    )


def catalogued() -> tuple[RemoteFile, ...]:
    """Every file of every preset, each once, in the order of the presets."""
    return tuple(dict.fromkeys(file for one in PRESETS for file in one.files))
