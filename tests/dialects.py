"""Writers of tiny model files in every dialect that people have.

Each takes weights by some names and a path, writes what another program would have written, and returns the
weights that a right reader finds there: the same numbers after the rounding of the format, float32.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from infinite_talk.models.dit import DiTConfig, WanTransformer
from infinite_talk.models.dit.keys import diffusers_name, is_speech_key
from infinite_talk.ops.linear.gguf import FORMATS

TINY = DiTConfig(
    dim=256,
    ffn_dim=512,
    freq_dim=64,
    num_heads=2,
    num_layers=2,
    text_dim=64,
    clip_dim=64,
    audio_blocks=1,
    intermediate_dim=32,
    context_tokens=2,
    output_dim=64,
)
"""Widths that K-quants divide, heads as wide as Wan's, so that shapes tell all sizes."""

Weights = Mapping[str, Tensor]
Select = Callable[[str, Tensor], bool]


def transformer(config: DiTConfig = TINY, seed: int = 0) -> dict[str, Tensor]:
    """Random weights of a whole transformer by their published names, float32."""
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in WanTransformer(config).state_dict().items()}
    return {name: torch.randn(shape, generator=generator) / 16 for name, shape in shapes.items()}


def base_of(weights: Weights) -> dict[str, Tensor]:
    """Without the speech branch."""
    return {name: tensor for name, tensor in weights.items() if not is_speech_key(name)}


def adapter_of(weights: Weights) -> dict[str, Tensor]:
    """The speech branch alone."""
    return {name: tensor for name, tensor in weights.items() if is_speech_key(name)}


def prefixed(weights: Weights, prefix: str) -> dict[str, Tensor]:
    """All names below a prefix such as ``model.diffusion_model.``."""
    return {prefix + name: tensor for name, tensor in weights.items()}


def as_kijai(weights: Weights) -> dict[str, Tensor]:
    """With the ComfyUI wrapper's name of the speech projection."""
    return {re.sub(r"^audio_proj\.", "multitalk_audio_proj.", n): tensor for n, tensor in weights.items()}


def as_diffusers(weights: Weights) -> dict[str, Tensor]:
    """By the names of ``WanTransformer3DModel``."""
    return {diffusers_name(name): tensor for name, tensor in weights.items()}


def in_block(name: str, tensor: Tensor) -> bool:
    """What quantisers pack: matrices inside blocks."""
    return "blocks." in name and name.endswith(".weight") and tensor.dim() == 2


def write_plain(path: Path, weights: Weights, dtype: torch.dtype = torch.bfloat16) -> dict[str, Tensor]:
    """One safetensors file; float8 for the matrices in blocks only, as the plain fp8 files have it."""
    small = dtype.itemsize == 1
    cast = {
        name: tensor.to(torch.bfloat16 if small and not in_block(name, tensor) else dtype).contiguous()
        for name, tensor in weights.items()
    }
    return _saved(path, cast, {name: tensor.float() for name, tensor in cast.items()})


def write_shards(
    folder: Path, weights: Weights, count: int = 3, dtype: torch.dtype = torch.bfloat16
) -> dict[str, Tensor]:
    """A folder with shards and their index, as published by Wan-AI."""
    folder.mkdir(parents=True, exist_ok=True)
    names, home, found = list(weights), {}, {}
    for i in range(count):
        file = f"diffusion_pytorch_model-{i + 1:05}-of-{count:05}.safetensors"
        part = {name: weights[name] for name in names[i::count]}
        found |= write_plain(folder / file, part, dtype)
        home |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": 0}, "weight_map": home}
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    return found


def write_diffusers(folder: Path, weights: Weights, config: DiTConfig = TINY) -> dict[str, Tensor]:
    """A folder ``transformer`` of a diffusers pipeline: names of its own and a ``config.json``."""
    found = write_shards(folder, as_diffusers(weights), 2)
    sizes = {
        "_class_name": "WanTransformer3DModel",
        "num_attention_heads": config.num_heads,
        "attention_head_dim": config.head_dim,
        "added_kv_proj_dim": config.dim,
    }
    (folder / "config.json").write_text(json.dumps(sizes))
    return {name: found[diffusers_name(name)] for name in weights}


def write_pth(path: Path, weights: Weights, wrapper: str | None = None) -> dict[str, Tensor]:
    """A PyTorch file, flat or below a key such as ``state_dict``."""
    state = {name: tensor.clone() for name, tensor in weights.items()}
    torch.save(state if wrapper is None else {wrapper: state, "epoch": 3}, path)
    return {name: tensor.float() for name, tensor in state.items()}


