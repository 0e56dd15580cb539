"""What goes wrong, as one line for people, one object for programs, and an exit code for shells."""

from __future__ import annotations

import errno
from dataclasses import asdict, dataclass
from typing import Any

from infinite_talk import InfiniteTalkError

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}

_OF_THE_SERVICE = {"fastapi", "gradio", "multipart", "prometheus_client", "psycopg", "python_multipart"}
_OF_THE_SERVICE |= {"sqlalchemy", "uvicorn"}
"""Modules of the extra ``web``."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One error as it is shown. ``expected`` is true for errors that the message explains by itself."""

    message: str
    code: str
    exit_code: int
    expected: bool = True

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        shown = {key: value for key, value in asdict(self).items() if key != "expected"}
        return {"ok": False, "error": shown}


def explain(error: BaseException) -> Failure:
    """Exit codes: 1 failed, 2 usage, 3 input, 4 model, 5 memory, 6 disk, 130 and 143 stopped."""
    if isinstance(error, InfiniteTalkError):
        return Failure(error.message, error.code, error.exit_code)
    if hasattr(error, "format_message"):  # typer's own errors about the command line
        return Failure(error.format_message(), "usage", 2)
    if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] in _OF_THE_SERVICE:
        missing = (
            f"{error.name} is not installed; jobs and the service need it: pip install 'infinite-talk[web]'."
        )
        return Failure(missing, "extra_missing", 2)
    if isinstance(error, KeyboardInterrupt):
        return Failure("Stopped.", "cancelled", 130)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return Failure(
            "The memory of this machine was not enough. Try a smaller --size or fewer --window-frames.",
            "out_of_memory",
            5,
        )
    if isinstance(error, OSError) and error.errno in _NO_SPACE:
        where = f" ({error.filename})" if error.filename else ""
        return Failure(
            f"Cannot write{where}: {error.strerror}. Free some space or choose another -o.", "no_space", 6
        )
    text = str(error).strip().split("\n")[0]
    name = type(error).__name__
    return Failure(
        f"{name}: {text or 'no message'}. This is a fault of the program: run again with --debug to see "
        f"where, and please report it.",
        "internal",
        1,
        expected=False,
    )
