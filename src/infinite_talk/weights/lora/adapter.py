"""``Adapter``: a LoRA file, its additions by the names of our weights; opened, checked, not yet read."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from infinite_talk.errors import CheckpointError
from infinite_talk.request import Compat
from infinite_talk.settings import LoRA
from infinite_talk.weights.builder import listed
from infinite_talk.weights.lora.deltas import (
    PATCHES,
    PLAIN,
    Decomposed,
    Delta,
    Parts,
    Scaling,
    Shape,
    deltas_of,
    fits,
)
from infinite_talk.weights.lora.names import Kind, origin, split, unsupported
from infinite_talk.weights.reader import Renamed, TensorFiles, shapes_of

_PAIRS = ((Kind.UP, Kind.DOWN), (Kind.B, Kind.A))
_WIDTHS = {1536: "Wan2.1 1.3B", 3072: "Wan2.2 5B", 5120: "Wan 14B"}


@dataclass(frozen=True, slots=True)
class Addition:
    """What an adapter adds to one parameter, and the keys it is written under."""

    delta: Delta
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """One LoRA with its strength. Names and shapes are known, tensors are read when they are needed."""

    source: str
    """What to call it in a message: the file's name."""
    additions: Mapping[str, tuple[Addition, ...]]
    """By our name of the parameter, whether a model has it or not."""
    unknown: tuple[str, ...] = ()
    """Keys that no addition is made of."""
    strength: float | tuple[float, ...] = 1.0
    """One number, or one for each denoising step, of which the last holds on. Not all the same."""
    merge: bool = True
    """Whether it is to be added to the weights at load. Never with a strength per step."""

    @property
    def touches(self) -> tuple[str, ...]:
        """The parameters that it changes."""
        return tuple(self.additions)

    @property
    def off(self) -> bool:
        """Whether it changes nothing."""
        return self.strength == 0.0

    def strength_at(self, step: int) -> float:
        """The strength at a denoising step."""
        if isinstance(self.strength, float):
            return self.strength
        return self.strength[min(step, len(self.strength) - 1)]

    def only(self, names: Iterable[str]) -> Adapter:
        """The part of it that concerns these parameters, for run time."""
        there = {name: self.additions[name] for name in names if name in self.additions}
        return replace(self, additions=there, merge=False)

    def narrowed(self, blocks: tuple[int, ...] | None, without: tuple[str, ...]) -> Adapter:
        """What of it acts on these blocks (``None``: all) and on no weight with one of ``without`` in its name."""

        def acts(name: str) -> bool:
            inside = name.startswith("blocks.")
            chosen = blocks is None or not inside or int(name.split(".", 2)[1]) in blocks
            return chosen and not any(part in name for part in without)

        if blocks is None and not without:
            return self
        return replace(self, additions={n: found for n, found in self.additions.items() if acts(n)})

    def must_merge(self, name: str) -> bool:
        """Whether what it adds to a parameter depends on the parameter, as a DoRA does."""
        return any(isinstance(addition.delta, Decomposed) for addition in self.additions.get(name, ()))

    def check(self, shapes: Mapping[str, Shape]) -> None:
        """Compare with the shapes of a model's parameters, by our names.

        Raises:
            CheckpointError: a key is not understood, or has no parameter or one of another shape.
        """
        missing = [
            key
            for name, additions in self.additions.items()
            if name not in shapes
            for addition in additions
            for key in addition.keys
        ]
        if self.unknown or missing:
            raise _without_target(self.source, [*missing, *self.unknown])
        if not self.additions:
            raise CheckpointError(
                f"{self.source} holds no update of any weight; is it a LoRA file?", code="lora_mismatch"
            )
        latent = _latent_channels(shapes)
        wrong = [
            f"{addition.keys[0]}: {_described(addition.delta)} into {tuple(shapes[name])}"
            for name, additions in self.additions.items()
            for addition in additions
            if not fits(name, addition.delta.shape, tuple(shapes[name]), latent)
        ]
        if wrong:
            raise CheckpointError(
                f"{self.source} does not fit this model: {listed('updates of another shape', wrong)}. "
                f"{self._size(shapes)}",
                code="lora_mismatch",
            )

    def notes(self, shapes: Mapping[str, Shape]) -> tuple[str, ...]:
        """Remarks for people on how it meets a model that it fits."""
        latent = {
            addition.delta.shape[1]
            for addition in self.additions.get(PATCHES, ())
            if addition.delta.shape
            and PATCHES in shapes
            and len(addition.delta.shape) == len(shapes[PATCHES])
        }
        return tuple(
            f"{self.source} was made for text-to-video: it changes the first {channels} of the "
            f"{shapes[PATCHES][1]} channels of the patch embedding, those of the noisy latent."
            for channels in sorted(latent)
            if channels < shapes[PATCHES][1]
        )

    def _size(self, shapes: Mapping[str, Shape]) -> str:
        """What model it was made for, if the width tells."""
        query = "blocks.0.self_attn.q.weight"
        own = {addition.delta.shape for addition in self.additions.get(query, ())} - {None}
        if query in shapes and own and (width := min(filter(None, own))[0]) != shapes[query][0]:
            kind = f" ({_WIDTHS[width]})" if width in _WIDTHS else ""
            return (
                f"It was made for a model of width {width}{kind}, this one has {shapes[query][0]}; take one for "
                "this size."
            )
        return "It was made for another model, or the file is damaged."


