"""Models of full size with random weights, made on the device when they are asked for; nothing is read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from torch import Tensor, nn

from infinite_talk.memory.published import WAN_VAE
from infinite_talk.memory.sizes import Shape
from infinite_talk.models.dit import DiTConfig, WanTransformer
from infinite_talk.models.speech import SpeechConfig, SpeechEncoder
from infinite_talk.models.text import TextConfig, TextEncoder
from infinite_talk.models.vae import VAEConfig, VideoVAE
from infinite_talk.models.vision import ImageEncoder, VisionConfig
from infinite_talk.ops.linear import Packed
from infinite_talk.presets import OFFICIAL
from infinite_talk.weights.checkpoint import Checkpoint, Part
from infinite_talk.weights.model import Model


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of the five models; the defaults are the published ones."""

    transformer: DiTConfig = field(default_factory=DiTConfig)
    vae: VAEConfig = WAN_VAE
    text: TextConfig = field(default_factory=lambda: TextConfig(256_384, 4096, 4096, 10_240, 64, 24))
    vision: VisionConfig = field(default_factory=VisionConfig)
    speech: SpeechConfig = field(default_factory=SpeechConfig)


class RandomWeights(Mapping[str, Tensor | Packed]):
    """Weights by name, each made anew when it is asked for; the same name and seed give the same numbers.

    Matrices and kernels are normal with the variance 1 / inputs, so that every layer keeps about the size of what it
    is given; biases are 0 and the gains of norms 1.
    """

    def __init__(
        self, shapes: Mapping[str, Shape], dtype: torch.dtype, device: torch.device, seed: int = 0
    ) -> None:
        self.shapes = dict(shapes)
        self._dtype, self._device, self._seed = dtype, device, seed

    def __getitem__(self, name: str) -> Tensor:
        shape = self.shapes[name]
        if name.endswith("bias"):
            return torch.zeros(shape, dtype=self._dtype, device=self._device)
        if len(shape) < 2 or "gamma" in name:
            return torch.ones(shape, dtype=self._dtype, device=self._device)
        generator = torch.Generator(self._device).manual_seed(crc32(f"{self._seed} {name}".encode()))
        made = torch.empty(shape, dtype=self._dtype, device=self._device)
        return made.normal_(std=prod(shape[1:]) ** -0.5, generator=generator)

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


def random_model(sizes: Sizes, dtype: torch.dtype, device: torch.device, *, seed: int = 0) -> Model:
    """The published model with random weights.

    Args:
        dtype: in which the transformer's weights are made; the others are made in float32, the text encoder in
            bfloat16.
    """
    made: dict[Part, tuple[Any, Callable[[], nn.Module], torch.dtype]] = {
        Part.TRANSFORMER: (sizes.transformer, lambda: WanTransformer(sizes.transformer), dtype),
        Part.VAE: (sizes.vae, lambda: VideoVAE(sizes.vae), torch.float32),
        Part.TEXT: (sizes.text, lambda: TextEncoder(sizes.text, tokenizer=OneWord()), torch.bfloat16),
        Part.VISION: (sizes.vision, lambda: ImageEncoder(sizes.vision), torch.float32),
        Part.SPEECH: (sizes.speech, lambda: SpeechEncoder(sizes.speech), torch.float32),
    }
    parts = {
        part: random_part(part, config, make, own, device, seed, dialect="official")
        for part, (config, make, own) in made.items()
    }
    return Model(
        name="random-14b",
        version="random",
        defaults=OFFICIAL,
        identity={"name": "random-14b", "version": "random", "fingerprint": f"seed {seed}"},
        parts=parts,
    )


def randomised(model: Model, config: DiTConfig, dtype: torch.dtype, device: torch.device, seed: int) -> Model:
    """An opened model whose transformer has other sizes and random weights."""
    dialect = model.parts[Part.TRANSFORMER].dialect
    part = random_part(
        Part.TRANSFORMER, config, lambda: WanTransformer(config), dtype, device, seed, dialect=dialect
    )
    return replace(model, parts={**model.parts, Part.TRANSFORMER: part}, loras=())


def random_part(
    part: Part,
    config: Any,  # noqa: ANN401 - as in Checkpoint
    make: Callable[[], nn.Module],
    dtype: torch.dtype,
    device: torch.device,
    seed: int,
    *,
    dialect: str,
) -> Checkpoint:
    """One model with random weights under our names."""
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in make().state_dict().items()}
    weights = RandomWeights(shapes, dtype, device, seed)
    return Checkpoint(
        part=part, dialect=dialect, precision="random", files=(), config=config, weights=weights
    )


def write_tokenizer(folder: Path, pieces: int) -> Path:
    """A tokenizer of as many made-up words as an encoder knows, with UMT5's end mark; ``folder`` is made."""
    folder.mkdir(parents=True, exist_ok=True)
    words = {word: i for i, word in enumerate(("<pad>", "</s>", "<unk>"))}
    words |= {f"word{i}": i for i in range(len(words), pieces)}
    end = {"id": "</s>", "ids": [1], "tokens": ["</s>"]}
    template = {
        "type": "TemplateProcessing",
        "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"</s>": end},
    }
    described: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": template,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": words, "unk_token": "<unk>"},
    }
    (folder / "tokenizer.json").write_text(json.dumps(described), "utf-8")
    return folder


class OneWord:
    """Stands in for a tokenizer where only shapes matter."""

    def __call__(self, text: str) -> list[int]:  # noqa: ARG002
        """The end mark."""
        return [1]
