"""Writes ``docs/cli.md`` from the commands themselves: ``python -m infinite_talk.frontends.cli.reference``."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from enum import StrEnum
from itertools import groupby
from typing import Any

from .app import commands
from .config import PREFIX, Options
from .flags import PANELS, Flag, flags_of

HEAD = """# Command line

Written by `python -m infinite_talk.frontends.cli.reference > docs/cli.md`; a test compares it with the program.

Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 failed, 2 wrong option, 3 unusable input,
4 model missing or damaged, 5 out of memory, 6 cannot write the output, 130 stopped by Ctrl-C, 143 stopped by SIGTERM.
Ctrl-C once stops at the next step and keeps what is finished; twice stops at once (also harmless).
Colours and the live line are used on a terminal only; `NO_COLOR` turns the colours off.
"""
FILE = f"""## Configuration

Options can also be given as variables (`{PREFIX}STEPS=8`) or in a TOML file: the one named by `--config`, else by
`{PREFIX}CONFIG`, else `~/.config/infinite_talk/config.toml` if it exists. A flag wins over a variable, a variable
over the file, the file over the model's own defaults. Unknown names are errors. `--set name=value` sets any of them.

```toml
model = "models/infinitetalk"   # relative to this file
steps = 8
text_guidance = 1.0
```

Names: {{names}}.
"""


def reference() -> str:
    """The whole page."""
    pages = [_command(words, command) for words, command in commands().items()]
    names = ", ".join(f"`{name}`" for name in Options.model_fields)
    return "\n".join([HEAD, *pages, FILE.format(names=names)])


def _command(words: str, command: Callable[..., Any]) -> str:
    own = [
        p.name.upper()
        for p in inspect.signature(command).parameters.values()
        if p.kind is p.POSITIONAL_OR_KEYWORD
    ]
    title = " ".join(["infinite-talk", words, *own])
    lines = [f"## {title}", "", inspect.getdoc(command) or ""]
    for panel, flags in groupby(sorted(flags_of(command), key=_panel), key=_panel):
        lines += ["", f"**{PANELS[panel]}**", "", "| option | meaning |", "|---|---|"]
        lines += [f"| {_spelling(flag)} | {_cell(flag.help)} |" for flag in flags]
    return "\n".join(lines) + "\n"


def _panel(flag: Flag) -> int:
    return PANELS.index(flag.panel)


def _spelling(flag: Flag) -> str:
    """``--image, -i FILE``; choices instead of the kind where there are some."""
    names = ", ".join(f"`{name}`" for spelling in flag.spellings.split() for name in spelling.split("/"))
    if flag.kind is bool or flag.count:
        return names
    if isinstance(flag.kind, type) and issubclass(flag.kind, StrEnum):
        return _cell(f"{names} {'|'.join(flag.kind)}")
    kinds = {int: "N", float: "X"}
    return f"{names} {flag.metavar or kinds.get(flag.kind, 'TEXT')}"


def _cell(text: str) -> str:
    """Text inside a table of Markdown."""
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(reference())
