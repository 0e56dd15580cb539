"""Which file is which part of the model: from what was named, the model's folder or preset, and the models folders.

Each part is taken from the first place that has it:

1. the file that was named for it (``Settings.files``); a bare name is looked for in the models folders;
2. ``Settings.model``: a preset that was pulled, or a folder, searched by what the files contain (``scan.py``);
3. the models folders, in their order;
4. files of the catalogue that lie in a models folder or in the hub's cache, in the order of the catalogue.

Where one place has several files for a part: of the encoders and codecs any would do, and safetensors come before
GGUF, GGUF before pickles, a larger file before a smaller one, then the name decides. Speech branches that belong to
fewer people than speak lose against those that name enough (``single``, ``multi``), MultiTalk's against InfiniteTalk's.
Two transformers are an error: nobody could guess which was meant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from infinite_talk.errors import CheckpointError, UsageError
from infinite_talk.settings import LoRA, Settings
from infinite_talk.weights.hub.catalogue import PRESETS, Preset, catalogued, preset
from infinite_talk.weights.hub.files import RemoteFile
from infinite_talk.weights.hub.store import Store, installed, stores
from infinite_talk.weights.scan import Candidate, named, scan, tokenizers

T = TypeVar("T")
FLAGS = {
    "transformer": "--transformer",
    "adapter": "--adapter",
    "vae": "--vae",
    "tiny_vae": "--tiny-vae",
    "text": "--text-encoder",
    "vision": "--image-encoder",
    "speech": "--speech-encoder",
}
"""With which option a part is chosen."""
WORDS = {
    "transformer": "transformer",
    "adapter": "speech branch (InfiniteTalk or MultiTalk)",
    "vae": "video codec (VAE)",
    "tiny_vae": "tiny decoder (TAEHV)",
    "text": "text encoder (UMT5-XXL)",
    "vision": "image encoder (CLIP ViT-H)",
    "speech": "speech encoder (wav2vec2)",
}
"""What to call a part."""
PULL = {"transformer": "kijai-fp8-scaled"}
"""The preset to advise for a part that is missing; of the same name as the part where it is not here."""


@dataclass(frozen=True, slots=True)
class Found:
    """The files of one model. A path may be a folder with shards."""

    transformer: tuple[Path, ...]
    """One file, or all its shards."""
    adapter: Path | None
    """``None``: the transformer has its speech branch."""
    vae: Path
    text: Path
    vision: Path
    speech: Path
    tokenizer: Path | None = None
    """A folder; ``None``: none was found by itself, but the text encoder's own file may hold it."""
    tiny_vae: Path | None = None
    """Only where it was asked for: its frames are a draft."""
    loras: tuple[LoRA, ...] = ()
    """Those of the settings, with the paths of their files; those of a preset before them."""
    name: str = "model"
    """What to call the model: its preset, or its folder or file."""
    notes: tuple[str, ...] = ()
    """What was decided between several files."""


def find_model(settings: Settings, *, people: int = 1, cache: Path | None = None) -> Found:
    """Find every file of the model that the settings describe.

    Args:
        settings: ``model``, ``files``, ``models_dirs`` and ``loras`` are read.
        people: how many speak; decides between speech branches for one and for several.
        cache: the hub's cache, instead of the one of this machine.

    Raises:
        CheckpointError: a part is nowhere, is in several files of which one has to be chosen, or a shard is missing.
        UsageError: the model is neither a folder nor a preset.
    """
    search = _search(settings, people, cache)
    transformer = search.transformer()
    adapter = None if _has_speech(transformer) else search.path("adapter")
    model = Found(
        transformer=transformer,
        adapter=adapter,
        vae=search.path("vae"),
        text=search.path("text"),
        vision=search.path("vision"),
        speech=search.path("speech"),
        tokenizer=search.tokenizer(),
        tiny_vae=None if settings.files.tiny_vae is None else search.path("tiny_vae"),
        loras=(*search.preset_loras(), *(find_lora(lora, search.roots) for lora in settings.loras)),
        name=_name(settings, transformer),
    )
    return replace(model, notes=tuple(search.notes))


def find_lora(lora: LoRA, models_dirs: Iterable[Path], cache: Path | None = None) -> LoRA:
    """The LoRA with the path of its file; a bare name is looked for in the models folders and what was pulled.

    Raises:
        CheckpointError: it is nowhere, or several files have its name.
    """
    roots = tuple(models_dirs)
    if lora.path.exists():
        return lora
    paths = named(lora.path, roots) or _pulled_by_name(lora.path, stores(roots, cache))
    return replace(lora, path=_the_one(paths, lora.path, "LoRA", "--lora", roots))


