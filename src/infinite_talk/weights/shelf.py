"""The models of this machine, for front ends: which presets are here, getting one, checking files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from infinite_talk.settings import LoRA
from infinite_talk.weights.hub.catalogue import PRESETS, Preset, catalogued, preset
from infinite_talk.weights.hub.pull import Listener, Pulled, pull
from infinite_talk.weights.hub.remote import Hub
from infinite_talk.weights.hub.store import installed, stores
from infinite_talk.weights.hub.verify import Listener as VerifyListener
from infinite_talk.weights.hub.verify import Verified, verify_files, verify_preset
from infinite_talk.weights.manifest import EMBEDDED

if TYPE_CHECKING:
    from infinite_talk.weights.checkpoint import Identified


@dataclass(frozen=True, slots=True)
class PresetState:
    """A preset, and how much of it is here."""

    preset: Preset
    present: int
    """Files that are here."""
    lacking: int
    """Bytes that are not, by the sizes of the catalogue."""

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return self.present == len(self.preset.files)


def list_presets(models_dirs: Sequence[Path] = (), *, cache: Path | None = None) -> tuple[PresetState, ...]:
    """All presets with what is here of them, in the models folders or in the hub's cache."""
    places = stores(models_dirs, cache)
    here = {file for file in catalogued() if installed(file, places)}
    return tuple(
        PresetState(
            one,
            sum(file in here for file in one.files),
            sum(file.size for file in one.files if file not in here),
        )
        for one in PRESETS
    )


def pull_preset(
    name: str,
    *,
    folder: Path | None = None,
    cache: Path | None = None,
    hub: Hub | None = None,
    progress: Listener | None = None,
) -> Pulled:
    """Download a preset by its name; see ``pull``. Without ``hub``, ``HF_ENDPOINT`` and ``HF_TOKEN`` count.

    Raises:
        UsageError: there is no such preset.
        CheckpointError, NoSpaceError: as ``pull``.
    """
    return pull(preset(name), folder=folder, cache=cache, hub=hub, progress=progress)


def verify_models(
    what: Sequence[str | Path] = (),
    models_dirs: Sequence[Path] = (),
    *,
    cache: Path | None = None,
    progress: VerifyListener | None = None,
) -> Iterator[Verified]:
    """Check presets, folders and files against their checksums, one file after the other.

    Args:
        what: names of presets, folders, files; nothing: the embedded model and all of the catalogue that is here.

    Raises:
        CheckpointError: a file, a folder or a preset is not there.
    """
    places = stores(models_dirs, cache)
    if not what:
        here = [at[1] for file in catalogued() if (at := installed(file, places))]
        yield from verify_files([EMBEDDED, *here], progress)
    names = {one.name for one in PRESETS}
    for one in what:
        if str(one) in names and not Path(one).exists():
            yield from verify_preset(preset(str(one)), places, progress)
        else:
            yield from verify_files([Path(one)], progress)


def identify_model(*paths: Path, allow_pickle: bool = False) -> Identified:
    """What a model file is, or several that belong together: part, dialect, precision, what is missing to use it.

    A file that is damaged or of no use here has a ``reason``. Only headers are read.
    """
    from infinite_talk.weights.checkpoint import identify

    return identify(*paths, allow_pickle=allow_pickle)


def describe_lora(path: Path) -> str:
    """What a LoRA changes: how many weights, of which ranks, and what of it is not understood.

    Raises:
        CheckpointError: it cannot be read.
    """
    from infinite_talk.weights.lora import open_lora
    from infinite_talk.weights.lora.deltas import LowRank

    adapter = open_lora(LoRA(path=path))
    deltas = [one.delta for additions in adapter.additions.values() for one in additions]
    ranks = sorted({delta.parts.shapes[delta.down][0] for delta in deltas if isinstance(delta, LowRank)})
    others = sum(not isinstance(delta, LowRank) for delta in deltas)
    said = [f"changes {len(adapter.touches)} weights"]
    if ranks:
        said.append(f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]} to {ranks[-1]}")
    if others:
        said.append(f"{others} additions of another kind")
    if adapter.unknown:
        said.append(f"{len(adapter.unknown)} keys are not understood ({', '.join(adapter.unknown[:3])}, ...)")
    return ", ".join(said)