def write_scaled_fp8(
    path: Path,
    weights: Weights,
    dtype: torch.dtype = torch.float8_e4m3fn,
    *,
    scale_name: str = "scale_weight",
    scale_shape: str = "()",
    marker: bool = True,
    select: Select = in_block,
) -> dict[str, Tensor]:
    """ComfyUI's and Kijai's: a scale for each weight, a marker, ``scale_input`` beside some.

    ``scale_shape``: ``()``, ``(1,)``, ``(1, 1)``, ``(out,)`` or ``(out, 1)``.
    """
    stored: dict[str, Tensor] = {"scaled_fp8": torch.zeros(0, dtype=dtype)} if marker else {}
    found: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if not select(name, tensor):
            stored[name], found[name] = _half(tensor)
            continue
        scale = _scale(tensor, torch.finfo(dtype).max, rows="out" in scale_shape)
        data = (tensor / scale).to(dtype)
        layer = name.removesuffix(".weight")
        stored[name] = data
        stored[f"{layer}.{scale_name}"] = _shaped(scale, scale_shape)
        stored[f"{layer}.scale_input"] = torch.ones(())
        found[name] = data.float() * scale
    return _saved(path, stored, found)


def write_lightx2v(
    path: Path, weights: Weights, dtype: torch.dtype = torch.int8, select: Select = in_block
) -> dict[str, Tensor]:
    """LightX2V's: ``weight`` and ``weight_scale (out, 1)`` float32."""
    limit = 127 if dtype == torch.int8 else torch.finfo(dtype).max
    stored: dict[str, Tensor] = {}
    found: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if not select(name, tensor):
            stored[name], found[name] = _half(tensor)
            continue
        scale = _scale(tensor, limit, rows=True)
        wide = tensor / scale
        stored[name] = (wide.round() if dtype == torch.int8 else wide).to(dtype)
        stored[name.removesuffix(".weight") + ".weight_scale"] = scale
        found[name] = stored[name].float() * scale
    return _saved(path, stored, found)


def write_quanto(
    path: Path, weights: Weights, dtype: torch.dtype = torch.int8, select: Select = in_block
) -> dict[str, Tensor]:
    """optimum-quanto's, with the map beside it."""
    limit = 127 if dtype == torch.int8 else torch.finfo(dtype).max
    kind = {torch.int8: "qint8", torch.float8_e4m3fn: "qfloat8_e4m3fn", torch.float8_e5m2: "qfloat8_e5m2"}
    stored: dict[str, Tensor] = {}
    found: dict[str, Tensor] = {}
    kinds: dict[str, dict[str, str]] = {}
    for name, tensor in weights.items():
        if not select(name, tensor):
            stored[name], found[name] = _half(tensor)
            continue
        scale = _scale(tensor, limit, rows=True)
        wide, layer = tensor / scale, name.removesuffix(".weight")
        data = (wide.round() if dtype == torch.int8 else wide).to(dtype)
        stored |= {f"{name}._data": data, f"{name}._scale": scale}
        stored |= {f"{layer}.{side}_scale": torch.ones(()) for side in ("input", "output")}
        kinds[layer] = {"weights": kind[dtype], "activations": "none"}
        found[name] = data.float() * scale
    path.with_suffix(".json").write_text(json.dumps(kinds))
    return _saved(path, stored, found)