def open_lora(lora: LoRA, *, compat: Compat = Compat.FIXED, without: Collection[str] = ()) -> Adapter:
    """Open a LoRA file, or a folder of PEFT; names and shapes are read, and nothing else.

    Args:
        without: keys that are no part of the LoRA but of a network that comes with it (``weights/adapters.py``).

    Raises:
        CheckpointError: the file is missing or damaged, or its scaling cannot be computed.
    """
    files = TensorFiles(lora.path)
    strength: float | tuple[float, ...]
    if isinstance(lora.strength, tuple):
        strength = lora.strength if len(set(lora.strength)) > 1 else lora.strength[0]
    else:
        strength = lora.strength
    adapter = read_adapter(
        Renamed(files, {key: key for key in files if key not in without}) if without else files,
        source=lora.path.name,
        strength=strength if isinstance(strength, tuple) else float(strength),
        merge=lora.merge and not isinstance(strength, tuple),
        scaling=scaling_of(files.metadata, _peft_config(lora.path), lora.path.name, compat),
    )
    return adapter.narrowed(lora.blocks, lora.without)


def read_adapter(
    tensors: Mapping[str, Tensor],
    *,
    source: str = "the LoRA",
    strength: float | tuple[float, ...] = 1.0,
    merge: bool = True,
    scaling: Scaling = PLAIN,
) -> Adapter:
    """The adapter in a file's tensors."""
    shapes = shapes_of(tensors)
    modules: dict[str, dict[Kind, str]] = {}
    unknown = []
    for key in tensors:
        found = split(key)
        if found is None or found[1] in modules.setdefault(found[0], {}):
            unknown.append(key)  # or a second tensor for the same purpose
        else:
            modules[found[0]][found[1]] = key
    # The published program reads pairs of one spelling only, without a word about the others.
    pairs = _PAIRS[:1] if scaling.ignored else _PAIRS
    additions: dict[str, list[Addition]] = {}
    for module, keys in modules.items():
        parts = Parts(tensors, keys, {kind: shapes[key] for kind, key in keys.items()}, scaling)
        deltas = deltas_of(module, parts, pairs)
        for name, delta in deltas:
            additions.setdefault(name, []).append(Addition(delta, tuple(keys[k] for k in delta.kinds)))
        unknown.extend(_unused(keys, [delta for _, delta in deltas], scaling))
    return Adapter(
        source, {name: tuple(found) for name, found in additions.items()}, tuple(unknown), strength, merge
    )


def scaling_of(
    metadata: Mapping[str, str], config: Mapping[str, Any] | None, source: str, compat: Compat = Compat.FIXED
) -> Scaling:
    """How ``alpha`` counts, from what the file says about itself, or PEFT in the file beside it.

    Diffusers keeps PEFT's configuration in the metadata as ``lora_adapter_metadata``, LyCORIS its choices as
    ``ss_network_args``.

    Raises:
        CheckpointError: layers have an alpha of their own, by patterns that only PEFT resolves.
    """
    if compat is Compat.OFFICIAL:
        return Scaling(ignored=True)
    said = {
        key.rpartition(".")[2]: value for key, value in _json(metadata.get("lora_adapter_metadata")).items()
    }
    said |= config or {}
    if said.get("alpha_pattern"):
        raise CheckpointError(
            f"{source} gives some layers an alpha of their own (alpha_pattern), which is not supported. Save it "
            "with one alpha, or in a format that keeps an alpha beside each layer.",
            code="lora_mismatch",
        )
    root = said.get("use_rslora") or _json(metadata.get("ss_network_args")).get("rs_lora")
    alpha = said.get("lora_alpha")
    return Scaling(float(alpha) if alpha is not None else None, root=str(root).lower() == "true")


def _peft_config(path: Path) -> dict[str, Any] | None:
    """The configuration beside the weights that PEFT saves."""
    folder = path if path.is_dir() else path.parent if path.stem == "adapter_model" else None
    file = folder / "adapter_config.json" if folder else None
    return _json(file.read_text(errors="replace")) if file and file.is_file() else None


def _json(text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _unused(keys: Mapping[Kind, str], deltas: Iterable[Delta], scaling: Scaling) -> list[str]:
    """Tensors of a layer that no addition is made of."""
    used = {kind for delta in deltas for kind in delta.kinds}
    if used or scaling.ignored:
        used.add(Kind.ALPHA)
    if scaling.ignored:
        used |= {Kind.A, Kind.B}
    return [key for kind, key in keys.items() if kind not in used]


def _without_target(source: str, keys: list[str]) -> CheckpointError:
    """The error for keys that fit nothing, with what it may be about."""
    if kind := unsupported(keys):
        advice = f"It is {kind}, which is not supported; LoRA, LoHa, LoKr, DoRA and plain differences are."
    elif made := origin(keys):
        advice = f"It is {made}; take one for Wan2.1 image-to-video or text-to-video 14B."
    else:
        advice = "It was made for another model or written in a form that is not supported."
    return CheckpointError(
        f"{source} does not fit this model: {listed('keys without a target', keys)}. {advice}",
        code="lora_mismatch",
    )


def _described(delta: Delta) -> str:
    return "tensors that do not fit each other" if delta.shape is None else str(delta.shape)


def _latent_channels(shapes: Mapping[str, Shape]) -> int:
    """Channels of the noisy latent: what the head gives for each place of a patch. 0 if there is no head."""
    if PATCHES not in shapes or "head.head.weight" not in shapes:
        return 0
    return shapes["head.head.weight"][0] // math.prod(shapes[PATCHES][2:])
