"""Opening a model file that anybody published: which part it is, in which dialect, its sizes, its weights.

What a file is follows from the names and shapes in it, never from its own name. Opening reads headers only
and is strict: each of our names is there and nothing is left over, but for what a dialect is known to add.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from infinite_talk.errors import CheckpointError
from infinite_talk.models.dit.keys import is_speech_key
from infinite_talk.models.keymap import choose
from infinite_talk.ops.linear import Packed
from infinite_talk.weights.inspection import (
    Identified,
    config_beside,
    dialect_of,
    identify,
    notes_on,
    open_weights,
    precision_of,
    title_of,
)
from infinite_talk.weights.parts import WORDS, Part, config_of, dialects, part_of, refusal
from infinite_talk.weights.reader import shapes_of
from infinite_talk.weights.sources import open_tensors

__all__ = ["Checkpoint", "Identified", "Part", "combine", "identify", "open_checkpoint", "whole"]

Weights = Mapping[str, Tensor | Packed]


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
        return any(is_speech_key(name) for name in self.weights)

    @property
    def title(self) -> str:
        """The file's name, or that of the folder of several."""
        return title_of(self.files)


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
    title = title_of(source.paths)
    weights = open_weights(source)
    found = part_of(weights.shapes)
    if reason := refusal(weights.shapes):
        raise CheckpointError(
            f"{title} cannot be used: {reason}. Choose another file.", code="checkpoint_mismatch"
        )
    if found is None or found is Part.LORA or (part is not None and found is not part):
        raise _not_this(title, found, part, weights.shapes)
    try:
        config = config_of(found, weights.shapes, source.paths, config_beside(source))
    except CheckpointError as error:
        raise CheckpointError(f"{title}: {error.message}", code=error.code) from error
    mapping = choose(dialects(found, config, weights), weights)
    return Checkpoint(
        part=found,
        dialect=dialect_of(source, weights, mapping.dialect),
        precision=precision_of(source, weights),
        files=source.paths,
        config=config,
        weights=mapping.read(weights, title),
        notes=notes_on(source, weights, mapping),
    )


def combine(base: Checkpoint, adapter: Checkpoint) -> Checkpoint:
    """A whole transformer: Wan2.1 and the speech branch of a second file. Precisions and kinds may differ.

    Raises:
        CheckpointError: one is another part, or their sizes do not fit.
    """
    for checkpoint, part in ((base, Part.TRANSFORMER), (adapter, Part.ADAPTER)):
        if checkpoint.part is not part:
            raise CheckpointError(
                f"{checkpoint.title} is a {WORDS[checkpoint.part]}, expected a {WORDS[part]}. Give "
                "Wan2.1 as the transformer and InfiniteTalk or MultiTalk as the adapter.",
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


def packed_sizes(weights: Weights) -> dict[str, int]:
    """Bytes of those weights that come packed, by our names; nothing is read."""
    return dict(getattr(weights, "packed_sizes", {}))


class _Joined(Mapping[str, Tensor | Packed]):
    """Two sets of weights as one; the second overrides the first."""

    def __init__(self, first: Weights, second: Weights) -> None:
        self._first, self._second = first, second
        self.shapes = {**shapes_of(first), **shapes_of(second)}

    @property
    def packed_sizes(self) -> dict[str, int]:
        """Bytes of the weights that come packed."""
        replaced = {n: size for n, size in packed_sizes(self._first).items() if n not in self._second}
        return replaced | packed_sizes(self._second)

    def __getitem__(self, name: str) -> Tensor | Packed:
        return self._second[name] if name in self._second else self._first[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


def _not_this(
    title: str, found: Part | None, part: Part | None, shapes: Mapping[str, tuple[int, ...]]
) -> CheckpointError:
    if found is None:
        some = ", ".join(list(shapes)[:3])
        return CheckpointError(
            f"{title} is no model that is known here ({len(shapes)} tensors: {some}, ...). Expected is "
            f"{'a ' + WORDS[part] if part else 'a part of Wan2.1 image-to-video or InfiniteTalk'}.",
            code="checkpoint_unknown",
        )
    expected = f"a {WORDS[part]}" if part else "a part of a model; give it with --lora"
    return CheckpointError(
        f"{title} is a {WORDS[found]}, expected {expected}. Choose another file.", code="checkpoint_mismatch"
    )
