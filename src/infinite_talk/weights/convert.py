"""One model file into another: any dialect in, safetensors with the published names out, in a chosen precision.

Weights in 8 bits are written as LightX2V has them, which other programs read too: ``NAME.weight`` in float8 or int8,
``NAME.weight_scale`` ``(out, 1)`` in float32. Formats that nobody else keeps in files (nf4, fp4) are made at load.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from infinite_talk.errors import CapabilityError, CheckpointError, NoSpaceError, UsageError
from infinite_talk.ops.linear import Packed
from infinite_talk.settings import Precision, Quantization
from infinite_talk.version import __version__
from infinite_talk.weights.checkpoint import Checkpoint, Part, combine, open_checkpoint
from infinite_talk.weights.precision import FORMATS, Policy
from infinite_talk.weights.writer import TensorWriter

DTYPES = {Precision.FP32: torch.float32, Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16}
STORED = (
    Quantization.DISABLED,
    *(
        Quantization.FP8_E4M3FN,
        Quantization.FP8_E4M3FN_SCALED,
        Quantization.FP8_E5M2,
        Quantization.FP8_E5M2_SCALED,
    ),
    Quantization.INT8,
)
"""What can be written. The fast kinds have the same weights as those without the word."""
_TRANSFORMERS = (Part.TRANSFORMER, Part.ADAPTER)
Listener = Callable[[str, int, int], None]
"""Hears the name of a weight, its number from 0, and how many there are."""


@dataclass(frozen=True, slots=True)
class Converted:
    """What was read and what was written."""

    path: Path
    part: str
    dialect: str
    precision_before: str
    tensors: int
    size: int
    notes: tuple[str, ...]


def convert_model(
    paths: Sequence[Path],
    output: Path,
    *,
    adapter: Path | None = None,
    quantization: Quantization = Quantization.DISABLED,
    precision: Precision = Precision.AUTO,
    allow_pickle: bool = False,
    overwrite: bool = False,
    progress: Listener | None = None,
) -> Converted:
    """Write a part of a model as one safetensors file.

    Args:
        paths: the part: one file, or its shards, or their folder.
        adapter: a speech branch to join with the transformer.
        quantization: for transformers and speech branches; ``DISABLED`` keeps what the file has.
        precision: of everything that is not quantised; ``AUTO`` keeps what the file has. With ``DISABLED``,
            a precision also unpacks what the file has packed.
        allow_pickle: see ``open_checkpoint``.

    Raises:
        CheckpointError: the input is no whole part of a model.
        UsageError, CapabilityError: it cannot be written like that.
        NoSpaceError: the output is there already, or cannot be written.
    """
    _check(output, quantization, overwrite)
    source = open_checkpoint(*paths, allow_pickle=allow_pickle)
    if adapter is not None:
        source = combine(source, open_checkpoint(adapter, part=Part.ADAPTER, allow_pickle=allow_pickle))
    if quantization is not Quantization.DISABLED and source.part not in _TRANSFORMERS:
        raise UsageError(
            f"{source.title} is a {source.part}; a quantisation is for transformers. Give --precision instead."
        )
    keep = _Keep(source, quantization, DTYPES.get(precision))
    names, count = list(source.weights), 0
    room = [stored for name in names for stored in (name, f"{name}_scale")]
    with TensorWriter(output, room, _metadata(source)) as file:
        for index, name in enumerate(names):
            for stored, tensor in keep.stored(name):
                file.add(stored, tensor)
                count += 1
            if progress:
                progress(name, index, len(names))
        size = file.size
    return Converted(output, str(source.part), source.dialect, source.precision, count, size, source.notes)


@dataclass(frozen=True, slots=True, eq=False)
class _Keep:
    """How each weight is kept."""

    source: Checkpoint
    quantization: Quantization
    dtype: torch.dtype | None

    def stored(self, name: str) -> Iterator[tuple[str, Tensor]]:
        """The tensors that stand for a weight, by the names they have in the file."""
        value = self.source.weights[name]
        if self.quantization is not Quantization.DISABLED:
            value = Policy(self.quantization, FORMATS[self.quantization]).store(name, value, self.dtype)
        elif isinstance(value, Packed) and self.dtype is not None:
            value = value.unpack(self.dtype)
        if isinstance(value, Packed):
            yield from self._packed(name, value)
        else:
            yield name, self._plain(name, value)

    def _packed(self, name: str, value: Packed) -> Iterator[tuple[str, Tensor]]:
        parts = set(value.parts)
        if not parts <= {"data", "scale"} or value.parts["data"].shape != value.shape:
            raise CapabilityError(
                f"The weight {name} is kept as {value.format.name}, which has no form for safetensors that others "
                f"read. Choose --quantization {' or '.join(STORED[1:])}, or unpack it with --precision bf16."
            )
        yield name, value.parts["data"]
        if "scale" in parts:
            scale = value.parts["scale"].float().reshape(-1, 1)
            yield f"{name}_scale", scale.expand(value.shape[0], 1)

    def _plain(self, name: str, value: Tensor) -> Tensor:
        if not value.is_floating_point() or value.itemsize == 1:
            return value
        kept = value if self.dtype is None else value.to(self.dtype)
        if kept.numel() and not bool(torch.isfinite(kept.aminmax().max - kept.aminmax().min)):
            if bool(torch.isfinite(value).all()):
                raise CapabilityError(
                    f"The weight {name} is too large for {str(self.dtype).removeprefix('torch.')}. Choose bf16."
                )
            raise CheckpointError(
                f"The weight {name} holds NaN or infinity, so the file is damaged. Download it again.",
                code="checkpoint_corrupt",
            )
        return kept


def _check(output: Path, quantization: Quantization, overwrite: bool) -> None:
    if output.suffix != ".safetensors":
        raise UsageError(f"{output} should end in .safetensors: that is what is written.")
    if quantization not in STORED:
        raise UsageError(
            f"{quantization} is no form for files: it is made from them at load with --quantization. Files can have "
            f"{', '.join(STORED[1:])}."
        )
    if output.exists() and not overwrite:
        raise NoSpaceError(f"{output} exists already; --force replaces it.", code="output_exists")
    if not output.absolute().parent.is_dir():
        raise NoSpaceError(
            f"The folder {output.absolute().parent} does not exist; make it or choose another."
        )


def _metadata(source: Checkpoint) -> dict[str, str]:
    """Where it is from, and the sizes, which shapes alone do not always tell."""
    about = {"format": "pt", "writer": f"infinite-talk {__version__}", "source": source.title}
    if source.part in _TRANSFORMERS and dataclasses.is_dataclass(source.config):
        about["config"] = json.dumps(dataclasses.asdict(source.config))  # type: ignore[arg-type]
    return about
