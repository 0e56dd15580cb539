"""Opening the files of adapters (``models/adapters``): strictly, as the parts of the model itself."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from infinite_talk.errors import CheckpointError
from infinite_talk.models.adapters import (
    FantasyPortrait,
    FantasyTalking,
    Uni3C,
    UniAnimate,
    UniAnimateConfig,
    fantasy_portrait,
    fantasy_talking,
    uni3c,
    uni_animate,
)
from infinite_talk.models.keymap import KeyMap, choose
from infinite_talk.models.shapes import Shapes
from infinite_talk.ops.attention import AttentionCallable, sdpa
from infinite_talk.ops.linear import Format, Packed
from infinite_talk.ops.linear.float8 import PLAIN_E4M3FN, PLAIN_E5M2
from infinite_talk.settings import LoRA, Quantization
from infinite_talk.weights.builder import Store, build
from infinite_talk.weights.inspection import open_weights, title_of
from infinite_talk.weights.lora import Adapter, open_lora
from infinite_talk.weights.precision import AsStored
from infinite_talk.weights.reader import TensorFiles
from infinite_talk.weights.sources import open_tensors

M = TypeVar("M", bound=nn.Module)
Weights = Mapping[str, Tensor | Packed]


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a module of ``models/adapters`` knows of its file."""

    words: str
    recognises: Callable[[Shapes], bool]
    config_of: Callable[[Shapes], Any]
    dialects: Callable[[Any], tuple[KeyMap, ...]]


_POSES = _Kind("UniAnimate", uni_animate.recognises, uni_animate.config_of, uni_animate.dialects)
_GUIDE = _Kind("Uni3C", uni3c.recognises, uni3c.config_of, uni3c.dialects)
_SPEECH = _Kind(
    "FantasyTalking", fantasy_talking.recognises, fantasy_talking.config_of, fantasy_talking.dialects
)
_FACES = _Kind(
    "FantasyPortrait", fantasy_portrait.recognises, fantasy_portrait.config_of, fantasy_portrait.dialects
)
FORMATS: Mapping[Quantization, Format | None] = {
    Quantization.DISABLED: None,
    Quantization.FP8_E4M3FN: PLAIN_E4M3FN,
    Quantization.FP8_E5M2: PLAIN_E5M2,
}
"""How the weights of a guide adapter can be kept."""


def open_uni3c(
    path: Path,
    dtype: torch.dtype,
    *,
    quantization: Quantization = Quantization.DISABLED,
    device: torch.device | str = "cpu",
    attention: AttentionCallable = sdpa,
) -> Uni3C:
    """The guide adapter in a file.

    Raises:
        CheckpointError: not such a file, or weights are missing, unexpected or of another shape.
    """
    config, weights = _opened(_GUIDE, path)
    policy = _Matrices(FORMATS[quantization])
    made = build(lambda: Uni3C(config, attention), weights, dtype=dtype, device=device, policy=policy)
    # The first layer meets the noisy latent itself and stays in float32, as published.
    made.controlnet_patch_embedding.float()
    return made


def open_fantasy_talking(
    path: Path, dtype: torch.dtype, *, device: torch.device | str = "cpu"
) -> FantasyTalking:
    """The speech adapter in a file.

    Raises:
        CheckpointError: as of ``open_uni3c``.
    """
    config, weights = _opened(_SPEECH, path)
    return _built(lambda: FantasyTalking(config), weights, dtype, device, path)


def open_fantasy_portrait(
    path: Path, dtype: torch.dtype, *, device: torch.device | str = "cpu"
) -> FantasyPortrait:
    """The face adapter in a file.

    Raises:
        CheckpointError: as of ``open_uni3c``.
    """
    config, weights = _opened(_FACES, path)
    return _built(lambda: FantasyPortrait(config), weights, dtype, device, path)


def open_uni_animate(path: Path, dtype: torch.dtype, *, device: torch.device | str = "cpu") -> UniAnimate:
    """The pose adapter in a LoRA file; the LoRA itself is read by ``open_lora_beside``.

    Raises:
        CheckpointError: as of ``open_uni3c``.
    """
    config, weights = _opened(_POSES, path, only=pose_keys(path))
    return _built(lambda: UniAnimate(config), weights, dtype, device, path)


def pose_keys(path: Path) -> tuple[str, ...]:
    """The names of a pose adapter's weights in a LoRA file; none: it is a plain LoRA.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    return uni_animate.split(TensorFiles(path))[0]


def pose_config(path: Path) -> UniAnimateConfig | None:
    """The sizes of the pose adapter in a LoRA file, by the file's header alone; ``None``: it is a plain LoRA.

    Raises:
        CheckpointError: the file is missing or damaged, or does not tell the sizes.
    """
    shapes = TensorFiles(path).shapes
    return uni_animate.config_of(shapes) if uni_animate.recognises(shapes) else None


def open_lora_beside(lora: LoRA) -> Adapter:
    """A LoRA, without the pose adapter that its file may hold and that somebody else reads.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    return open_lora(lora, without=pose_keys(lora.path))


def _opened(kind: _Kind, path: Path, only: Collection[str] | None = None) -> tuple[Any, Weights]:
    """The sizes in a file, and its weights under our names."""
    source = open_tensors(path)
    title = title_of(source.paths)
    weights: Weights = open_weights(source)
    shapes: dict[str, tuple[int, ...]] = weights.shapes  # type: ignore[attr-defined]
    if only is not None:
        weights = {name: weights[name] for name in only}
        shapes = {name: shapes[name] for name in only}
    if not kind.recognises(shapes):
        some = ", ".join(list(shapes)[:3]) or "nothing"
        raise CheckpointError(
            f"{title} is not {kind.words} ({len(shapes)} tensors: {some}, ...). Choose its own file.",
            code="checkpoint_mismatch",
        )
    try:
        config = kind.config_of(shapes)
    except CheckpointError as error:
        raise CheckpointError(f"{title}: {error.message}", code=error.code) from error
    return config, choose(kind.dialects(config), shapes).read(weights, title)


def _built(
    make: Callable[[], M], weights: Weights, dtype: torch.dtype, device: torch.device | str, path: Path
) -> M:
    return build(make, weights, dtype=dtype, device=device, source=path.name, policy=AsStored())


@dataclass(frozen=True, slots=True)
class _Matrices(Store):
    """Keeps the large matrices of the blocks in a format; all else, and without a format everything, as it comes."""

    format: Format | None

    def store(self, name: str, value: Tensor | Packed, dtype: torch.dtype | None) -> Tensor | Packed:
        kept = AsStored().store(name, value, dtype)
        large = (".self_attn.to_" in name or ".ffn." in name or name.startswith("proj_out.")) and (
            len(kept.shape) == 2
        )
        if not large:
            return kept.unpack(dtype or torch.float32) if isinstance(kept, Packed) else kept
        if self.format is None or (isinstance(kept, Packed) and kept.format == self.format):
            return kept
        whole = kept.unpack(torch.float32) if isinstance(kept, Packed) else kept
        return Packed(self.format, (whole.shape[0], whole.shape[1]), self.format.pack(whole))
