"""``Engine``: builds the models once, then makes videos: checks, progress, cancel, resume, plain errors."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from infinite_talk.errors import InputError, OutOfMemoryError
from infinite_talk.inputs import read_source
from infinite_talk.presets import given, resolve
from infinite_talk.progress import Listener, Phase, Progress, silent
from infinite_talk.request import Request, Speaker
from infinite_talk.settings import Settings
from infinite_talk.types import FPS, Clip, Plan, Size, Source
from infinite_talk.weights.manifest import EMBEDDED, read_manifest

if TYPE_CHECKING:
    import torch

    from infinite_talk.generate import Start
    from infinite_talk.media.recipe import Recipe
    from infinite_talk.rooms import Rooms


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
    memory: float  # bytes at the peak, roughly
    estimated_seconds: float  # that it will take, roughly
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
            CheckpointError: ``settings.model`` is not the folder of a complete model.
        """
        self.settings = settings or Settings()
        self._listen = progress
        self._manifest = read_manifest(self.settings.model or EMBEDDED)
        self.defaults = self._manifest.defaults
        self._rooms: Rooms | None = None

    def load(self) -> Rooms:
        """The models, read from disk at the first call.

        Raises:
            CheckpointError: a file is damaged.
            CapabilityError: this machine cannot run the chosen device or precision.
        """
        if self._rooms is None:
            import torch

            from infinite_talk.device import choose_device, choose_dtype
            from infinite_talk.weights.bundle import load_bundle

            if self.settings.threads is not None:
                torch.set_num_threads(self.settings.threads)
            self._listen(Progress(phase=Phase.LOADING))
            device = choose_device(self.settings)
            with _memory_explained():
                self._rooms = load_bundle(self._manifest.folder, device, choose_dtype(self.settings, device))
        return self._rooms

    def preview(self, request: Request) -> Preview:
        """Check a request and say what it will make.

        Raises:
            UsageError, InputError: what is wrong with the request or its files.
        """
        job = self.prepare(request)
        # Not before: see ``prepare``.
        from infinite_talk.denoise.guidance import branches
        from infinite_talk.device import choose_device, choose_dtype, measure_speed
        from infinite_talk.estimate import Speed, estimate

        asked, windows = job.request, len(job.plan.windows)
        asks = len(branches(given(asked.text_guidance), given(asked.audio_guidance), asked.compat))
        passes = windows * given(asked.steps) * asks
        device = choose_device(self.settings)
        dtype = choose_dtype(self.settings, device)
        cost = estimate(
            {name: part.config for name, part in self._manifest.parts.items()},
            job.source.size,
            given(asked.window_frames),
            windows,
            passes,
            Speed(measure_speed(device, dtype), dtype.itemsize),
        )
        return Preview(
            size=job.source.size,
            frames=job.plan.length,
            windows=windows,
            passes=passes,
            memory=cost.memory,
            estimated_seconds=cost.seconds,
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
        from infinite_talk.generate import plan_for

        resolved = resolve(request, self.defaults)
        return Job(resolved, source, plan_for(source, resolved))

    def generate(self, request: Request, *, progress: Listener | None = None) -> Generator[Clip]:
        """Make the video, window by window: an iterator of finished clips in order.

        The request is checked by the call itself. Closing the iterator cancels between windows; raising
        ``Cancelled`` in ``progress``, which is called after every step, cancels within one.

        Raises:
            UsageError, InputError: by this call.
            CheckpointError, CapabilityError, OutOfMemoryError, NumericalError: by the iterator.
        """
        return self.clips(self.prepare(request, progress), progress=progress)

    def clips(
        self, job: Job, *, start: Start | None = None, progress: Listener | None = None
    ) -> Generator[Clip]:
        """The clips of a prepared job, from ``start`` on (default: all)."""
        from infinite_talk.generate import Start, generate

        listen = progress or self._listen
        rooms = self.load()
        running = generate(job.request, job.source, rooms, start=start or Start(), listen=listen)
        with closing(running):
            while True:
                with _memory_explained():
                    clip = next(running, None)
                if clip is None:
                    break
                yield clip
        listen(Progress(phase=Phase.DONE, window=len(job.plan.windows), windows=len(job.plan.windows)))

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

        Finished windows are kept in a folder beside ``output`` until the video is complete. The same call
        after an interruption, however rude, continues there and ends in the same bytes.

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

        began = perf_counter()
        said: list[str] = []

        def listen(event: Progress) -> None:
            if event.note:
                said.append(event.note)
            (progress or self._listen)(event)

        job = self.prepare(request, listen)
        recipe, shown = self.recipe(job), job.plan.shown
        with Take.open(output, recipe, shown, resume=resume, overwrite=overwrite) as take:
            resumed, pace = take.finished, []
            if not take.complete:
                start = self._start(take.finished, take.motion())
                with closing(self.clips(job, start=start, progress=listen)) as clips:
                    for clip in islice(clips, len(shown.windows) - take.finished):
                        take.add(clip)
                        pace.append(clip.seconds)
            listen(Progress(phase=Phase.WRITING, window=len(shown.windows), windows=len(shown.windows)))
            notes = (*job.source.notes, *take.notes, *said)
            timings = Timings(perf_counter() - began, tuple(pace), resumed)
            path = take.finish(job.source.soundtrack, report={"timings": asdict(timings), "notes": notes})
        listen(Progress(phase=Phase.DONE, window=len(shown.windows), windows=len(shown.windows)))
        return Result(path, job.source.size, job.plan.length, recipe.to_json(), timings, notes)

    def recipe(self, job: Job) -> Recipe:
        """Everything that the pixels of a job depend on."""
        from infinite_talk.device import choose_device, precision_of
        from infinite_talk.media.recipe import Machine, Recipe

        device = choose_device(self.settings)
        machine = Machine(
            device=device.type,
            precision=precision_of(self.settings, device),
            threads=self.settings.threads,
            crf=self.settings.crf,
        )
        model = {
            "name": self._manifest.name,
            "version": self._manifest.version,
            "sha256": self._manifest.digest,
        }
        return Recipe.of(job.request, size=job.source.size, plan=job.plan.shown, machine=machine, model=model)

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
    plan = plan_windows(recipe.picture["frames"], frames=frames, motion=motion)
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


@contextmanager
def _memory_explained() -> Iterator[None]:
    """Turn the several ways in which memory runs out into ``OutOfMemoryError``."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # torch's CPU allocator raises a plain RuntimeError; its CUDA error is a subclass of it.
        text = str(error).lower()
        if (
            not isinstance(error, MemoryError)
            and "out of memory" not in text
            and "allocate memory" not in text
        ):
            raise
        raise OutOfMemoryError(
            "The memory of this machine does not hold the run. Choose a smaller size or fewer window frames, "
            "close other programs, or use a machine with more memory."
        ) from error
