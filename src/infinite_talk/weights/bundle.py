"""A bundle: one folder with all five models, their sizes and defaults; loaded strictly, saved by training.

The layout is described in ``manifest.py``. Weights are safetensors in float32, float16, or 8-bit integers
with a scale per row (``quanto.py``), whole again when loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from infinite_talk.errors import CheckpointError
from infinite_talk.models.dit import DiTConfig, WanTransformer
from infinite_talk.models.keymap import KeyMap
from infinite_talk.models.speech import SpeechConfig, SpeechEncoder
from infinite_talk.models.speech import keys as speech_keys
from infinite_talk.models.text import TextConfig, TextEncoder
from infinite_talk.models.text import keys as text_keys
from infinite_talk.models.vae import VAEConfig, VideoVAE
from infinite_talk.models.vision import ImageEncoder, VisionConfig
from infinite_talk.models.vision import keys as vision_keys
from infinite_talk.presets import Defaults
from infinite_talk.rooms import Rooms
from infinite_talk.weights.builder import build
from infinite_talk.weights.checkpoint import Checkpoint
from infinite_talk.weights.checkpoint import Part as ModelPart
from infinite_talk.weights.manifest import (
    Manifest,
    Part,
    read_manifest,
    sha256_of,
    verify,
    write_manifest,
)
from infinite_talk.weights.quanto import Dequantised, quantise_int8
from infinite_talk.weights.reader import TensorFiles

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Kind:
    """How one of the five models is made from its configuration, and found in a file."""

    config: Callable[[Mapping[str, Any]], Any]
    model: Callable[[Any], nn.Module]
    keys: Callable[[Any, Tensors], KeyMap] | None = None  # None: the published names are the module's own


KINDS = {
    "transformer": Kind(DiTConfig.from_json, WanTransformer),
    "vae": Kind(VAEConfig.from_json, VideoVAE),
    "text": Kind(TextConfig.from_json, TextEncoder, text_keys.key_map),
    "vision": Kind(VisionConfig.from_json, ImageEncoder, vision_keys.key_map),
    "speech": Kind(SpeechConfig.from_json, SpeechEncoder, speech_keys.key_map),
}


class Store(StrEnum):
    """How weights are kept on disk."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"
    """Matrices and convolutions in 8 bits, the rest in float16."""


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """One model to be saved: its configuration as JSON, and its weights under any published names."""

    config: Mapping[str, Any]
    weights: Tensors
    store: Store = Store.FP16


def load_bundle(folder: Path, device: torch.device, dtype: torch.dtype) -> Rooms:
    """Load the model of a folder.

    Args:
        device: where all five models go.
        dtype: of the transformer; the others are small and run in float32.

    Raises:
        CheckpointError: the folder is no complete model, or a file is damaged or does not fit its
            configuration.
    """
    manifest = read_manifest(folder)
    verify(manifest)
    models: dict[str, Any] = {
        name: _load(manifest, name, device, dtype if name == "transformer" else torch.float32)
        for name in manifest.parts
    }
    return Rooms(
        **models,
        defaults=manifest.defaults,
        device=device,
        dtype=dtype,
        name=manifest.name,
        version=manifest.version,
    )


def load_speech(folder: Path, device: torch.device, dtype: torch.dtype) -> SpeechEncoder:
    """Load the speech encoder alone, for who only listens.

    Raises:
        CheckpointError: as ``load_bundle``, for the one file that is read.
    """
    manifest = read_manifest(folder)
    verify(manifest, (manifest.parts["speech"].file,))
    encoder = _load(manifest, "speech", device, dtype)
    assert isinstance(encoder, SpeechEncoder)
    return encoder


def save_bundle(
    folder: Path, *, name: str, version: str, parts: Mapping[str, Trained], defaults: Defaults
) -> Manifest:
    """Write five trained models as a bundle that ``load_bundle`` reads. ``parts``: keys of
    ``manifest.PARTS``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    manifest = Manifest(
        folder=folder,
        name=name,
        version=version,
        parts={part: Part(trained.config, f"{part}.safetensors") for part, trained in parts.items()},
        defaults=defaults,
        sha256={},
    )
    for part, trained in parts.items():
        save_file(stored(trained), manifest.path(manifest.parts[part].file))
    checksums = {part.file: sha256_of(manifest.path(part.file)) for part in manifest.parts.values()}
    manifest = replace(manifest, sha256=checksums)
    write_manifest(manifest)
    return manifest


def stored(trained: Trained) -> dict[str, torch.Tensor]:
    """The tensors of a model as they go to disk."""
    tensors = {name: tensor.detach().cpu() for name, tensor in trained.weights.items()}
    if trained.store is Store.INT8:
        tensors, _ = quantise_int8(tensors, is_wide)
    dtype = torch.float32 if trained.store is Store.FP32 else torch.float16

    def shrunk(name: str, tensor: torch.Tensor) -> torch.Tensor:
        # Scales multiply whole rows and can be smaller than float16 goes.
        keep = name.endswith("._scale") or not tensor.is_floating_point()
        return (tensor if keep else tensor.to(dtype)).contiguous().clone()

    return {name: shrunk(name, tensor) for name, tensor in tensors.items()}


def is_wide(name: str, tensor: torch.Tensor) -> bool:
    """The weight of a linear or convolutional layer inside a model: what is worth 8 bits.

    What first meets the latent stays finer: all that follows sees its rounding.
    """
    return name.endswith(".weight") and tensor.dim() > 1 and not name.startswith("patch_embedding")


def open_part(manifest: Manifest, name: str) -> Checkpoint:
    """One of the models of a bundle, whole weights again; ``name`` as in ``manifest.PARTS``.

    Raises:
        CheckpointError: its configuration makes no sense, or its weights do not fit it.
    """
    kind, part = KINDS[name], manifest.parts[name]
    path = manifest.path(part.file)
    try:
        config = kind.config(part.config)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"The configuration of the {name} model in {manifest.folder} makes no sense ({error}); get the "
            "model again."
        ) from error
    weights: Tensors = Dequantised(TensorFiles(path), source=path.name)
    if kind.keys is not None:
        weights = kind.keys(config, weights).read(weights)
    return Checkpoint(
        part=ModelPart(name), dialect="bundle", precision="", files=(path,), config=config, weights=weights
    )


def _load(manifest: Manifest, name: str, device: torch.device, dtype: torch.dtype) -> nn.Module:
    opened = open_part(manifest, name)
    return build(
        lambda: KINDS[name].model(opened.config),
        opened.weights,
        dtype=dtype,
        device=device,
        source=opened.title,
    )
