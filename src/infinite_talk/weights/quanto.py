"""8-bit checkpoints as optimum-quanto writes them: integers or float8 with one scale per output row.

Layout: ``<layer>.weight._data`` (int8 or float8_e4m3fn, ``(out, ...)``) and ``<layer>.weight._scale``
(``(out, 1, ...)``) stand for ``<layer>.weight = _data * _scale``; ``<layer>.input_scale`` and
``.output_scale`` belong to quantised activations and are 1 without them. A JSON file beside the weights maps
each layer to its kinds. Everything else is stored as it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from infinite_talk.errors import CheckpointError
from infinite_talk.weights.builder import listed
from infinite_talk.weights.reader import shapes_of

_DATA, _SCALE = "._data", "._scale"
_ACTIVATION = (".input_scale", ".output_scale")
_KINDS = {"I8": "qint8", "F8_E4M3": "qfloat8_e4m3fn", "F8_E5M2": "qfloat8_e5m2"}
_DTYPES = {torch.int8: "I8", torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2"}
_INT8_LIMIT = 127  # symmetric: -128 is not used


class Dequantised(Mapping[str, Tensor]):
    """The plain weights of a quantised checkpoint, each computed (float32) when asked for.

    Args:
        tensors: the stored tensors; a checkpoint without quantised ones passes through unchanged.
        kinds: the JSON map, if there is one; then it must agree with the tensors.
        source: what to call the checkpoint in an error message.

    Raises:
        CheckpointError: a scale is missing, or the map says otherwise.
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        kinds: Mapping[str, Mapping[str, str]] | None = None,
        source: str = "the checkpoint",
    ) -> None:
        self._tensors = tensors
        self._quantised = {name.removesuffix(_DATA) for name in tensors if name.endswith(_DATA)}
        layers = {name.rpartition(".")[0] for name in self._quantised}
        dropped = {layer + ending for layer in layers for ending in _ACTIVATION}
        scales = {weight + _SCALE for weight in self._quantised}
        if missing := sorted(scales - set(tensors)):
            raise CheckpointError(
                f"{source} is incomplete: {listed('scales missing', missing)}. Download it again.",
                code="checkpoint_mismatch",
            )
        plain = [name for name in tensors if not name.endswith(_DATA) and name not in scales | dropped]
        self._names = dict.fromkeys([*plain, *sorted(self._quantised)])
        if kinds is not None:
            stored = {
                name.rpartition(".")[0]: _DTYPES.get(tensors[name + _DATA].dtype, "")
                for name in self._quantised
            }
            check_kinds(stored, kinds, source)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        stored = shapes_of(self._tensors)
        return {name: stored[name + _DATA if name in self._quantised else name] for name in self._names}

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._quantised:
            return self._tensors[name]
        data, scale = self._tensors[name + _DATA], self._tensors[name + _SCALE]
        return data.float() * scale.float()

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def check_kinds(layers: Mapping[str, str], kinds: Mapping[str, Mapping[str, str]], source: str) -> None:
    """Compare the quantised layers of a file with its map.

    Args:
        layers: dtype of each quantised layer, in the words of safetensors.

    Raises:
        CheckpointError: a layer is on one side only, of another kind, or has quantised activations.
    """
    wrong = sorted(set(layers) ^ set(kinds))
    for layer in sorted(set(layers) & set(kinds)):
        stored = _KINDS.get(layers[layer])
        stated = kinds[layer].get("weights"), kinds[layer].get("activations", "none")
        if stated != (stored, "none"):
            wrong.append(f"{layer} is {stored}, the map says {stated[0]} with activations {stated[1]}")
    if wrong:
        raise CheckpointError(
            f"{source} and its map disagree: {listed('layers', wrong)}. Take both from the same place; "
            "quantised activations are not supported.",
            code="checkpoint_mismatch",
        )


def read_kinds(weights: Path) -> dict[str, dict[str, str]] | None:
    """The map beside a quantised file, or ``None`` when there is none: of the same name, ``.json``, or with
    ``map_`` in it, as for the published text encoder (``t5_fp8.safetensors``, ``t5_map_fp8.json``).

    Raises:
        CheckpointError: the file is no map.
    """
    start, _, kind = weights.stem.rpartition("_")
    places = weights.with_suffix(".json"), weights.with_name(f"{start}_map_{kind}.json")
    path = next((path for path in places if path.is_file()), None)
    if path is None:
        return None
    try:
        kinds: Any = json.loads(path.read_bytes())
    except ValueError:
        kinds = None
    if not isinstance(kinds, dict) or not all(isinstance(kind, dict) for kind in kinds.values()):
        raise CheckpointError(
            f"{path} is not a quantisation map. Download it again.", code="checkpoint_corrupt"
        )
    return kinds


def is_matrix(name: str, tensor: Tensor) -> bool:
    """The weight of a linear layer: what quanto quantises."""
    return name.endswith(".weight") and tensor.dim() == 2 and tensor.is_floating_point()


def quantise_int8(
    state: Mapping[str, Tensor], select: Callable[[str, Tensor], bool] = is_matrix
) -> tuple[dict[str, Tensor], dict[str, dict[str, str]]]:
    """Store the selected weights as int8 with a scale per output row, in quanto's layout.

    Args:
        state: plain weights; those not selected are passed on unchanged.
        select: which weights ``(out, ...)`` to store in 8 bits. The largest error of a weight is half its
            row's scale, i.e. 1/254 of the row's largest magnitude.

    Returns:
        The tensors to store and the map for the JSON file beside them.
    """
    stored: dict[str, Tensor] = {}
    kinds: dict[str, dict[str, str]] = {}
    for name, tensor in state.items():
        if not select(name, tensor):
            stored[name] = tensor
            continue
        layer = name.rpartition(".")[0]
        stored[name + _DATA], stored[name + _SCALE] = _rows_to_int8(tensor)
        stored.update({layer + ending: torch.ones(()) for ending in _ACTIVATION})
        kinds[layer] = {"weights": "qint8", "activations": "none"}
    return stored, kinds


def _rows_to_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    rest = tuple(range(1, weight.dim()))
    largest = weight.float().abs().amax(dim=rest, keepdim=True)
    scale = torch.where(largest > 0, largest / _INT8_LIMIT, 1.0)
    data = (weight.float() / scale).round().clamp(-_INT8_LIMIT, _INT8_LIMIT).to(torch.int8)
    return data, scale
