"""``Settings``: how this machine runs a request. What a person wants is in ``request.py``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal


class Device(StrEnum):
    """Where the models run. ``AUTO`` takes the first CUDA device, else the CPU."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Precision(StrEnum):
    """Base precision of weights and activations. ``AUTO`` is bf16 on CUDA, fp32 on the CPU."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


class Quantization(StrEnum):
    """How the transformer's large matrices are kept and multiplied; the names are those people know.

    ``_fast`` multiplies in the narrow format too, with activations scaled row by row; without it the weights are
    widened for each product. ``_scaled`` keeps a scale for each output row of a weight.
    """

    DISABLED = "disabled"
    """As the file has them: plain, or packed if the file is."""
    FP8_E4M3FN = "fp8_e4m3fn"
    FP8_E4M3FN_FAST = "fp8_e4m3fn_fast"
    FP8_E4M3FN_SCALED = "fp8_e4m3fn_scaled"
    FP8_E4M3FN_SCALED_FAST = "fp8_e4m3fn_scaled_fast"
    FP8_E5M2 = "fp8_e5m2"
    FP8_E5M2_FAST = "fp8_e5m2_fast"
    FP8_E5M2_SCALED = "fp8_e5m2_scaled"
    FP8_E5M2_SCALED_FAST = "fp8_e5m2_scaled_fast"
    INT8 = "int8"
    """8-bit integers with a scale per output row, weights only."""
    INT8_FAST = "int8_fast"
    """The same, with activations in 8-bit integers too."""
    NF4 = "nf4"
    """4-bit normal floats in blocks of 64 (QLoRA)."""
    FP4_EXPERIMENTAL = "fp4_experimental"
    """4-bit floats in blocks of 32 with a power of two as scale (MXFP4)."""
    FP4_SCALED = "fp4_scaled"
    """4-bit floats in blocks of 16 with an 8-bit float as scale (NVFP4), weights only."""
    FP4_SCALED_FAST = "fp4_scaled_fast"
    """The same, with activations in NVFP4 too: needs Blackwell."""
    GGUF = "gguf"
    """What a GGUF file has; only for such files."""


class Attention(StrEnum):
    """The attention kernel. ``AUTO`` takes the best exact one that is there."""

    AUTO = "auto"
    SDPA = "sdpa"
    FLASH_ATTN_2 = "flash_attn_2"
    FLASH_ATTN_3 = "flash_attn_3"
    FLASH_ATTN_3_FP8 = "flash_attn_3_fp8"
    FLASH_ATTN_4 = "flash_attn_4"
    SAGEATTN = "sageattn"
    SAGEATTN_3 = "sageattn_3"
    SAGEATTN_3_FP4 = "sageattn_3_fp4"
    XFORMERS = "xformers"
    EAGER = "eager"


class Gemm(StrEnum):
    """The library that multiplies matrices on an NVIDIA GPU. ``AUTO`` leaves the choice to torch."""

    AUTO = "auto"
    CUBLAS = "cublas"
    CUBLASLT = "cublaslt"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoRA:
    """An adapter of low rank on the transformer's weights."""

    path: Path
    strength: float | tuple[float, ...] = 1.0
    """One number, or one for each denoising step; the last one holds on."""
    merge: bool = True
    """Add it to the weights when they are loaded; else compute it beside them. A strength per step is never merged."""
    blocks: tuple[int, ...] | None = None
    """Blocks that it acts on, from 0; ``None``: all. What is outside of blocks it always changes."""
    without: tuple[str, ...] = ()
    """Parts of names of weights that it leaves alone, such as ``ffn``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compile:
    """``torch.compile`` for the transformer's blocks; names and defaults are its own. On an NVIDIA GPU only."""

    backend: Literal["inductor", "cudagraphs"] = "inductor"
    mode: Literal["default", "max-autotune", "max-autotune-no-cudagraphs", "reduce-overhead"] = "default"
    fullgraph: bool = False
    dynamic: bool = False
    cache_size_limit: int = 64
    recompile_limit: int = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """Files of a model that is not one folder with ``model.json``. What is not named is looked for."""

    transformer: tuple[Path, ...] = ()
    """One file, or the shards, or a folder with them."""
    adapter: Path | None = None
    """The speech branch (InfiniteTalk, MultiTalk), where the transformer's file lacks it."""
    vae: Path | None = None
    tiny_vae: Path | None = None
    """A tiny decoder (TAEHV, LightTAE) that makes the frames of a draft instead of the VAE's decoder."""
    text: Path | None = None
    tokenizer: Path | None = None
    """Folder with the text encoder's tokenizer."""
    vision: Path | None = None
    speech: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What the memory planner decides when it is not told."""

    blocks_to_swap: int | None = None
    """Transformer blocks that live in host memory and are copied for each step; evenly spread ones."""
    prefetch_blocks: int | None = None
    """How many blocks ahead the copies run."""
    vae_tiling: bool | None = None
    """Encode and decode in tiles: less memory, more work; the same numbers, there are no seams."""
    keep_encoders: bool | None = None
    """Text, image and speech encoders stay loaded between videos."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything about the machine, checked when the engine is built."""

    model: Path | None = None
    """Folder with ``model.json`` or with published model files; ``None`` is the embedded model."""
    files: ModelFiles = ModelFiles()
    """Single files; they win over what is found in ``model``."""
    models_dirs: tuple[Path, ...] = ()
    """Folders in which models and single files are looked for."""
    loras: tuple[LoRA, ...] = ()
    device: Device = Device.AUTO
    precision: Precision = Precision.AUTO
    vae_precision: Precision = Precision.AUTO
    """Of the video codec. ``AUTO``: what its files were made for, and float32 where ``precision`` is."""
    quantization: Quantization = Quantization.DISABLED
    attention: Attention = Attention.AUTO
    tf32: bool | None = None
    """Multiply float32 with the 10-bit mantissa of TF32 (NVIDIA Ampere and newer); ``None`` leaves torch's choice. It
    concerns precision fp32, and the head and the time embedding, which are float32 in every precision."""
    gemm: Gemm = Gemm.AUTO
    fuse_qkv: bool = False
    """Queries, keys and values of a self-attention from one product of joined weights, the same numbers up to the order
    of sums. Blocks that are streamed, packed in fewer bits, or have a LoRA beside them keep three products. No gain was
    measured (``docs/performance.md``)."""
    contiguous: bool = False
    """Copy queries, keys and values into dense tensors before each attention, for kernels that misread others."""
    compile: Compile | None = None
    """Compile the transformer's blocks at their first pass, which takes minutes, for passes that take less."""
    strict: bool = False
    """Refuse to run something else than what was chosen, where a fallback exists."""
    vram: float | None = None
    """GiB of GPU memory to use at most; ``None``: what is free."""
    memory: Memory = Memory()
    threads: int | None = None
    """CPU threads for torch; ``None`` leaves torch's choice. Part of the recipe: sums depend on it."""
    max_audio_seconds: float = 6 * 3600.0
    max_pixels: int = 40_000_000
    """Largest image accepted, in pixels (a decompression-bomb guard)."""
    crf: int = 18
    """H.264 quality of the output, 0 (lossless) to 51."""
