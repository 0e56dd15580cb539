"""Packed weights in the files of other programs: which tensors together are one weight, in which of our formats.

=========  ===================================================  ==========================================
name       a weight is                                          written by
=========  ===================================================  ==========================================
quanto     ``L.weight._data``, ``._scale`` (one per row)        optimum-quanto, WanGP
scaled     ``L.weight`` float8 with ``L.scale_weight``          ComfyUI (with a marker ``scaled_fp8``), Kijai
lightx2v   ``L.weight`` float8 or int8, ``L.weight_scale``      LightX2V, ComfyUI's newer files
nvfp4      ``L.weight`` uint8, ``L.weight_scale`` (blocks, in   ComfyUI's newer files
           tiles), ``L.weight_scale_2``
fp8        ``L.weight`` float8 alone                            plain casts; stays a plain tensor here
=========  ===================================================  ==========================================

Scales are for the whole weight or for each row, in any of the shapes ``()``, ``(1,)``, ``(1, 1)``, ``(out,)``,
``(out, 1)``. Scales of activations (``scale_input``, ``input_scale``, ``output_scale``) are passed over: where
this program packs activations, it measures them. One file may mix all of these.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from infinite_talk.errors import CheckpointError
from infinite_talk.ops.linear import Format, Packed
from infinite_talk.ops.linear.nibbles import swapped
from infinite_talk.ops.linear.nvfp4 import BLOCK, NVFP4, from_tiles
from infinite_talk.ops.linear.scaled import FP8_E4M3FN, FP8_E5M2, INT8
from infinite_talk.weights.builder import listed
from infinite_talk.weights.reader import Source

_DATA, _SCALE = "._data", "._scale"
_SCALES = (".scale_weight", ".weight_scale")
_SECOND_SCALE = ".weight_scale_2"
_KIND = ".comfy_quant"
_ACTIVATION = (".scale_input", ".input_scale", ".output_scale")
_MARKER = "scaled_fp8"
_FORMATS: Mapping[str, Format] = {"F8_E4M3": FP8_E4M3FN, "F8_E5M2": FP8_E5M2, "I8": INT8}
_INTEGERS = {"I8", "U8", "I16", "U16", "I32", "U32"}
_PLAIN = {"F64", "F32", "F16", "BF16", "I64", "I32", "BOOL"}
"""Dtypes that are cast to the base precision on arrival."""
_KNOWN_KINDS = ("float8_e4m3fn", "float8_e5m2", "int8_tensorwise", "int8_rowwise", "nvfp4")
_HARMLESS = ("format", "full_precision_matrix_mult", "orig_dtype", "orig_shape")
"""What ComfyUI says of a layer that does not change what its numbers mean."""


@dataclass(frozen=True, slots=True)
class _Weight:
    """Where the parts of one packed weight are."""

    dialect: str
    data: str
    scale: str
    second: str = ""  # NVFP4: the scale of the whole


class Unpacked(Mapping[str, Tensor | Packed]):
    """The weights of a file: matrices that it stores in several tensors as one ``Packed``, all else as it is.

    Shapes are those of the whole weights. What is not a matrix (a convolution in 8 bits) comes unpacked.

    Args:
        source: an open file or several.
        name: what to call it in an error message.

    Raises:
        CheckpointError: a part of a weight is missing or has the wrong shape, or its kind is not known.
    """

    def __init__(self, source: Source, name: str = "The checkpoint") -> None:
        self._source, self._called = source, name
        stored = source.shapes
        self._packed = self._find(stored)
        parts = {
            part for weight in self._packed.values() for part in (weight.data, weight.scale, weight.second)
        }
        self.passed_over = tuple(sorted(n for n in stored if _is_aside(n, stored)))
        """Names of markers and of scales for activations."""
        aside = parts | set(self.passed_over)
        plain = {n: shape for n, shape in stored.items() if n not in aside}
        self.shapes: dict[str, tuple[int, ...]] = plain | {n: self._shape(n) for n in self._packed}
        self._check()

    @property
    def dialects(self) -> tuple[str, ...]:
        """Which kinds of packing there are, of the table above."""
        return tuple(sorted({weight.dialect for weight in self._packed.values()}))

    @property
    def quanto(self) -> dict[str, str]:
        """The layers in quanto's layout, with the dtype of each."""
        return {
            name.rpartition(".")[0]: self._source.dtypes[weight.data]
            for name, weight in self._packed.items()
            if weight.dialect == "quanto"
        }

    @property
    def packed(self) -> frozenset[str]:
        """Names of the weights that consist of several tensors."""
        return frozenset(self._packed)

    @property
    def packed_sizes(self) -> dict[str, int]:
        """Bytes of the matrices that come packed, and of those in plain float8, by name."""
        sizes, dtypes = self._source.sizes, self._source.dtypes
        several = {
            name: sum(sizes[part] for part in (weight.data, weight.scale, weight.second) if part)
            for name, weight in self._packed.items()
        }
        single = {n: sizes[n] for n in self.shapes if n not in several and dtypes[n] not in _PLAIN}
        return several | single

    def __getitem__(self, name: str) -> Tensor | Packed:
        weight = self._packed.get(name)
        if weight is None:
            return self._source[name]
        data = self._tensor(weight.data)
        if weight.second:
            return self._nvfp4(name, weight, data)
        scale = self._tensor(weight.scale).float()
        kind = _FORMATS.get(self._source.dtypes[weight.data])
        if data.dim() == 2 and kind is not None:
            return Packed(kind, (data.shape[0], data.shape[1]), {"data": data, "scale": _by_row(scale)})
        # No matrix, or one in full precision with a scale beside it: the product, in the dtype it came in.
        per_row = scale.reshape(-1, *[1] * (data.dim() - 1)) if data.dim() else scale.reshape(())
        whole = data.float() * per_row
        return whole if kind is not None else whole.to(data.dtype)

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    def _find(self, stored: Mapping[str, tuple[int, ...]]) -> dict[str, _Weight]:
        found: dict[str, _Weight] = {}
        for name in stored:
            if name.endswith(_DATA):
                weight = name.removesuffix(_DATA)
                found[weight] = _Weight("quanto", name, weight + _SCALE)
            for ending in _SCALES:
                if name.endswith(ending) and (layer := name.removesuffix(ending)) + ".weight" in stored:
                    dialect = "lightx2v" if ending == ".weight_scale" else "scaled"
                    second = layer + _SECOND_SCALE if self._is_nvfp4(layer) else ""
                    dialect = "nvfp4" if second else dialect
                    found[f"{layer}.weight"] = _Weight(dialect, f"{layer}.weight", name, second)
        return found

    def _is_nvfp4(self, layer: str) -> bool:
        return layer + _SECOND_SCALE in self._source.shapes and self._source.dtypes[f"{layer}.weight"] == "U8"

    def _shape(self, name: str) -> tuple[int, ...]:
        weight = self._packed[name]
        shape = self._source.shapes[weight.data]
        return (shape[0], shape[1] * 2) if weight.second else shape  # two 4-bit numbers in a byte

    def _tensor(self, name: str) -> Tensor:
        return cast(Tensor, self._source[name])  # parts are never packed themselves

    def _nvfp4(self, name: str, weight: _Weight, data: Tensor) -> Packed:
        """ComfyUI has the earlier number in the upper half of a byte, and the block scales in tiles."""
        rows, columns = self._shape(name)
        scale = from_tiles(self._tensor(weight.scale), rows, columns // BLOCK)
        whole = self._tensor(weight.second).float().reshape(1, 1)
        return Packed(NVFP4, (rows, columns), {"data": swapped(data), "scale": scale, "whole": whole})

    def _check(self) -> None:
        """All parts are there and fit, and 8-bit integers have scales."""
        stored, dtypes = self._source.shapes, self._source.dtypes
        missing = [w.scale for w in self._packed.values() if w.scale not in stored]
        if missing:
            raise self._error(f"is incomplete: {listed('scales missing', missing)}. Download it again.")
        wrong = [name for name, weight in self._packed.items() if not self._fits(weight)]
        if wrong:
            raise self._error(
                f"has scales that fit no weight: {listed('weights', wrong)}. Download it again."
            )
        # A tokenizer may be there as a row of bytes; a matrix of them is a weight.
        integers = [n for n, shape in self.shapes.items() if n not in self._packed and len(shape) > 1]
        integers = [n for n in integers if dtypes[n] in _INTEGERS]
        # Other programs have four bits in a byte in several ways.
        integers += [
            n for n, w in self._packed.items() if not w.second and dtypes[w.data] in _INTEGERS - {"I8"}
        ]
        if integers:
            raise self._error(
                f"holds integers that are in no form known here: {listed('weights', integers)}. Take a file in bf16, "
                "fp16, fp8, fp8 scaled, int8 with weight_scale, nvfp4 of ComfyUI, quanto or GGUF."
            )
        self._check_kinds()

    def _fits(self, weight: _Weight) -> bool:
        data, scale = self._source.shapes[weight.data], self._source.shapes[weight.scale]
        if weight.second:
            rows, blocks = -(-data[0] // 128) * 128, -(-(data[1] * 2 // BLOCK) // 4) * 4
            return _count(scale) == rows * blocks and _count(self._source.shapes[weight.second]) == 1
        return _count(scale) == 1 or (bool(data) and bool(scale) and scale[0] == data[0] == _count(scale))

    def _check_kinds(self) -> None:
        """ComfyUI names the kind of each layer; one that is not known here is refused, not guessed."""
        settings = [
            _object(bytes(self._tensor(name).to(torch.uint8).tolist()))
            for name in self._source.shapes
            if name.endswith(_KIND)
        ]
        layers = _object(self._source.metadata.get("_quantization_metadata", "{}").encode()).get("layers")
        if isinstance(layers, dict):
            settings += [layer for layer in layers.values() if isinstance(layer, dict)]
        unknown = {str(one.get("format")) for one in settings} - set(_KNOWN_KINDS)
        # Weights may be rotated or smoothed besides ("convrot"): their scales alone do not give them back.
        unknown |= {
            name for one in settings for name, value in one.items() if name not in _HARMLESS and value
        }
        if unknown:
            raise self._error(
                f"is quantised as {', '.join(sorted(unknown))}, which cannot be read; known are "
                f"{', '.join(_KNOWN_KINDS)}. Take a file in one of these, in bf16 or in fp16."
            )

    def _error(self, what: str) -> CheckpointError:
        return CheckpointError(f"{self._called} {what}", code="checkpoint_mismatch")


def _is_aside(name: str, stored: Mapping[str, tuple[int, ...]]) -> bool:
    """A marker, or a scale of activations or of no weight, beside a layer."""
    if name.rpartition(".")[2] == _MARKER or name.endswith(_KIND):
        return True
    layer = next((name.removesuffix(ending) for ending in _ACTIVATION if name.endswith(ending)), None)
    return layer is not None and (f"{layer}.weight" in stored or f"{layer}.weight{_DATA}" in stored)


def _by_row(scale: Tensor) -> Tensor:
    """``(out, 1)`` or ``(1, 1)``."""
    return scale.reshape(-1, 1)


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _object(text: bytes) -> dict[str, object]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {}
