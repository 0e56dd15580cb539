"""``infinite-talk workflow``: run and check workflows of ComfyUI without it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import platformdirs

from infinite_talk import Settings, UsageError
from infinite_talk.frontends.workflow.assign import assign, with_media
from infinite_talk.frontends.workflow.checking import Checked, Step, check_graph, check_media, note_separators
from infinite_talk.frontends.workflow.cost import cost_line
from infinite_talk.frontends.workflow.embedded import for_embedded
from infinite_talk.frontends.workflow.graph import Graph, Node
from infinite_talk.frontends.workflow.known import KnownNodes
from infinite_talk.frontends.workflow.reading import read_workflow
from infinite_talk.frontends.workflow.running import Outcome, run_graph
from infinite_talk.nodes.helpers.place import PLACE, Place
from infinite_talk.nodes.host import Host, ModelFolders, hosted

from .generate import check_output, listener
from .show import Show, clean
from .stop import polite_stop
from .talk import Run

_WRITERS = ("VHS_VideoCombine", "SaveVideo", "SaveImage")
_VIDEO = ("VHS_VideoCombine", "SaveVideo")
_TALKING = "WanVideoImageToVideoMultiTalk"
EMBEDDED = "embedded"
_INPUT_FAILED = 3


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a command was asked to do with which workflow."""

    file: Path
    assignments: tuple[str, ...]
    media: Mapping[str, Path]
    input_dirs: tuple[Path, ...]
    models: str | None
    output: Path | None = None
    force: bool = False

    @classmethod
    def of(cls, file: Path, flags: Mapping[str, Any]) -> Wanted:
        """From the flags of a command.

        Raises:
            UsageError: ``--models`` with anything but ``embedded``.
        """
        if flags["models"] not in (None, EMBEDDED):
            raise UsageError(
                f"--models {flags['models']}: only {EMBEDDED} is known; folders of models go to --models-dir."
            )
        media = {kind: flags[kind] for kind in ("image", "video", "audio") if flags[kind] is not None}
        return cls(
            file,
            tuple(flags["values"] or ()),
            media,
            tuple(flags["input_dir"] or ()),
            flags["models"],
            flags.get("output"),
            flags.get("force", False),
        )


@dataclass(frozen=True, slots=True)
class Prepared:
    """A workflow with the changes that were asked for, looked through."""

    graph: Graph
    told: Graph
    """As it goes into the metadata: without the places of files on this machine."""
    checked: Checked
    place: Place
    lines: tuple[str, ...] = ()
    """What was changed for the embedded model."""


def run_workflow(wanted: Wanted, settings: Settings, run: Run) -> int:
    """Run a workflow and write its results."""
    stopping = polite_stop("files that are written stay", "the same command begins anew")
    with stopping as stop, Show(quiet=run.quiet) as show, _notes(show, run):
        host = _host(wanted, settings, listener(show, stop))
        with hosted(host):
            prepared = _prepare(wanted)
            for line in prepared.lines:
                show.note(line)
            for finding in prepared.checked.findings:
                if not finding.fatal:
                    show.note(finding.message)
            prepared.checked.require()
            outputs = _outputs(prepared.checked, wanted)
            place = replace(
                prepared.place, outputs=outputs, tell=show.note, follow_sound=_talks(prepared.checked)
            )

            def before(at: int, count: int, node: Node, arguments: Mapping[str, Any]) -> None:
                stop.check()
                show.note(f"{at + 1}/{count} {node.name}")
                if line := cost_line(arguments):
                    show.note(line)

            outcomes = run_graph(
                prepared.checked, KnownNodes(), hidden=_hidden(prepared, place), listener=before
            )
    run.result(*_result(outcomes))
    return 0


def check_workflow(wanted: Wanted, settings: Settings, run: Run) -> int:
    """Say what is in a workflow and what stands in its way; nothing is loaded."""
    with hosted(_host(wanted, settings, lambda _: None)):
        prepared = _prepare(wanted)
        checked = note_separators(prepared.checked)
    running = {step.node.id for step in checked.steps}
    nodes = [
        {"id": node.id, "type": node.type, "title": node.title, "runs": node.id in running}
        for node in prepared.graph.nodes.values()
    ]
    problems, notes = (
        [
            {"kind": one.kind, "node": one.node, "type": one.type, "title": one.title, "message": one.message}
            for one in checked.findings
            if one.fatal is fatal
        ]
        for fatal in (True, False)
    )
    values = {
        "ok": not problems,
        "form": prepared.graph.form,
        "nodes": nodes,
        "problems": problems,
        "notes": notes,
    }
    run.result(values, clean(_report(prepared, values)))
    return _INPUT_FAILED if problems else 0


