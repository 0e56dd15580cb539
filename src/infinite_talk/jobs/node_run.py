"""Makes the video of an order that asks for ``NodeOptions``, with the nodes in the order of a talking video.

Unlike ``Engine.write`` it keeps no take: interrupted, it begins again, and ends in the same pictures.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from pydantic import TypeAdapter

from infinite_talk.denoise.times import NOISE_TIME, timesteps
from infinite_talk.device import choose_device, precision_of
from infinite_talk.inputs.image import read_image
from infinite_talk.jobs.node_options import NodeOptions, pipeline_options
from infinite_talk.media.durable import sha256_of, write_bytes
from infinite_talk.media.recipe import sidecar_of
from infinite_talk.pipeline import InfiniteTalkPipeline
from infinite_talk.presets import given, resolve
from infinite_talk.progress import Listener, Phase, Progress, silent
from infinite_talk.request import Request
from infinite_talk.settings import LoRA, Precision, Settings
from infinite_talk.weights.find import find_model
from infinite_talk.weights.manifest import bundle_folder, defaults_of

_Five = tuple[str, str, str, str, str]


class NodeRunner:
    """One pipeline of one set of settings; keeps its models between videos."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._loaded: InfiniteTalkPipeline | None = None
        self._people = 0
        self._listen: Listener = silent

    def write(
        self, request: Request, options: NodeOptions, output: Path, *, progress: Listener = silent
    ) -> Path:
        """Make the video, and the JSON file beside it.

        Args:
            request: with paths that can be opened.
            output: the mp4 file; it appears only when it is complete, and replaces an older one.
            progress: hears what goes on; raising ``Cancelled`` in it stops the run.

        Raises:
            UsageError: the request and the options exclude each other.
            InfiniteTalkError: as ``InfiniteTalkPipeline.generate``.
        """
        options.check(request)
        assert request.image is not None, "checked"
        began, notes = perf_counter(), _Heard(progress)
        self._listen = notes
        pipeline = self._pipeline(len(request.speakers))
        keywords = self._keywords(request, options)
        try:
            pipeline.generate(
                request.image,
                [one.audio for one in request.speakers if one.audio is not None],
                request.prompt,
                output_path=output,
                **keywords,
            )
        finally:
            self._listen = silent
        _tell(output, request, options, keywords, perf_counter() - began, notes)
        progress(Progress(phase=Phase.DONE, window=notes.windows, windows=notes.windows))
        return output

    def _keywords(self, request: Request, options: NodeOptions) -> dict[str, Any]:
        defaults = defaults_of(self.settings)
        assert request.image is not None
        still, _ = read_image(request.image, max_pixels=self.settings.max_pixels)
        found = pipeline_options(
            request,
            options,
            defaults,
            source=(still.picture.shape[0], still.picture.shape[1]),
            tiled_vae=bool(self.settings.memory.vae_tiling),
        )
        if request.scheduler is None:  # no name of the nodes has the official grid with any number of steps
            asked = resolve(request, defaults)
            times = timesteps(given(asked.steps), given(asked.shift))
            found |= {"scheduler": "euler", "sigmas": tuple((times / NOISE_TIME).tolist())}
        return found

    def _pipeline(self, people: int) -> InfiniteTalkPipeline:
        """The pipeline with its models opened, for so many people."""
        if self._loaded is not None and (people > 1) == (self._people > 1):
            return self._loaded
        settings = replace(self.settings, loras=(), model=None)
        pipeline = InfiniteTalkPipeline(self.settings.models_dirs, settings=settings, progress=self._hear)
        precision = precision_of(self.settings, choose_device(self.settings))
        asked = self.settings.vae_precision
        names, speech, loras = _names(self.settings, people)
        pipeline.load_models(
            *names,
            model_quantization=str(self.settings.quantization),
            model_attention=str(self.settings.attention),
            vae_precision=str(precision if asked is Precision.AUTO else asked),
            model_precision=str(precision),
            multitalk_model_name=speech,
            lora=[_entry(one) for one in loras] or None,
        )
        self._loaded, self._people = pipeline, people
        return pipeline

    def _hear(self, event: Progress) -> None:
        self._listen(event)


@dataclass(slots=True)
class _Heard:
    """Passes events on and remembers what the file beside the video tells."""

    listen: Listener
    notes: list[str] = field(default_factory=list)
    pace: list[float] = field(default_factory=list)
    windows: int = 0
    _since: float = field(default_factory=perf_counter)

    def __call__(self, event: Progress) -> None:
        if event.note and event.note not in self.notes:
            self.notes.append(event.note)
        if event.window > len(self.pace):
            now = perf_counter()
            self.pace.append(now - self._since)
            self._since = now
        self.windows = max(self.windows, event.windows)
        self.listen(event)


def _names(settings: Settings, people: int) -> tuple[_Five, str | None, tuple[LoRA, ...]]:
    """Files as the loaders take them: transformer, codec, text, image, speech; the speech branch; LoRAs."""
    if (folder := bundle_folder(settings)) is not None:
        one = str(folder)
        return (one, one, one, one, one), None, settings.loras
    found = find_model(settings, people=people)
    transformer = found.transformer[0] if len(found.transformer) == 1 else found.transformer[0].parent
    parts = (str(transformer), str(found.vae), str(found.text), str(found.vision), str(found.speech))
    return parts, None if found.adapter is None else str(found.adapter), found.loras


def _entry(lora: LoRA) -> dict[str, Any]:
    """A LoRA as ``WanVideoLoraSelect`` gives it."""
    strength = list(lora.strength) if isinstance(lora.strength, tuple) else lora.strength
    return {
        "path": str(lora.path),
        "strength": strength,
        "name": lora.path.stem,
        "blocks": {} if lora.blocks is None else {f"blocks.{block}.": True for block in lora.blocks},
        "layer_filter": list(lora.without),
        "low_mem_load": False,
        "merge_loras": lora.merge,
    }


def _tell(
    output: Path,
    request: Request,
    options: NodeOptions,
    keywords: Mapping[str, Any],
    seconds: float,
    heard: _Heard,
) -> None:
    """Write the JSON beside the video: what was asked, what the nodes were told, how long it took."""
    told = {
        "ai_generated": True,
        "request": TypeAdapter(Request).dump_python(request, mode="json"),
        "options": asdict(options),
        "nodes": dict(keywords),
        "file": {"name": output.name, "sha256": sha256_of(output), "bytes": output.stat().st_size},
        "windows": [{"seconds": round(one, 3)} for one in heard.pace],
        "report": {"timings": {"seconds": seconds}, "notes": heard.notes},
    }
    write_bytes(sidecar_of(output), json.dumps(told, indent=2).encode())


__all__ = ["NodeRunner"]
