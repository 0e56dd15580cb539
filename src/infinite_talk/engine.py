"""``Engine``: builds the models once, then makes videos: checks, progress, cancel, resume, plain errors."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from infinite_talk.errors import InputError
from infinite_talk.inputs import read_source
from infinite_talk.presets import resolve
from infinite_talk.progress import Listener, Phase, Progress, silent
from infinite_talk.request import Request, Speaker
from infinite_talk.settings import Settings
from infinite_talk.types import FPS, Clip, Plan, Size, Source
from infinite_talk.weights.distilled import check_distilled
from infinite_talk.weights.manifest import EMBEDDED, bundle_folder, defaults_of

if TYPE_CHECKING:
    import torch

    from infinite_talk.generate import Start
    from infinite_talk.media.recipe import Recipe
    from infinite_talk.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Job:
    """A request whose media have been read: everything that can be wrong with it has been found."""

    request: Request  # resolved
    source: Source
    plan: Plan


@dataclass(frozen=True, slots=True)
class Preview:
    """What a request will make, known without running a model."""

    size: Size
    frames: int
    windows: int
    passes: int  # of the transformer, in all
    memory: float  # bytes on the device at the peak
    host: float  # bytes of host memory beside a GPU; 0 on a CPU
    estimated_seconds: float  # that it will take, roughly
    runs: str  # device, precision, attention
    strategy: str  # what is done so that it fits, in one line
    notes: tuple[str, ...]  # what was changed or guessed in the media

    @property
    def seconds(self) -> float:
        """Length of the video."""
        return self.frames / FPS


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time went."""

    seconds: float  # of this run, all in all
    windows: tuple[float, ...]  # seconds of each window made in this run
    resumed: int  # windows that an earlier run had finished


@dataclass(frozen=True, slots=True)
class Result:
    """A finished video."""

    path: Path
    size: Size
    frames: int
    recipe: dict[str, Any]  # as in the video's metadata
    timings: Timings
    notes: tuple[str, ...]  # what was changed or guessed
    skipped: tuple[Mapping[str, int], ...] = ()
    """Steps that a step cache left out, by window and guidance branch; empty windows without one."""

    @property
    def seconds(self) -> float:
        """Length of the video."""
        return self.frames / FPS


