"""``Model``: the files of a run, opened but not loaded; whatever form they have, a bundle or anybody's own files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from infinite_talk.presets import OFFICIAL, Defaults
from infinite_talk.settings import LoRA, Settings
from infinite_talk.weights.bundle import open_part
from infinite_talk.weights.checkpoint import Checkpoint, Part, open_checkpoint, whole
from infinite_talk.weights.find import Found, find_lora, find_model
from infinite_talk.weights.lora import Adapter, open_lora
from infinite_talk.weights.manifest import bundle_folder, read_manifest, verify
from infinite_talk.weights.reader import shapes_of

_SAMPLES, _SAMPLE = 64, 1 << 16
"""A fingerprint looks at this many pieces of this many bytes, evenly spread, and at the size."""


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """Five models and what is added to them; headers have been read and fit, weights have not been read."""

    name: str
    version: str
    defaults: Defaults
    identity: Mapping[str, str]
    """What a recipe says of it: name, version, and a checksum or fingerprint of all weights."""
    parts: Mapping[Part, Checkpoint]
    """Transformer, VAE, text, vision, speech; a tiny VAE if one was chosen."""
    loras: tuple[Adapter, ...] = ()
    tokenizer: Path | None = None
    """Folder; ``None``: beside the text encoder, inside its file, or not needed."""
    notes: tuple[str, ...] = ()

    @property
    def gguf(self) -> bool:
        """Whether the transformer's weights come from a GGUF file."""
        return "gguf" in self.parts[Part.TRANSFORMER].dialect

    @property
    def size(self) -> int:
        """Bytes of all files."""
        files = {file for part in self.parts.values() for file in part.files}
        return sum(file.stat().st_size for file in files)


def open_model(settings: Settings, *, people: int = 1) -> Model:
    """Find and open everything; nothing is loaded.

    Args:
        people: how many speak; decides between the speech branches of one folder.

    Raises:
        CheckpointError: a file is missing, damaged, of another model, or one of several has to be chosen; a LoRA
            does not fit.
        UsageError: the model is neither a folder nor a preset.
    """
    folder = bundle_folder(settings)
    model = _files(find_model(settings, people=people)) if folder is None else _bundle(folder, settings)
    shapes = shapes_of(model.parts[Part.TRANSFORMER].weights)
    for adapter in model.loras:
        adapter.check(shapes)
    return model


def _bundle(folder: Path, settings: Settings) -> Model:
    manifest = read_manifest(folder)
    verify(manifest)
    loras = tuple(find_lora(lora, settings.models_dirs) for lora in settings.loras)
    identity = {"name": manifest.name, "version": manifest.version, "sha256": manifest.digest}
    return Model(
        name=manifest.name,
        version=manifest.version,
        defaults=manifest.defaults,
        identity=identity | _identity_of(loras),
        parts={Part(name): open_part(manifest, name) for name in manifest.parts},
        loras=tuple(open_lora(lora) for lora in loras),
    )


def _files(found: Found) -> Model:
    adapter = None if found.adapter is None else open_checkpoint(found.adapter, part=Part.ADAPTER)
    parts = {
        Part.TRANSFORMER: whole(open_checkpoint(*found.transformer, part=Part.TRANSFORMER), adapter),
        Part.VAE: open_checkpoint(found.vae, part=Part.VAE),
        Part.TEXT: open_checkpoint(found.text, part=Part.TEXT),
        Part.VISION: open_checkpoint(found.vision, part=Part.VISION),
        Part.SPEECH: open_checkpoint(found.speech, part=Part.SPEECH),
    }
    if found.tiny_vae is not None:
        parts[Part.TINY_VAE] = open_checkpoint(found.tiny_vae, part=Part.TINY_VAE)
    transformer = parts[Part.TRANSFORMER]
    files = (file for part in parts.values() for file in part.files)
    identity = {
        "name": found.name,
        "version": f"{transformer.dialect}, {transformer.precision}",
        "fingerprint": fingerprint(files),
    }
    opened = ", ".join(f"{part} {one.dialect} {one.precision}" for part, one in parts.items())
    said: dict[str, list[str]] = {}
    for one in parts.values():
        for note in one.notes:
            said.setdefault(note, []).append(one.title)
    notes = (f"{', '.join(titles)}: {note}" for note, titles in said.items())
    return Model(
        name=found.name,
        version=identity["version"],
        defaults=OFFICIAL,
        identity=identity | _identity_of(found.loras),
        parts=parts,
        loras=tuple(open_lora(lora) for lora in found.loras),
        tokenizer=found.tokenizer,
        notes=(f"Model files: {opened}.", *found.notes, *notes),
    )


def _identity_of(loras: Iterable[LoRA]) -> dict[str, str]:
    """LoRAs for a recipe: name, fingerprint, strength; nothing when there are none."""
    said = [
        f"{lora.path.name} {fingerprint([lora.path])} x {lora.strength}{_narrowed(lora)}" for lora in loras
    ]
    return {"loras": "; ".join(said)} if said else {}


def _narrowed(lora: LoRA) -> str:
    blocks = "" if lora.blocks is None else f" in blocks {', '.join(map(str, lora.blocks))}"
    return blocks + (f" without {', '.join(lora.without)}" if lora.without else "")


def fingerprint(files: Iterable[Path]) -> str:
    """SHA-256 over the sizes and evenly spread samples of files, in hexadecimal.

    Checksums of 70 GB would take minutes before each run. This tells models, precisions and versions apart, but
    does not find a single flipped byte; ``infinite-talk models verify`` does.
    """
    digest = hashlib.sha256()
    for path in files:
        for file in sorted(path.rglob("*.safetensors")) if path.is_dir() else [path]:
            size = file.stat().st_size
            digest.update(size.to_bytes(8, "little"))
            with file.open("rb") as opened:
                for place in range(_SAMPLES):
                    opened.seek(place * max(0, size - _SAMPLE) // (_SAMPLES - 1))
                    digest.update(opened.read(_SAMPLE))
    return digest.hexdigest()
