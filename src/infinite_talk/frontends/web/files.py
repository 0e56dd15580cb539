"""Fields that take files, and the rule for the paths that come back: only what was uploaded is ever opened.

Gradio trusts the paths that a browser sends when its page is mounted on another application (its own check only works
on a page that was launched). The page sets the flag that switches the check on; ``uploaded`` is the second lock, and
every handler takes its paths through it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import FileData, ListFiles

from infinite_talk import InputError


def uploaded(path: object, folder: Path) -> Path | None:
    """The file that a field holds, if it is a regular one within ``folder`` and no link leads out of it.

    Args:
        path: as it came; ``None`` and ``""`` are an empty field.
        folder: of all uploads.

    Raises:
        InputError: ``file_outside``. The message does not tell whether there is such a file.
    """
    if path is None or path == "":
        return None
    refusal = InputError(
        "This file was not uploaded on this page. Upload it; paths are not taken.", code="file_outside"
    )
    if not isinstance(path, str | Path):
        raise refusal
    try:
        root, found = folder.resolve(strict=True), Path(path).resolve(strict=True)
    except (OSError, ValueError, RuntimeError):
        raise refusal from None
    if not found.is_relative_to(root) or not found.is_file():
        raise refusal
    return found


def file_field(**options: Any) -> gr.File:  # noqa: ANN401 - of ``gr.File``
    """A field for one file of any kind."""
    field = gr.File(**options)
    _leave_alone(field)
    return field


def voice_field(**options: Any) -> gr.Audio:  # noqa: ANN401 - of ``gr.Audio``
    """A field for a recording, uploaded or spoken into the microphone."""
    field = gr.Audio(type="filepath", **options)
    _leave_alone(field)
    return field


def _leave_alone(field: Any) -> None:  # noqa: ANN401 - a component
    """Let a field hand on paths and open nothing: Gradio's own steps decode, convert, or leave empty files behind.

    They are replaced on the component itself, as a class of our own would make Gradio write files beside this one.
    """
    vars(field).update(preprocess=_path_of, postprocess=_shown)


def _path_of(payload: Any) -> str | None:  # noqa: ANN401 - what the browser sent
    if isinstance(payload, ListFiles):
        payload = payload.root[0] if payload.root else None
    return None if payload is None else payload.path


def _shown(value: str | Path | None) -> FileData | None:
    if value is None:
        return None
    path = Path(value)
    return FileData(path=str(path), orig_name=path.name, size=path.stat().st_size)