class Engine:
    """One model on one device. Making it is cheap; the weights are read when they are first needed, so that a
    bad request is refused before.

        engine = Engine()
        for clip in engine.generate(Request(image=..., speakers=(Speaker(audio=...),))):
            show(clip.frames)

    One video at a time: calls from several threads take turns at the caller's care.
    """

    def __init__(self, settings: Settings | None = None, *, progress: Listener = silent) -> None:
        """``progress`` hears of the loading of the model, and is the default listener of every run.

        Raises:
            CheckpointError: ``settings.model`` is a folder whose ``model.json`` is damaged.
        """
        self.settings = settings or Settings()
        self._listen = progress
        self.defaults = defaults_of(self.settings)
        self._runtime: Runtime | None = None

    @property
    def embedded(self) -> bool:
        """Whether the model is the one that comes with the package."""
        return bundle_folder(self.settings) == EMBEDDED

    def runtime(self, people: int = 1) -> Runtime:
        """The model's files, opened, and what runs; weights are read when they are first needed.

        Args:
            people: how many will speak; may choose between the speech branches in a folder.

        Raises:
            CheckpointError: a file is missing, damaged, or does not fit.
            CapabilityError: this machine cannot run what was chosen.
        """
        from infinite_talk.runtime import Runtime

        if self._runtime is None or not self._runtime.suits(people):
            runtime = Runtime.of(self.settings, people)
            if self._runtime is not None and runtime.model.identity == self._runtime.model.identity:
                runtime = self._runtime.also_for(people)
            self._runtime = runtime
        return self._runtime

    def preview(self, request: Request) -> Preview:
        """Check a request and say what it will make.

        Raises:
            UsageError, InputError: what is wrong with the request or its files.
            CheckpointError, CapabilityError: of the model.
        """
        job = self._checked(request)
        runtime = self.runtime(len(job.source.speech))
        from infinite_talk.runtime import work_of

        plan = runtime.plan(job.request, job.source, job.plan, timed=True)
        work = work_of(job.request, job.source, job.plan)
        return Preview(
            size=job.source.size,
            frames=job.plan.length,
            windows=work.windows,
            passes=work.windows * work.steps * work.branches,
            memory=plan.peak,
            host=plan.host,
            estimated_seconds=plan.seconds_once + work.windows * plan.seconds_per_window,
            runs=str(runtime.how),
            strategy=plan.reason,
            notes=job.source.notes,
        )

    def prepare(self, request: Request, progress: Listener | None = None) -> Job:
        """Fill in the model's defaults, read and check all media, plan the windows. Loads no model.

        Raises:
            UsageError, InputError: what is wrong with the request or its files.
        """
        (progress or self._listen)(Progress(phase=Phase.READING))
        source = read_source(request, self.settings, default_size=self.defaults.size)
        # Not before: torch takes its time to load, and a bad file should be named at once.
        from infinite_talk.denoise.sampler import Sampler
        from infinite_talk.generate import plan_for

        resolved = resolve(request, self.defaults)
        Sampler.of(resolved)  # its scheduler has to exist
        return Job(resolved, source, plan_for(source, resolved))

    def generate(self, request: Request, *, progress: Listener | None = None) -> Generator[Clip]:
        """Make the video, window by window: an iterator of finished clips in order.

        The request is checked by the call itself. Closing the iterator cancels between windows; raising
        ``Cancelled`` in ``progress``, which is called after every step, cancels within one.

        Raises:
            UsageError, InputError: by this call.
            CheckpointError, CapabilityError, OutOfMemoryError, NumericalError: by the iterator.
        """
        return self.clips(self._checked(request, progress), progress=progress)

    def clips(
        self, job: Job, *, start: Start | None = None, progress: Listener | None = None
    ) -> Generator[Clip]:
        """The clips of a prepared job, from ``start`` on (default: all).

        When the GPU's memory runs out, the window is made again on a plan that needs less, until there is none.
        """
        from infinite_talk.generate import Start, generate

        listen, windows = progress or self._listen, len(job.plan.windows)
        runtime = self.runtime(len(job.source.speech))
        runtime.announce(listen)
        plan = runtime.plan(job.request, job.source, job.plan)
        start = start or Start()
        while start.window < windows:
            rooms = runtime.rooms(plan, listen)
            running = generate(job.request, job.source, rooms, start=start, listen=listen)
            with closing(running), runtime.short_of_memory() as short:
                for clip in running:
                    start = Start(clip.window.index + 1, clip.motion)
                    yield clip
            if short:
                plan = runtime.lower(plan, job.request, job.source, job.plan)
                note = f"The memory ran out in window {start.window + 1}; once more with less: {plan.reason}."
                listen(Progress(phase=Phase.SAMPLING, window=start.window, windows=windows, note=note))
        listen(Progress(phase=Phase.DONE, window=windows, windows=windows))

    def write(
        self,
        request: Request,
        output: Path,
        *,
        resume: bool = True,
        overwrite: bool = False,
        progress: Listener | None = None,
    ) -> Result:
        """Make the video as an mp4 file with its sound, and a JSON file beside it with the whole recipe.

        Finished windows are kept in a folder beside ``output`` until the video is complete; each is encoded
        while the next one is made. The same call after an interruption, however rude, continues after the last
        one on disk and ends in the same bytes.

        Args:
            output: the mp4 file; it appears only when it is complete.
            resume: ``False`` starts afresh.
            overwrite: replace a finished ``output`` instead of refusing.

        Raises:
            UsageError, InputError: before any model is loaded.
            NoSpaceError, TakeError: the output cannot be written, or someone else is writing it.
            CheckpointError, CapabilityError, OutOfMemoryError, NumericalError: while making it.
        """
        from infinite_talk.media.take import Take
        from infinite_talk.media.writer import Writer

        began = perf_counter()
        said: list[str] = []

        def listen(event: Progress) -> None:
            if event.note:
                said.append(event.note)
            (progress or self._listen)(event)

        job = self._checked(request, listen)
        recipe, shown = self.recipe(job), job.plan.shown
        with Take.open(output, recipe, shown, resume=resume, overwrite=overwrite) as take:
            resumed, pace = take.finished, []
            if not take.complete:
                start = self._start(take.finished, take.motion())
                missing = len(shown.windows) - take.finished
                with Writer(take) as writer:

                    def heed(event: Progress) -> None:
                        writer.check()  # a full disk is told at the next step and not after a whole window
                        listen(event)

                    with closing(self.clips(job, start=start, progress=heed)) as clips:
                        for clip in islice(clips, missing):
                            writer.add(clip)
                            pace.append(clip.seconds)
            listen(Progress(phase=Phase.WRITING, window=len(shown.windows), windows=len(shown.windows)))
            notes = (*job.source.notes, *take.notes, *said)
            timings = Timings(perf_counter() - began, tuple(pace), resumed)
            skipped = take.skipped
            path = take.finish(job.source.soundtrack, report={"timings": asdict(timings), "notes": notes})
        listen(Progress(phase=Phase.DONE, window=len(shown.windows), windows=len(shown.windows)))
        return Result(path, job.source.size, job.plan.length, recipe.to_json(), timings, notes, skipped)

    def recipe(self, job: Job) -> Recipe:
        """Everything that the pixels of a job depend on."""
        from infinite_talk.media.recipe import Recipe

        runtime = self.runtime(len(job.source.speech))
        return Recipe.of(
            job.request,
            size=job.source.size,
            plan=job.plan.shown,
            machine=runtime.machine,
            model=runtime.model.identity,
        )

    def _checked(self, request: Request, progress: Listener | None = None) -> Job:
        """As ``prepare``, for a run with these settings: the LoRA that the request counts on is there."""
        check_distilled(request.distilled, self.settings)
        return self.prepare(request, progress)

    @staticmethod
    def _start(window: int, motion: torch.Tensor | None) -> Start:
        from infinite_talk.generate import Start

        return Start(window, motion)


