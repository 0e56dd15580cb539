"""The commands. What a command does is in the file of its name, which is imported when it runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from infinite_talk import Settings, UsageError, __version__

from .config import Options, load_options, parse_assignments
from .flags import (
    ALLOW_PICKLE,
    BENCH,
    CHART,
    CONTROL,
    CONVERT,
    DEMO_OUTPUT,
    DEVICE,
    FETCH,
    FILES,
    FORCE,
    JSON,
    MODEL,
    MODELS_DIR,
    PLACE,
    REQUEST,
    TALK,
    TO,
    WORKFLOW,
    WORKFLOW_OUTPUT,
    with_flags,
)
from .requests import Files, build_settings, planned
from .service_flags import JOB_BEFORE, JOB_LIMIT, JOB_STATES, SERVE, STORE, WORKERS
from .talk import Run

app = typer.Typer(
    name="infinite-talk",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
models = typer.Typer(no_args_is_help=True, help="Get, check, explain and convert model files.")
MAKE, GET, SEE = "Make a video", "Models", "Look"
app.add_typer(models, name="models", rich_help_panel=GET)
workflow = typer.Typer(no_args_is_help=True, help="Run and check workflows of ComfyUI without it.")
app.add_typer(workflow, name="workflow", rich_help_panel=MAKE)
jobs = typer.Typer(no_args_is_help=True, help="Look at the jobs of a service and change them.")
RUN = "Service"
app.add_typer(jobs, name="jobs", rich_help_panel=RUN)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"infinite-talk {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """A portrait and a recording of speech become a talking video."""


@app.command(rich_help_panel=MAKE)
@with_flags(*FILES, *REQUEST, *MODEL, *PLACE, *DEVICE, *CONTROL, FORCE, *TALK)
def generate(**flags: Any) -> int:  # noqa: ANN401 - the rows of the table
    """Make a talking video from a portrait (or a video) and speech."""
    options = load_options(_options(flags), config=flags["config"])
    files = _files(flags)

    from .generate import Job, generate

    job = Job(
        output=flags["output"],
        official=flags["job"],
        again=flags["again"],
        resume=flags["resume"],
        force=flags["force"],
        dry_run=flags["dry_run"],
    )
    return generate(files, options, job, Run.of(flags))


@app.command(rich_help_panel=MAKE)
@with_flags(DEMO_OUTPUT, *DEVICE, *TALK)
def demo(**flags: Any) -> int:  # noqa: ANN401
    """Let the sample portrait speak the sample recording with the embedded model."""
    options = load_options(_options(flags))

    from .demo import demo

    return demo(options, flags["output"] or Path("outputs/demo.mp4"), Run.of(flags))


@app.command(rich_help_panel=SEE)
@with_flags(*FILES, *REQUEST, *MODEL, *PLACE, *DEVICE, *TALK)
def plan(**flags: Any) -> int:  # noqa: ANN401
    """Say what a run would need in memory and time, and how it would fit; nothing is loaded.

    Takes the options of generate. Without picture and sound one window is planned; --model 14b has the sizes of
    the published model without its files; --vram stands for a GPU that is not here.
    """
    options = load_options(_options(flags), config=flags["config"])
    request, settings = planned(_files(flags), options), build_settings(options)

    from .plan import plan

    return plan(request, settings, Run.of(flags))


@app.command(rich_help_panel=SEE)
@with_flags(CHART, *TALK)
def lipsync(
    video: Annotated[Path, typer.Argument(help="A talking video of a drawn portrait.", show_default=False)],
    **flags: Any,  # noqa: ANN401
) -> int:
    """Measure how well the mouth follows the sound."""
    from .lipsync import lipsync

    return lipsync(video, flags["chart"], Run.of(flags))


@app.command(rich_help_panel=SEE)
@with_flags(*STORE, *TALK)
def doctor(**flags: Any) -> int:  # noqa: ANN401
    """Say what this machine has and what will run on it, and whether the store of jobs is whole."""
    from .doctor import doctor

    return doctor(load_options(_options(flags)), Run.of(flags))


@app.command(rich_help_panel=SEE)
@with_flags(*BENCH, *DEVICE, *TALK)
def bench(**flags: Any) -> int:  # noqa: ANN401
    """Measure this machine: the transformer, the codec, whole windows, kernels, loading.

    Weights are random and made here, so that nothing is downloaded; products, attention and copies are measured in
    the same run, and every time is compared with the limit that follows from them. docs/performance.md explains it.
    """
    from .bench import bench

    return bench(flags, Run.of(flags))


@app.command(rich_help_panel=SEE)
@with_flags(JSON)
def version(**flags: Any) -> int:  # noqa: ANN401
    """Show the versions of this program and of what it stands on."""
    from .version import version

    return version(Run.of(flags))


@models.command("list")
@with_flags(MODELS_DIR, *TALK)
def list_models(**flags: Any) -> int:  # noqa: ANN401
    """List the presets: what each is for, its size and licence, and whether it is here."""
    from .models import list_models

    return list_models(_dirs(flags), Run.of(flags))


@models.command()
@with_flags(TO, FETCH, *TALK)
def pull(
    preset: Annotated[str, typer.Argument(help="Name of a preset.", show_default=False)],
    **flags: Any,  # noqa: ANN401
) -> int:
    """Download a preset; what is here already is not fetched again, an interrupted download goes on."""
    from .models import pull

    return pull(preset, flags["to"], Run.of(flags), dry_run=flags["dry_run"])


@models.command()
@with_flags(MODELS_DIR, *TALK)
def verify(
    what: Annotated[
        list[str] | None,
        typer.Argument(help="Presets, folders or files; default all that is here.", show_default=False),
    ] = None,
    **flags: Any,  # noqa: ANN401
) -> int:
    """Compare files with their checksums."""
    from .models import verify

    return verify(what or [], _dirs(flags), Run.of(flags))


@models.command("show")
@with_flags(ALLOW_PICKLE, *TALK)
def show_model(
    file: Annotated[list[Path], typer.Argument(help="Files, or folders of shards.", show_default=False)],
    **flags: Any,  # noqa: ANN401
) -> int:
    """Say what a model file is, and what is missing to use it."""
    from .models import show_files

    return show_files(file, Run.of(flags), allow_pickle=flags["allow_pickle"])


@models.command()
@with_flags(*CONVERT, ALLOW_PICKLE, FORCE, *TALK)
def convert(
    source: Annotated[Path, typer.Argument(help="A file, or a folder of shards.", show_default=False)],
    output: Annotated[Path, typer.Argument(help="The .safetensors file to write.", show_default=False)],
    **flags: Any,  # noqa: ANN401
) -> int:
    """Write a model file as safetensors, in another precision if wanted."""
    from .models import Conversion, convert

    wanted = Conversion(
        source=source,
        output=output,
        adapter=flags["adapter"],
        quantization=flags["quantization"],
        precision=flags["precision"],
        allow_pickle=flags["allow_pickle"],
        force=flags["force"],
    )
    return convert(wanted, Run.of(flags))


@workflow.command("run")
@with_flags(*WORKFLOW, *DEVICE, WORKFLOW_OUTPUT, FORCE, *TALK)
def run_workflow(
    file: Annotated[Path, typer.Argument(help="The workflow, JSON.", show_default=False)],
    **flags: Any,  # noqa: ANN401
) -> int:
    """Run a workflow that ComfyUI has saved, in the editor's or the API form, and write its video.

    The nodes are this program's own; docs/workflows.md lists those that it knows.
    """
    from .workflow import Wanted, run_workflow

    return run_workflow(Wanted.of(file, flags), _machine(flags), Run.of(flags))


@workflow.command("check")
@with_flags(*WORKFLOW, *TALK)
def check_workflow(
    file: Annotated[Path, typer.Argument(help="The workflow, JSON.", show_default=False)],
    **flags: Any,  # noqa: ANN401
) -> int:
    """Say what a workflow needs: unknown nodes, missing models and media, values out of range. Nothing is loaded."""
    from .workflow import Wanted, check_workflow

    return check_workflow(Wanted.of(file, flags), _machine(flags), Run.of(flags))


@app.command(rich_help_panel=RUN)
@with_flags(*SERVE, *STORE, *MODEL, *PLACE, *DEVICE, *TALK)
def serve(**flags: Any) -> int:  # noqa: ANN401
    """Serve the web page and the HTTP interface, and make the videos that are ordered there.

    What is said of the model and the machine is how videos are made that name no other profile; without it that is
    the embedded model. docs/http.md explains the interface.
    """
    from .serve import serve

    return serve(load_options(_options(flags), config=flags["config"]), flags, Run.of(flags))


@app.command(rich_help_panel=RUN)
@with_flags(*STORE, WORKERS, *TALK)
def worker(**flags: Any) -> int:  # noqa: ANN401
    """Make the videos of a service: one worker process per GPU, until Ctrl-C.

    The service starts its own workers; this command adds those of another machine, which needs the same data folder
    and --database.
    """
    from .worker import worker

    return worker(load_options(_options(flags)), flags["workers"], Run.of(flags))


JOB = typer.Argument(help="Id of a job.", show_default=False)


@jobs.command("list")
@with_flags(*STORE, JOB_STATES, JOB_LIMIT, *TALK)
def list_jobs(**flags: Any) -> int:  # noqa: ANN401
    """List jobs, the newest first."""
    from .jobs import list_jobs

    return list_jobs(load_options(_options(flags)), flags["state"] or [], flags["limit"], Run.of(flags))


@jobs.command("show")
@with_flags(*STORE, *TALK)
def show_job(job: Annotated[str, JOB], **flags: Any) -> int:  # noqa: ANN401
    """Say all that is known of a job."""
    from .jobs import show_job

    return show_job(load_options(_options(flags)), job, Run.of(flags))


@jobs.command("cancel")
@with_flags(*STORE, *TALK)
def cancel_job(job: Annotated[list[str], JOB], **flags: Any) -> int:  # noqa: ANN401
    """End jobs; a running one stops within a step. Finished windows are kept for retry."""
    from .jobs import act

    return act(load_options(_options(flags)), "cancel", job, Run.of(flags))


@jobs.command("pause")
@with_flags(*STORE, *TALK)
def pause_job(job: Annotated[list[str], JOB], **flags: Any) -> int:  # noqa: ANN401
    """Take jobs out of the queue until they are resumed; a running one stops within a step."""
    from .jobs import act

    return act(load_options(_options(flags)), "pause", job, Run.of(flags))


@jobs.command("resume")
@with_flags(*STORE, *TALK)
def resume_job(job: Annotated[list[str], JOB], **flags: Any) -> int:  # noqa: ANN401
    """Put paused jobs back to their places in the queue."""
    from .jobs import act

    return act(load_options(_options(flags)), "resume", job, Run.of(flags))


@jobs.command("retry")
@with_flags(*STORE, *TALK)
def retry_job(job: Annotated[list[str], JOB], **flags: Any) -> int:  # noqa: ANN401
    """Queue failed or cancelled jobs again; they continue after their finished windows."""
    from .jobs import act

    return act(load_options(_options(flags)), "retry", job, Run.of(flags))


@jobs.command("rm")
@with_flags(*STORE, *TALK)
def rm_job(job: Annotated[list[str], JOB], **flags: Any) -> int:  # noqa: ANN401
    """Forget jobs and remove their files; a running one is stopped first."""
    from .jobs import act

    return act(load_options(_options(flags)), "delete", job, Run.of(flags))


@jobs.command("move")
@with_flags(*STORE, JOB_BEFORE, *TALK)
def move_job(job: Annotated[str, JOB], **flags: Any) -> int:  # noqa: ANN401
    """Place a waiting job before another one, or at the end of its priority."""
    from .jobs import move

    return move(load_options(_options(flags)), job, flags["before"], Run.of(flags))


def commands() -> dict[str, Callable[..., int]]:
    """Every command by the words that call it: ``generate``, ``models pull``."""
    return (
        _commands(app)
        | _commands(models, "models ")
        | _commands(workflow, "workflow ")
        | _commands(jobs, "jobs ")
    )


def _commands(group: typer.Typer, before: str = "") -> dict[str, Callable[..., int]]:
    found = {}
    for info in group.registered_commands:
        assert info.callback is not None
        found[before + (info.name or info.callback.__name__)] = info.callback
    return found


def _dirs(flags: dict[str, Any]) -> tuple[Path, ...]:
    """The models folders, from the flag or from where options come from else."""
    return tuple(load_options({"models_dir": flags["models_dir"]}).models_dir or ())


def _machine(flags: dict[str, Any]) -> Settings:
    """How this machine runs a workflow: of the options, those that nodes do not have themselves."""
    names = ("models_dir", "device", "threads")
    return build_settings(load_options({name: flags[name] for name in names if flags.get(name) is not None}))


def _files(flags: dict[str, Any]) -> Files:
    lists = (tuple(flags[name] or ()) for name in ("audio", "box", "mask"))
    return Files(flags["image"], flags["video"], *lists)


def _options(flags: dict[str, Any]) -> dict[str, Any]:
    """What the command line says about options that a file may set too."""
    said = {
        name: value for name, value in flags.items() if name in Options.model_fields and value is not None
    }
    more = parse_assignments(flags.get("assignments") or [])
    if twice := sorted(set(said) & set(more)):
        raise UsageError(f"{twice[0]} is given twice: as a flag and with --set.")
    return said | more
