"""A random checkpoint in the published layout, at full size or smaller: names, shapes and dtypes of the real files.

For measurements of loading, memory and speed where the real weights are not at hand. Pictures made with it are noise.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from infinite_talk.benchmarks.random_models import Sizes
from infinite_talk.models.dit import DiTConfig, WanTransformer
from infinite_talk.models.speech import SpeechEncoder
from infinite_talk.models.speech import keys as speech_keys
from infinite_talk.models.text import TextEncoder
from infinite_talk.models.text import keys as text_keys
from infinite_talk.models.vae import VideoVAE
from infinite_talk.models.vision import ImageEncoder
from infinite_talk.models.vision import keys as vision_keys
from infinite_talk.settings import ModelFiles
from infinite_talk.weights.writer import TensorWriter

SHARDS = 7
POOL = 1 << 27
"""Random numbers that tensors are cut from, again and again: making new ones would take longer than writing."""
SPEECH = ("audio_proj", "norm_x", "audio_cross_attn")
"""Modules of the speech branch, which is a file of its own."""


def write_official(folder: Path, sizes: Sizes | None = None, workers: int = 8) -> ModelFiles:
    """Write what is not there yet, and say where it is."""
    sizes = sizes or Sizes()
    base, adapter = folder / "Wan2.1-I2V-14B-480P", folder / "InfiniteTalk" / "single"
    tokenizer, speech = base / "google" / "umt5-xxl", folder / "chinese-wav2vec2-base"
    for one in (base, adapter, tokenizer, speech):
        one.mkdir(parents=True, exist_ok=True)
    files = ModelFiles(
        transformer=(base,),
        adapter=adapter / "infinitetalk.safetensors",
        vae=base / "Wan2.1_VAE.pth",
        text=base / "models_t5_umt5-xxl-enc-bf16.pth",
        tokenizer=tokenizer,
        vision=base / "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth",
        speech=speech / "model.safetensors",
    )
    if (folder / "complete").is_file():
        return files
    fill = Filler()
    _transformer(base, adapter / "infinitetalk.safetensors", sizes.transformer, fill, workers)
    _tokenizer(tokenizer / "tokenizer.json", sizes.text.vocab_size)
    _pickle(files.vae, fill.model(meta(lambda: VideoVAE(sizes.vae)), torch.float32))
    text = fill.model(meta(lambda: TextEncoder(sizes.text, tokenizer=lambda _text: [1])), torch.bfloat16)
    _pickle(files.text, text_keys.wan(sizes.text).write(text))
    whole = replace(
        sizes.vision, used_layers=sizes.vision.num_layers
    )  # the file has the block that is not used
    vision = fill.model(ImageEncoder(whole), torch.float16)
    _pickle(files.vision, vision_keys.wan(whole).write(vision))
    own = fill.model(SpeechEncoder(sizes.speech), torch.float32)
    found = speech_keys.dialects(sizes.speech)[0].write(own)
    _safetensors(speech / "model.safetensors", found)
    (folder / "complete").write_text("yes\n")
    return files


class Filler:
    """Tensors of small random numbers; scales of norms are one, so that nothing dies out or explodes."""

    def __init__(self) -> None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._pool = (torch.randn(POOL, device=device) * 0.02).to(torch.bfloat16).cpu()
        self._at = 0

    def __call__(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        if name.endswith("bias"):
            return torch.zeros(shape, dtype=dtype)
        if len(shape) < 2 or "gamma" in name:
            return torch.ones(shape, dtype=dtype)
        count = torch.Size(shape).numel()
        self._at = (self._at + 4097) % 65_536
        pool = self._pool[self._at :]
        if count > len(pool):
            pool = pool.repeat(-(-count // len(pool)))
        return pool[:count].to(dtype).reshape(shape)

    def model(self, module: torch.nn.Module, dtype: torch.dtype) -> dict[str, Tensor]:
        """Random weights under a module's names."""
        return {name: self(name, tuple(t.shape), dtype) for name, t in module.state_dict().items()}


def meta(make: Callable[[], torch.nn.Module]) -> torch.nn.Module:
    """A module without memory."""
    with torch.device("meta"):
        return make()


def _transformer(base: Path, adapter: Path, config: DiTConfig, fill: Filler, workers: int) -> None:
    """Shards in order of names, with their index, and the speech branch."""
    shapes = {n: tuple(t.shape) for n, t in meta(lambda: WanTransformer(config)).state_dict().items()}
    speech = {n: s for n, s in shapes.items() if any(part in n for part in SPEECH)}
    rest = {n: s for n, s in shapes.items() if n not in speech}
    shards = _shared_out(rest, SHARDS)
    names = [f"diffusion_pytorch_model-{i + 1:05}-of-{SHARDS:05}.safetensors" for i in range(SHARDS)]
    jobs = [*zip([base / name for name in names], shards, strict=True), (adapter, speech)]

    def write(job: tuple[Path, Mapping[str, tuple[int, ...]]]) -> None:
        path, part = job
        with TensorWriter(path, part, {"format": "pt"}) as file:
            for name, shape in part.items():
                file.add(name, fill(name, shape, torch.bfloat16))

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(write, jobs))
    index = {name: file for file, part in zip(names, shards, strict=True) for name in part}
    (base / "diffusion_pytorch_model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": index})
    )
    (base / "config.json").write_text(json.dumps({"model_type": "i2v", "dim": config.dim}))


def _shared_out(shapes: Mapping[str, tuple[int, ...]], count: int) -> list[dict[str, tuple[int, ...]]]:
    """Parts of about equal bytes, names in order."""
    total = sum(torch.Size(shape).numel() for shape in shapes.values())
    parts: list[dict[str, tuple[int, ...]]] = [{} for _ in range(count)]
    seen = 0
    for name, shape in shapes.items():
        parts[min(count - 1, seen * count // total)][name] = shape
        seen += torch.Size(shape).numel()
    return parts


def _pickle(path: Path | None, tensors: Mapping[str, Tensor]) -> None:
    assert path is not None
    torch.save(dict(tensors), path)


def _safetensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    with TensorWriter(path, tensors) as file:
        for name, tensor in tensors.items():
            file.add(name, tensor)


def _tokenizer(path: Path, pieces: int) -> None:
    """As many made-up words as the embedding has rows, and the end mark."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing

    words = {word: i for i, word in enumerate(("<pad>", "</s>", "<unk>"))}
    words |= {f"word{i}": i for i in range(len(words), pieces)}
    library = Tokenizer(WordLevel(words, unk_token="<unk>"))
    library.pre_tokenizer = Whitespace()
    library.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    library.save(str(path))


def bytes_of(paths: Iterable[Path]) -> int:
    """Of files, folders with all that is in them."""
    return sum(f.stat().st_size for p in paths for f in ([p] if p.is_file() else p.rglob("*")) if f.is_file())
