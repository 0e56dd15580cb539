"""Opening a model file that anybody published: which part it is, in which dialect, its sizes, its weights.

What a file is follows from the names and shapes in it, never from its own name. Opening reads headers only
and is strict: each of our names is there and nothing is left over, but for what a dialect is known to add.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from torch import Tensor

from infinite_talk.errors import CheckpointError
from infinite_talk.models.dit import DiTConfig
from infinite_talk.models.dit import keys as transformer_keys
from infinite_talk.models.keymap import choose
from infinite_talk.ops.linear import Packed
from infinite_talk.weights.packing import Unpacked
from infinite_talk.weights.reader import shapes_of
from infinite_talk.weights.sources import Tensors, open_tensors

Weights = Mapping[str, Tensor | Packed]


class Part(StrEnum):
    """What a file can be."""

    TRANSFORMER = "transformer"
    """Wan2.1 image-to-video, with or without the speech branch."""
    ADAPTER = "adapter"
    """The speech branch alone: InfiniteTalk or MultiTalk."""
    VAE = "vae"
    TINY_VAE = "tiny_vae"
    TEXT = "text"
    VISION = "vision"
    SPEECH = "speech"
    LORA = "lora"


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """One part of a model, ready to be built."""

    part: Part
    dialect: str
    """Whose names and packing: ``official``, ``kijai``, ``comfy``, ``diffusers``, ``lightx2v``, ``quanto``, ..."""
    precision: str
    """For people, e.g. ``fp8_e4m3fn scaled``."""
    files: tuple[Path, ...]
    config: Any
    """Sizes, of the part's own class (``DiTConfig``, ``VAEConfig``, ...)."""
    weights: Weights
    """Under our names, read one by one; ``weights.shapes`` reads nothing."""
    notes: tuple[str, ...] = ()

    @property
    def has_speech(self) -> bool:
        """Whether the speech branch is there (of a transformer or an adapter)."""
        return any(transformer_keys.is_speech_key(name) for name in self.weights)

    @property
    def title(self) -> str:
        """The file's name, or that of the folder of several."""
        return _title(self.files)


def open_checkpoint(*paths: Path, part: Part | None = None, allow_pickle: bool = False) -> Checkpoint:
    """Open the files of one part of a model; headers only.

    Args:
        paths: a file, a folder of shards, or several files that are one part together.
        part: what it has to be; ``None``: whatever it is.
        allow_pickle: open PyTorch's own files on a torch that cannot do so safely.

    Raises:
        CheckpointError: not whole, of no known model, or of another part than asked for.
    """
    source = open_tensors(*paths, allow_pickle=allow_pickle)
    title = _title(source.paths)
    weights = Unpacked(source, title)
    found = part_of(weights.shapes)
    if found is None or (part is not None and found is not part):
        raise _not_this(title, found, part, weights.shapes)
    if reason := transformer_keys.refusal(weights.shapes):
        raise CheckpointError(f"{title}: {reason}. Choose another file.", code="checkpoint_mismatch")
    config = transformer_keys.config_of(weights.shapes, _config_beside(source))
    mapping = choose(transformer_keys.dialects(config), weights)
    ours = mapping.read(weights, title)
    return Checkpoint(
        part=found,
        dialect=_dialect(source, weights, mapping.dialect),
        precision=precision_of(source, weights),
        files=source.paths,
        config=config,
        weights=ours,
        notes=_notes(source, weights),
    )


def part_of(shapes: Mapping[str, tuple[int, ...]]) -> Part | None:
    """What the names of a file belong to; ``None``: to nothing that is known."""
    what = transformer_keys.what_for(shapes)
    return None if what is None else Part(what)


def combine(base: Checkpoint, adapter: Checkpoint) -> Checkpoint:
    """A whole transformer: Wan2.1 and the speech branch of a second file. Precisions and kinds may differ.

    Raises:
        CheckpointError: one is another part, or their sizes do not fit.
    """
    for checkpoint, part in ((base, Part.TRANSFORMER), (adapter, Part.ADAPTER)):
        if checkpoint.part is not part:
            raise CheckpointError(
                f"{checkpoint.title} is a {checkpoint.part}, expected a {part}. Give Wan2.1 as the transformer and "
                "InfiniteTalk or MultiTalk as the adapter.",
                code="checkpoint_mismatch",
            )
    sizes, speech = base.config, adapter.config
    if (sizes.dim, sizes.num_layers) != (speech.dim, speech.num_layers):
        raise CheckpointError(
            f"{adapter.title} is for a transformer of {speech.num_layers} layers of width {speech.dim}, "
            f"{base.title} has {sizes.num_layers} of width {sizes.dim}. Take the two for the same model.",
            code="checkpoint_mismatch",
        )
    notes = (*base.notes, *adapter.notes)
    if base.has_speech:
        notes = (*notes, f"the speech branch of {adapter.title} takes the place of that in {base.title}")
    same = base.dialect == adapter.dialect, base.precision == adapter.precision
    return Checkpoint(
        part=Part.TRANSFORMER,
        dialect=base.dialect if same[0] else f"{base.dialect} + {adapter.dialect}",
        precision=base.precision if same[1] else f"{base.precision} + {adapter.precision}",
        files=(*base.files, *adapter.files),
        config=replace(sizes, **{name: getattr(speech, name) for name in _SPEECH_SIZES}),
        weights=_Joined(base.weights, adapter.weights),
        notes=notes,
    )