def _report(prepared: Prepared, values: Mapping[str, Any]) -> str:
    rows = [
        f"  {node['id']:>5}  {node['type']}"
        + (f"  ({node['title']})" if node["title"] else "")
        + ("" if node["runs"] else "  - does not run")
        for node in values["nodes"]
    ]
    lines = [
        f"{len(rows)} nodes ({prepared.graph.form} form), {len(prepared.checked.steps)} of them run:",
        *rows,
    ]
    for title in ("problems", "notes"):
        if values[title]:
            lines += [f"{title}:", *(f"- {one['message']}" for one in values[title])]
    return "\n".join([*lines, "It can run." if values["ok"] else "It cannot run."])


def _host(wanted: Wanted, settings: Settings, listen: Any) -> Host:  # noqa: ANN401 - a function
    return Host(
        places=ModelFolders(settings.models_dirs),
        settings=settings,
        listen=listen,
        embedded=wanted.models == EMBEDDED,
        text_cache=platformdirs.user_cache_path("infinite_talk") / "texts",
    )


def _prepare(wanted: Wanted) -> Prepared:
    """Read, change and check a workflow."""
    classes = KnownNodes()
    told = assign(read_workflow(wanted.file, classes), wanted.assignments, classes)
    graph, lines = for_embedded(told, classes) if wanted.models == EMBEDDED else (told, ())
    graph = with_media(graph, wanted.media, classes)
    given = {path.absolute() for path in wanted.media.values()}
    given |= {
        Path(text.partition("=")[2]) for text in wanted.assignments if Path(text.partition("=")[2]).is_file()
    }
    folder = wanted.file.absolute().parent
    place = Place(folders=(*wanted.input_dirs, folder, folder / "input"), given=frozenset(given))
    return Prepared(graph, told, check_media(check_graph(graph, classes), place), place, lines)


def _talks(checked: Checked) -> bool:
    return any(step.node.type == _TALKING for step in checked.steps)


def _outputs(checked: Checked, wanted: Wanted) -> dict[str, Path]:
    """Where each writer writes: one video takes the name as it is, what else there is gets its node's id added.

    Raises:
        NoSpaceError: one of the files cannot be written.
    """
    output = wanted.output or Path(f"{wanted.file.stem}.mp4")
    writers = [step for step in checked.steps if step.node.type in _WRITERS]
    films = [step for step in writers if step.node.type in _VIDEO]
    first: Step | None = films[0] if len(films) == 1 else None
    outputs = {
        step.node.id: output if step is first else output.with_stem(f"{output.stem}-{step.node.id}")
        for step in writers
    }
    for step in films:
        check_output(outputs[step.node.id].with_suffix(".mp4"), force=wanted.force)
    return outputs


def _hidden(prepared: Prepared, place: Place) -> dict[str, Any]:
    told = prepared.told
    extra = {"workflow": told.source} if told.form == "editor" else {}
    return {PLACE: place, "PROMPT": told.as_prompt(), "EXTRA_PNGINFO": extra}


def _result(outcomes: tuple[Outcome, ...]) -> tuple[dict[str, Any], str]:
    files = [
        {"node": outcome.node.id, **shown}
        for outcome in outcomes
        for kind in ("videos", "images")
        for shown in outcome.ui.get(kind, ())
    ]
    texts = {outcome.node.id: text for outcome in outcomes for text in outcome.ui.get("text", ())}
    paths = "\n".join(str(file["path"]) for file in files)
    return {"ok": True, "files": files, "texts": texts}, clean(paths or "The workflow wrote no file.")


@contextmanager
def _notes(show: Show, run: Run) -> Iterator[None]:
    """While the block runs, lines that nodes log are shown, as they say what falls back and why."""
    logger = logging.getLogger("infinite_talk.nodes")
    if run.verbose or run.quiet:  # the log goes to stderr itself, or nowhere
        yield
        return
    handler, before = _Lines(show), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    propagate, logger.propagate = logger.propagate, False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
        logger.propagate = propagate


class _Lines(logging.Handler):
    """Log records as lines between the progress."""

    def __init__(self, show: Show) -> None:
        super().__init__(logging.INFO)
        self._show = show

    def emit(self, record: logging.LogRecord) -> None:
        """Show one."""
        (self._show.warn if record.levelno >= logging.WARNING else self._show.note)(record.getMessage())
