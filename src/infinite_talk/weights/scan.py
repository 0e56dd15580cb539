"""Which model files are in a folder, by what they contain: official, ComfyUI, diffusers and LightX2V layouts.

Only headers are read. A folder of ComfyUI (with ``models/diffusion_models`` and the like, or that folder itself) is
searched where ComfyUI keeps parts of models; any other one everywhere, four folders deep, without ``loras``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infinite_talk.weights.checkpoint import Identified

COMFY = (
    *("diffusion_models", "unet", "unet_gguf", "checkpoints", "model_patches"),
    *("text_encoders", "clip", "clip_vision", "vae", "vae_approx"),
    *("wav2vec2", "audio_encoders", "transformers"),
)
"""Folders below ComfyUI's ``models`` that hold parts of models."""
SUFFIXES = {".safetensors", ".gguf", ".pth", ".pt", ".bin"}
_DEPTH = 4
_SKIPPED = {"loras", "lora", "controlnet", "embeddings", "upscale_models", "custom_nodes", "output", "input"}
_SHARD = re.compile(r"(?P<stem>.+)-\d{5}-of-(?P<count>\d{5})(?P<suffix>\.\w+)$")
_OTHERS = {"checkpoint_unknown", "checkpoint_mismatch"}
"""Codes of files that are whole but not for us."""
_PICKLES = {".pth", ".pt", ".bin"}


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A checkpoint that was found: one file, or all its shards."""

    paths: tuple[Path, ...]
    seen: Identified
    missing: tuple[str, ...] = ()
    """Names of shards that are not there."""

    @property
    def place(self) -> Path:
        """How to name it to a person: the file, or the folder with the shards."""
        return self.paths[0] if len(self.paths) == 1 and not self.missing else self.paths[0].parent

    @property
    def damage(self) -> str | None:
        """Why it cannot be read, if it may have been meant: not for files of other models."""
        if self.missing:
            some = ", ".join(self.missing[:3]) + (", ..." if len(self.missing) > 3 else "")
            return f"{self.place} lacks {len(self.missing)} of its files: {some}"
        return None if self.seen.code in _OTHERS else self.seen.reason

    @property
    def order(self) -> tuple[int, int, str]:
        """Which comes first where any would do: safetensors, GGUF, then pickles; the larger file; by name."""
        suffix = self.paths[0].suffix.lower()
        kind = 2 if suffix in _PICKLES else 1 if suffix == ".gguf" else 0
        return kind, -sum(path.stat().st_size for path in self.paths), str(self.paths[0]).lower()


def scan(root: Path) -> tuple[Candidate, ...]:
    """Every checkpoint below a folder, each file once, in order of name; also what is damaged or of no use here."""
    from infinite_talk.weights.checkpoint import identify

    found: list[Candidate] = []
    known: set[Path] = set()
    for folder in folders(root):
        for paths, missing in groups(folder):
            real = paths[0].resolve()  # the same file under two names is one candidate
            if real in known:
                continue
            known.add(real)
            found.append(Candidate(paths, identify(*paths), missing))
    return tuple(found)


def folders(root: Path) -> Iterator[Path]:
    """The folders to look into, parents first, in order of name."""
    models = root / "models" if any((root / "models" / name).is_dir() for name in COMFY) else root
    tops = [models / name for name in COMFY if (models / name).is_dir()]
    for top in tops if len(tops) > 1 or models != root else [root]:
        yield from _below(top, _DEPTH)


def groups(folder: Path) -> Iterator[tuple[tuple[Path, ...], tuple[str, ...]]]:
    """The checkpoints directly in a folder: the files of each, and the names of shards that are missing."""
    files = {p.name: p for p in sorted(folder.iterdir()) if p.suffix.lower() in SUFFIXES and p.is_file()}
    for names in (*_indexed(folder), *_numbered(files)):
        present = tuple(files.pop(name) for name in names if name in files)
        if present:
            yield present, tuple(name for name in names if not (folder / name).exists())
    for path in files.values():
        yield (path,), ()


def tokenizers(root: Path) -> Iterator[Path]:
    """Folders with UMT5's tokenizer: not that of the text tower beside the image encoder."""
    for folder in _below(root, _DEPTH):
        if (folder / "spiece.model").is_file() or _is_t5(folder):
            yield folder


def named(name: Path, roots: Iterable[Path]) -> list[Path]:
    """Files of a bare name, or of a name without its suffix, anywhere below the folders."""
    found: dict[Path, Path] = {}
    for root in roots:
        for folder in _below(root, _DEPTH + 1, skipped=frozenset()):
            for path in sorted(folder.iterdir()):
                same = path.name == name.name or (path.suffix.lower() in SUFFIXES and path.stem == name.name)
                below = path.parts[-len(name.parts) : -1] == name.parts[:-1]
                if same and below and path.is_file():
                    found.setdefault(path.resolve(), path)
    return list(found.values())


def _below(folder: Path, depth: int, skipped: frozenset[str] = frozenset(_SKIPPED)) -> Iterator[Path]:
    if not folder.is_dir():
        return
    yield folder
    if depth > 0:
        for inner in sorted(folder.iterdir()):
            if inner.is_dir() and not inner.name.startswith(".") and inner.name.lower() not in skipped:
                yield from _below(inner, depth - 1, skipped)


def _indexed(folder: Path) -> Iterator[Sequence[str]]:
    """Shards that an index names."""
    for index in sorted(folder.glob("*.index.json")):
        try:
            names = json.loads(index.read_bytes())["weight_map"].values()
            yield sorted({str(name) for name in names})
        except (ValueError, KeyError, TypeError, AttributeError, OSError):
            continue  # the shards are found by their numbers


def _numbered(files: Iterable[str]) -> Iterator[Sequence[str]]:
    """Shards that are numbered ``-00001-of-00007`` and have no index."""
    for stem, count, suffix in sorted(
        {m.group("stem", "count", "suffix") for m in map(_SHARD.match, files) if m}
    ):
        yield [f"{stem}-{i:05}-of-{count}{suffix}" for i in range(1, int(count) + 1)]


def _is_t5(folder: Path) -> bool:
    if not (folder / "tokenizer.json").is_file():
        return False
    try:
        config = json.loads((folder / "tokenizer_config.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and "T5" in str(config.get("tokenizer_class"))
