"""Makes the video of an order that asks for ``NodeOptions``, with the nodes in the order of a talking video.

As ``Engine.write`` it has a take: interrupted, it goes on after the last finished window, and ends in the same bytes.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from infinite_talk.denoise.times import NOISE_TIME, timesteps
from infinite_talk.device import choose_device, precision_of
from infinite_talk.inputs.image import read_image
from infinite_talk.jobs.node_options import NodeOptions, pipeline_options
from infinite_talk.media.recipe import Recipe
from infinite_talk.media.take import Take
from infinite_talk.pipeline import InfiniteTalkPipeline
from infinite_talk.presets import given, resolve
from infinite_talk.progress import Listener, Phase, Progress, silent
from infinite_talk.request import Request
from infinite_talk.runtime import Runtime
from infinite_talk.settings import LoRA, Precision, Settings
from infinite_talk.types import Plan, Size
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
        self,
        request: Request,
        options: NodeOptions,
        output: Path,
        *,
        resume: bool = True,
        progress: Listener = silent,
    ) -> Path:
        """Make the video, and the JSON file beside it.

        Args:
            request: with paths that can be opened.
            output: the mp4 file; it appears only when it is complete, and replaces an older one.
            resume: ``False`` starts afresh.
            progress: hears what goes on; raising ``Cancelled`` in it stops the run.

        Raises:
            UsageError: the request and the options exclude each other.
            TakeError: what an earlier run has left cannot be continued, or another process works on it.
            InfiniteTalkError: as ``InfiniteTalkPipeline.generate``.
        """
        options.check(request)
        assert request.image is not None, "checked"
        heard = _Heard(progress)
        pipeline, keywords = self._pipeline(len(request.speakers)), self._keywords(request, options)
        sounds = [one.audio for one in request.speakers if one.audio is not None]
        with ExitStack() as stack:

            def open_take(plan: Plan, size: Size) -> Take:
                recipe = self._recipe(request, options, plan, size)
                heard.take = stack.enter_context(
                    Take.open(output, recipe, plan, resume=resume, overwrite=True)
                )
                return heard.take

            self._listen = heard
            try:
                sound = pipeline.grow(request.image, sounds, request.prompt, open_take, **keywords)
            finally:
                self._listen = silent
            assert heard.take is not None, "the sampler opens it"
            windows = len(heard.take.plan.windows)
            progress(Progress(phase=Phase.WRITING, window=windows, windows=windows))
            heard.take.finish(sound, report=heard.report() | {"nodes": keywords})
        progress(Progress(phase=Phase.DONE, window=windows, windows=windows))
        return output

    def _recipe(self, request: Request, options: NodeOptions, plan: Plan, size: Size) -> Recipe:
        """Everything that the pixels depend on."""
        runtime = Runtime.of(
            self.settings, len(request.speakers)
        )  # headers only: what the files are, and what runs
        return Recipe.of(
            resolve(request, defaults_of(self.settings)),
            size=size,
            plan=plan,
            machine=runtime.machine,
            model=runtime.model.identity,
            rate=int(options.fps) if options.fps == int(options.fps) else options.fps,
            options=asdict(options),
        )

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
    """Passes events on, and remembers what the file beside the video tells."""

    listen: Listener
    notes: list[str] = field(default_factory=list)
    take: Take | None = None
    began: float = field(default_factory=perf_counter)

    def __call__(self, event: Progress) -> None:
        if event.note and event.note not in self.notes:
            self.notes.append(event.note)
        self.listen(event)

    def report(self) -> dict[str, Any]:
        """How long this run took, and what was said."""
        return {"timings": {"seconds": perf_counter() - self.began}, "notes": self.notes}


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


__all__ = ["NodeRunner"]