_SPEECH_SIZES = (
    "audio_window",
    "audio_blocks",
    "audio_channels",
    "intermediate_dim",
    "context_tokens",
    "output_dim",
    "vae_scale",
)


def whole(transformer: Checkpoint, adapter: Checkpoint | None = None) -> Checkpoint:
    """The transformer with its speech branch.

    Raises:
        CheckpointError: there is none, or what was given as the transformer is the speech branch alone.
    """
    if transformer.part is Part.ADAPTER:
        raise CheckpointError(
            f"{transformer.title} is a speech branch alone. Give it as the adapter, and as the transformer a "
            "Wan2.1 image-to-video model of 14B.",
            code="checkpoint_incomplete",
        )
    if adapter is not None:
        return combine(transformer, adapter)
    if not transformer.has_speech:
        raise CheckpointError(
            f"{transformer.title} is Wan2.1 without a speech branch. Add infinitetalk.safetensors (or "
            "MultiTalk, in any precision) as the adapter.",
            code="checkpoint_incomplete",
        )
    return transformer


class _Joined(Mapping[str, Tensor | Packed]):
    """Two sets of weights as one; the second overrides the first."""

    def __init__(self, first: Weights, second: Weights) -> None:
        self._first, self._second = first, second
        self.shapes = {**shapes_of(first), **shapes_of(second)}

    def __getitem__(self, name: str) -> Tensor | Packed:
        return self._second[name] if name in self._second else self._first[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


_WORDS = {
    "F32": "fp32",
    "F16": "fp16",
    "BF16": "bf16",
    "F64": "fp64",
    "F8_E4M3": "fp8_e4m3fn",
    "F8_E5M2": "fp8_e5m2",
    "I8": "int8",
    "U8": "nvfp4",
}
"""What people call the dtypes of weights."""


def precision_of(source: Tensors, weights: Unpacked) -> str:
    """The dtype that holds most bytes, e.g. ``bf16``, ``fp8_e4m3fn scaled``, ``gguf Q4_K``."""
    sizes: dict[str, int] = {}
    for name, size in source.sizes.items():
        sizes[source.dtypes[name]] = sizes.get(source.dtypes[name], 0) + size
    most = max(sizes, key=lambda dtype: sizes[dtype], default="")
    word = f"gguf {most}" if "gguf" in source.kinds else _WORDS.get(most, most)
    return f"{word} scaled" if word.startswith("fp8") and weights.packed else word


def _dialect(source: Tensors, weights: Unpacked, names: str) -> str:
    """The name of the dialect: of the container or the packing where these are somebody's own, else of the names."""
    if "gguf" in source.kinds:
        return "gguf"
    packing = weights.dialects
    if packing:
        return {"scaled": "comfy", "nvfp4": "comfy"}.get(packing[0], packing[0])
    return names


def _notes(source: Tensors, weights: Unpacked) -> tuple[str, ...]:
    notes = []
    if aside := weights.passed_over:
        some = ", ".join(aside[:3]) + (", ..." if len(aside) > 3 else "")
        notes.append(f"{len(aside)} tensors that hold no weight passed over: {some}")
    if "pickle" in source.kinds:
        notes.append("a PyTorch pickle, read with torch's reader for tensors only; safetensors load faster")
    return tuple(notes)


def _config_beside(source: Tensors) -> DiTConfig | None:
    """The sizes in the file's own metadata (``config``), or in a ``config.json`` in its folder."""
    text = source.metadata.get("config")
    beside = source.paths[0].parent / "config.json"
    if text is None and beside.is_file():
        text = beside.read_text(encoding="utf-8", errors="replace")
    try:
        values = json.loads(text) if text else None
    except ValueError:
        return None
    if not isinstance(values, dict):
        return None
    if "num_attention_heads" in values and "attention_head_dim" in values:  # diffusers
        heads = int(values["num_attention_heads"])
        return DiTConfig(num_heads=heads, dim=heads * int(values["attention_head_dim"]))
    return DiTConfig.from_json(values) if {"num_heads", "dim"} <= set(values) else None


def _not_this(
    title: str, found: Part | None, part: Part | None, shapes: Mapping[str, tuple[int, ...]]
) -> CheckpointError:
    if found is None:
        some = ", ".join(list(shapes)[:3])
        return CheckpointError(
            f"{title} is no model that is known here ({len(shapes)} tensors: {some}, ...). Expected are Wan2.1 image-"
            "to-video, InfiniteTalk or MultiTalk, and their codec and encoders.",
            code="checkpoint_unknown",
        )
    return CheckpointError(
        f"{title} is a {found}, expected a {part}. Choose another file.", code="checkpoint_mismatch"
    )


def _title(paths: tuple[Path, ...]) -> str:
    return paths[0].name if len(paths) == 1 else f"{paths[0].parent.name} ({len(paths)} files)"