def write_comfy_quant(
    path: Path, weights: Weights, kind: str = "nvfp4", select: Select = in_block
) -> dict[str, Tensor]:
    """ComfyUI's newer files: the kind of each layer is in ``comfy_quant``, JSON as bytes."""
    from infinite_talk.ops.linear.nibbles import swapped
    from infinite_talk.ops.linear.nvfp4 import NVFP4, to_tiles

    stored: dict[str, Tensor] = {}
    found: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if not select(name, tensor):
            stored[name], found[name] = _half(tensor)
            continue
        layer = name.removesuffix(".weight")
        stored[f"{layer}.comfy_quant"] = torch.frombuffer(
            bytearray(json.dumps({"format": kind}).encode()), dtype=torch.uint8
        )
        if kind == "nvfp4":
            parts = NVFP4.pack(tensor)
            rows, blocks = parts["scale"].shape
            tiles = to_tiles(parts["scale"]).reshape(-(-rows // 128) * 128, -(-blocks // 4) * 4)
            stored |= {name: swapped(parts["data"]), f"{layer}.weight_scale": tiles}
            stored[f"{layer}.weight_scale_2"] = parts["whole"].reshape(())
            found[name] = NVFP4.unpack(parts, (tensor.shape[0], tensor.shape[1]), torch.float32)
        else:
            scale = _scale(tensor, 448.0, rows=False)
            stored |= {name: (tensor / scale).to(torch.float8_e4m3fn)}
            stored[f"{layer}.weight_scale"] = scale.reshape(())
            found[name] = stored[name].float() * scale
    return _saved(path, stored, found)


def write_gguf(
    path: Path,
    weights: Weights,
    kind: str = "Q8_0",
    *,
    architecture: str = "wan",
    flat: bool = True,
    select: Select = in_block,
) -> dict[str, Tensor]:
    """A GGUF file; matrices that ``kind`` does not divide are Q8_0, or F16, as its quantisers have it.

    For kinds without a quantiser in Python, the blocks are random and so are the weights that come back.

    Args:
        flat: whether more than four axes are stored as one, with the sizes in the metadata.
    """
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_array("tokenizer.ggml.tokens", ["a", "bc", "def"] * 40)
    found: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        type_ = _gguf_type(name, tensor, kind, select)
        data = _gguf_data(tensor, type_, name)
        found[name] = torch.from_numpy(gguf.quants.dequantize(data, type_).astype(np.float32)).reshape(
            tensor.shape
        )
        if tensor.dim() > 4 and flat:
            writer.add_array(f"comfy.gguf.orig_shape.{name}", [int(size) for size in tensor.shape])
            data = data.reshape(-1)
        writer.add_tensor(name, data, raw_dtype=type_)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return found


def _gguf_type(name: str, tensor: Tensor, kind: str, select: Select) -> gguf.GGMLQuantizationType:
    types = gguf.GGMLQuantizationType
    if not select(name, tensor):
        return types.F32 if tensor.dim() == 1 else types.F16
    for candidate in (types[kind], types.Q8_0):
        if tensor.shape[-1] % gguf.GGML_QUANT_SIZES[candidate][0] == 0:
            return candidate
    return types.F16


def _gguf_data(tensor: Tensor, type_: gguf.GGMLQuantizationType, name: str) -> np.ndarray:
    if type_ == gguf.GGMLQuantizationType.F32:
        return tensor.numpy().astype(np.float32)
    if type_ == gguf.GGMLQuantizationType.F16:
        return tensor.numpy().astype(np.float16)
    try:
        return gguf.quants.quantize(tensor.numpy().astype(np.float32), type_)
    except NotImplementedError:
        return random_blocks(type_.name, tensor.shape[0], tensor.shape[1], seed=len(name))


def random_blocks(kind: str, rows: int, columns: int, seed: int = 0) -> np.ndarray:
    """Random bytes of a format with scales of about a hundredth: ``(rows, bytes)`` uint8."""
    block, nbytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    rng = np.random.default_rng(seed)
    data = rng.integers(0, 256, (rows, columns // block, nbytes), dtype=np.uint8)
    for place in FORMATS[kind].halves:
        scale = rng.uniform(0.001, 0.02, (rows, columns // block, 1)).astype(np.float16)
        data[:, :, place : place + 2] = scale.view(np.uint8)
    return data.reshape(rows, -1)


def _saved(path: Path, stored: Mapping[str, Tensor], found: dict[str, Tensor]) -> dict[str, Tensor]:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in stored.items()}, path, metadata={"format": "pt"})
    return found


def _half(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """As stored beside packed weights, and what that reads as."""
    stored = tensor.to(torch.bfloat16)
    return stored, stored.float()


def _scale(weight: Tensor, limit: float, *, rows: bool) -> Tensor:
    largest = weight.abs().amax(dim=1, keepdim=True) if rows else weight.abs().amax().reshape(1, 1)
    return (largest / limit).float()


def _shaped(scale: Tensor, shape: str) -> Tensor:
    return {
        "()": lambda: scale.reshape(()),
        "(1,)": lambda: scale.reshape(1),
        "(1, 1)": lambda: scale.reshape(1, 1),
        "(out,)": lambda: scale.reshape(-1),
        "(out, 1)": lambda: scale.reshape(-1, 1),
    }[shape]().clone()