def find_tokenizer(roots: Iterable[Path], cache: Path | None = None) -> Path | None:
    """The folder of the text encoder's tokenizer, in these folders or among what was pulled."""
    return _search(Settings(models_dirs=tuple(roots)), 1, cache).tokenizer()


@dataclass(slots=True)
class _Search:
    """One search: the places, and what was scanned of them so far."""

    settings: Settings
    people: int
    roots: tuple[Path, ...]
    """Folders searched by content, the model's own first."""
    places: tuple[Store, ...]
    preset: Preset | None = None
    notes: list[str] = field(default_factory=list)
    _scanned: dict[Path, tuple[Candidate, ...]] = field(default_factory=dict)

    def transformer(self) -> tuple[Path, ...]:
        if given := self.settings.files.transformer:
            paths = tuple(self._named(path, "transformer") for path in given)
            return tuple(file for path in paths for file in _expanded(path))
        return self._part("transformer")

    def path(self, part: str) -> Path:
        """The file of a part, or the folder with its shards."""
        given: Path | None = getattr(self.settings.files, part)
        if given is not None:
            return self._named(given, part)
        paths = self._part(part)
        return paths[0] if len(paths) == 1 else paths[0].parent

    def tokenizer(self) -> Path | None:
        if given := self.settings.files.tokenizer:
            return given.parent if given.is_file() else given
        if paths := self._of_preset("tokenizer"):
            return paths[0].parent
        for root in self.roots:
            if folder := next(tokenizers(root), None):
                return folder
        paths = self._of_catalogue("tokenizer")
        return paths[0].parent if paths else None

    def preset_loras(self) -> tuple[LoRA, ...]:
        return tuple(LoRA(path=path) for path in self._of_preset("lora"))

    def _part(self, part: str) -> tuple[Path, ...]:
        for find in (self._of_preset, self._of_folders, self._of_catalogue):
            if paths := find(part):
                return paths
        raise self._missing(part)

    def _of_preset(self, part: str) -> tuple[Path, ...]:
        if self.preset is None:
            return ()
        found = [installed(file, self.places) for file in self.preset.of(part)]
        return tuple(at[1] for at in found if at is not None)

    def _of_folders(self, part: str) -> tuple[Path, ...]:
        if self.preset is not None and part in ("transformer", "adapter") and self.preset.complete:
            return ()
        for root in self.roots:
            if root not in self._scanned:
                self._scanned[root] = scan(root)
            if fitting := [one for one in self._scanned[root] if one.seen.part == part and not one.missing]:
                return self._chosen(part, fitting, root).paths
        return ()

    def _of_catalogue(self, part: str) -> tuple[Path, ...]:
        """One file of the part that was pulled; transformers only by the name of their preset."""
        if part == "transformer":
            return ()
        wanted = _suiting(part, [file for file in catalogued() if file.part == part], self.people, _spelt)
        for file in wanted:
            if at := installed(file, self.places):
                folder = file.part == "tokenizer"
                if not folder or _all_beside(file, self.places):
                    return (at[1],)
        return ()

    def _chosen(self, part: str, candidates: Sequence[Candidate], root: Path) -> Candidate:
        left = _suiting(part, candidates, self.people, lambda one: str(one.place.relative_to(root)))
        if len(left) > 1 and part in ("transformer", "adapter"):
            raise _ambiguous(part, [f"{one.place} ({one.seen.precision})" for one in left])
        chosen = min(left, key=lambda one: one.order)
        if len(candidates) > 1:
            others = ", ".join(one.place.name for one in candidates if one is not chosen)
            self.notes.append(
                f"{WORDS.get(part, part)}: {chosen.place.name}, not {others}; {FLAGS.get(part, 'an option')} chooses."
            )
        return chosen

    def _named(self, path: Path, part: str) -> Path:
        if path.exists():
            return path
        roots = tuple(self.settings.models_dirs)
        return _the_one(named(path, roots), path, WORDS[part], FLAGS[part], roots)

    def _missing(self, part: str) -> CheckpointError:
        if self.preset is not None and self.preset.of(part):
            return _incomplete(self.preset, self.places)
        looked = ", ".join(map(str, self.roots)) or "no folder was given"
        name = PULL.get(part, part)
        damaged = [one.damage for scanned in self._scanned.values() for one in scanned if one.damage]
        passed_over = "; ".join(text.removesuffix(".") for text in damaged[:3])
        return CheckpointError(
            f"The {WORDS[part]} is missing (looked in: {looked}). {f'Passed over: {passed_over}. ' if damaged else ''}"
            f"Get it with 'infinite-talk models pull {name}', or name the file with {FLAGS[part]}.",
            code="checkpoint_missing",
        )