def window_seams(video: Path) -> tuple[int, ...]:
    """First frames of a video's windows after the first one, from the recipe inside it.

    Empty for a video of another program, and where the recipe alone does not tell (scene cuts, official windows).
    """
    from infinite_talk.media.recipe import Recipe, plan_hash
    from infinite_talk.plan.windows import plan_windows

    try:
        recipe = Recipe.from_file(video)
    except InputError:
        return ()
    frames, motion = int(recipe.request["window_frames"]), int(recipe.request["motion_frames"])
    plan = plan_windows(int(recipe.picture["frames"]), frames=frames, motion=motion)
    if plan_hash(plan) != recipe.plan["sha256"]:
        return ()
    return tuple(window.start + window.overlap for window in plan.windows if window.overlap)


def talk(
    image: Path | str,
    audio: Path | str | Sequence[Path | str],
    output: Path | str,
    *,
    settings: Settings | None = None,
    overwrite: bool = False,
    progress: Listener = silent,
    **options: Any,  # noqa: ANN401 - as Request's fields
) -> Result:
    """One call: the portrait ``image`` (or film) says ``audio``, in the mp4 file ``output``.

    Args:
        image: a picture; a file with the ending of a film is dubbed.
        audio: a recording, or one for each person in the picture.
        options: any other field of ``Request``, such as ``prompt="..."`` or ``steps=8``.

    Raises:
        InfiniteTalkError: see ``Engine.write``.
    """
    recordings = [audio] if isinstance(audio, (str, Path)) else audio
    film = Path(image).suffix.lower() in FILM_ENDINGS
    request = Request(
        image=None if film else Path(image),
        video=Path(image) if film else None,
        speakers=tuple(Speaker(audio=Path(recording)) for recording in recordings),
        **options,
    )
    engine = Engine(settings, progress=progress)
    return engine.write(request, Path(output), overwrite=overwrite)


FILM_ENDINGS = {".mp4", ".mov", ".mkv", ".avi", ".webm", ".flv", ".wmv", ".mpg", ".mpeg", ".m4v"}
"""Files that ``talk`` takes for films; what is in a file is looked at when it is opened."""
