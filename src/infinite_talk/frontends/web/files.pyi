"""Fields that take files. They hand on paths and decode nothing; a path that was not uploaded is refused here.

Gradio trusts the paths that a browser sends when its page is mounted on another application (its own check only works
on a page that was launched). The page sets the flag that switches the check on; this is the second lock.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import FileData, ListFiles

from infinite_talk import InputError

def uploaded(path: str | Path, folder: str | Path) -> Path:
    """The file at ``path``, if it is a regular one within ``folder`` and no link leads out of it.

    Raises:
        InputError: ``file_outside``. The message does not tell whether there is such a file.
    """
    refusal = InputError(
        "This file was not uploaded on this page. Upload it; paths are not taken.", code="file_outside"
    )
    try:
        root, found = Path(folder).resolve(strict=True), Path(path).resolve(strict=True)
    except (OSError, ValueError, RuntimeError):
        raise refusal from None
    if not found.is_relative_to(root) or found == root or not found.is_file():
        raise refusal
    return found

def _one(payload: Any, folder: str) -> Path | None:  # noqa: ANN401 - what the browser sent
    if isinstance(payload, ListFiles):
        payload = payload.root[0] if payload.root else None
    if payload is None or not payload.path:
        return None
    return uploaded(payload.path, folder)

def _shown(value: str | Path | None) -> FileData | None:
    """A file for the browser; only ever one in the folder of uploads."""
    if value is None:
        return None
    path = Path(value)
    return FileData(path=str(path), orig_name=path.name, size=path.stat().st_size)

from gradio.events import Dependency

class AnyFile(gr.File):
    """One file of any kind; the handler gets its ``Path``."""

    is_template = True

    def preprocess(self, payload: ListFiles | FileData | None) -> Any:  # noqa: ANN401 - Gradio's signature
        return _one(payload, self.GRADIO_CACHE)

    def postprocess(self, value: Any) -> Any:  # noqa: ANN401 - likewise
        return _shown(value)
    from typing import Callable, Literal, Sequence, Any, TYPE_CHECKING
    from gradio.blocks import Block
    if TYPE_CHECKING:
        from gradio.components import Timer
        from gradio.components.base import Component

class Recording(gr.Audio):
    """A recording, uploaded or spoken into the microphone; the handler gets its ``Path``."""

    is_template = True

    def preprocess(self, payload: FileData | None) -> Any:  # noqa: ANN401 - Gradio's signature
        return _one(payload, self.GRADIO_CACHE)

    def postprocess(self, value: Any) -> Any:  # noqa: ANN401 - likewise
        return _shown(value)
    from typing import Callable, Literal, Sequence, Any, TYPE_CHECKING
    from gradio.blocks import Block
    if TYPE_CHECKING:
        from gradio.components import Timer
        from gradio.components.base import Component