def _search(settings: Settings, people: int, cache: Path | None) -> _Search:
    """Where to look, in which order."""
    model, dirs = settings.model, tuple(settings.models_dirs)
    places = stores(dirs, cache)
    if model is None:
        return _Search(settings, people, dirs, places)
    if model.is_file():
        files = settings.files
        if not files.transformer:
            settings = replace(settings, files=replace(files, transformer=(model,)))
        return _Search(settings, people, dirs, places)
    inside = (folder / model for folder in dirs)
    if folder := next((place for place in (model, *inside) if place.is_dir()), None):
        return _Search(settings, people, (folder, *dirs), places)
    if model.name != str(model):
        raise CheckpointError(
            f"The model {model} is not there: neither a folder nor a file. Correct the path, or give the name of a "
            "preset ('infinite-talk models list').",
            code="checkpoint_missing",
        )
    try:
        chosen = preset(model.name)
    except UsageError as error:
        raise CheckpointError(
            f"The model {model} is not there: it is neither a folder nor a file here. {error.message}",
            code="checkpoint_missing",
        ) from error
    if not chosen.complete:
        raise UsageError(
            f"The preset {chosen.name} is one part of a model only ({chosen.summary}). Choose a whole one: "
            f"{', '.join(one.name for one in PRESETS if one.complete)}."
        )
    if any(installed(file, places) is None for file in chosen.files):
        raise _incomplete(chosen, places)
    return _Search(settings, people, dirs, places, chosen)


def _incomplete(chosen: Preset, places: Sequence[Store]) -> CheckpointError:
    lacking = [file.path for file in chosen.files if installed(file, places) is None]
    return CheckpointError(
        f"The model {chosen.name} is not complete here: {len(lacking)} of {len(chosen.files)} files are missing "
        f"({', '.join(lacking[:3])}{', ...' if len(lacking) > 3 else ''}). Get them with "
        f"'infinite-talk models pull {chosen.name}'.",
        code="checkpoint_missing",
    )


def _suiting(part: str, several: Sequence[T], people: int, name: Callable[[T], str]) -> Sequence[T]:
    """Those of several speech branches that suit the number of people, and InfiniteTalk's, if names tell."""
    if part != "adapter":
        return several
    words = ("multi",) if people > 1 else ("single",)
    left = [one for one in several if any(word in _plain(name(one)) for word in words)] or several
    return [one for one in left if "multitalk" not in name(one).lower()] or left


def _plain(name: str) -> str:
    """Without the word that is MultiTalk's name and says nothing about a file."""
    return name.lower().replace("multitalk", "")


def _spelt(file: RemoteFile) -> str:
    return file.path


def _expanded(path: Path) -> tuple[Path, ...]:
    """A folder as the shards in it."""
    if not path.is_dir():
        return (path,)
    found = [one for one in scan(path) if one.seen.part == "transformer"]
    if not found:
        raise CheckpointError(f"The folder {path} holds no transformer.", code="checkpoint_missing")
    if len(found) > 1:
        raise _ambiguous("transformer", [str(one.place) for one in found])
    return found[0].paths


def _has_speech(paths: tuple[Path, ...]) -> bool:
    """Whether a transformer has its speech branch in the same files."""
    from infinite_talk.weights.checkpoint import identify

    return identify(*paths).has_speech


def _all_beside(file: RemoteFile, places: Sequence[Store]) -> bool:
    """Whether the files of one folder of the catalogue are all there."""
    folder = file.path.rpartition("/")[0]
    beside = [one for one in catalogued() if one.repo == file.repo and one.path.startswith(f"{folder}/")]
    return all(installed(one, places) for one in beside)


def _pulled_by_name(name: Path, places: Sequence[Store]) -> list[Path]:
    fitting = [f for f in catalogued() if name.name in (Path(f.path).name, Path(f.path).stem)]
    return [at[1] for file in fitting if (at := installed(file, places))]


def _the_one(paths: Sequence[Path], asked: Path, what: str, flag: str, roots: Sequence[Path]) -> Path:
    if len(paths) == 1:
        return paths[0]
    if paths:
        raise CheckpointError(
            f"Several files are called {asked}: {', '.join(map(str, paths[:5]))}. Give the whole path with {flag}.",
            code="checkpoint_ambiguous",
        )
    looked = f", nor below {', '.join(map(str, roots))}" if roots else ""
    raise CheckpointError(
        f"The {what} {asked} is not there{looked}. Correct {flag}, or name its folder with --models-dir.",
        code="checkpoint_missing",
    )


def _ambiguous(part: str, places: Sequence[str]) -> CheckpointError:
    return CheckpointError(
        f"There are {len(places)} files that can be the {WORDS[part]}: {'; '.join(places[:6])}. Choose one with "
        f"{FLAGS[part]}.",
        code="checkpoint_ambiguous",
    )


def _name(settings: Settings, transformer: tuple[Path, ...]) -> str:
    return settings.model.name if settings.model is not None else transformer[0].stem
