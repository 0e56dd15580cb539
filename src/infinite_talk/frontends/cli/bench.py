"""``infinite-talk bench``: measure this machine."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infinite_talk import NoSpaceError, UsageError

from .show import clean
from .talk import Run

_ENUMS = ("precision", "quantization", "attention", "device", "against")
_NUMBERS = ("frames", "windows", "steps", "branches", "people", "layers", "repeats", "seed")


def bench(flags: Mapping[str, Any], run: Run) -> int:
    """Measure, print the table, write the JSON."""
    from infinite_talk.benchmarks.case import Case, case_of, parse_size, read_cases
    from infinite_talk.benchmarks.run import run_cases
    from infinite_talk.benchmarks.table import text

    base = case_of(_given(flags), Case())
    if flags["size"] is not None:
        base = case_of({"size": flags["size"]}, base)
        parse_size(flags["size"])
    asked = flags["what"] or []
    if flags["cases"] is not None and asked:
        raise UsageError(
            "--cases and --what exclude each other: each case of the file says what it measures."
        )
    if flags["cases"] is not None:
        cases = read_cases(flags["cases"], base)
    else:
        cases = tuple(case_of({"what": what}, base) for what in asked or ["dit"])
    if flags["threads"] is not None:
        _set_threads(flags["threads"])
    output: Path | None = flags["output"]
    if output is not None and not output.parent.is_dir():
        raise NoSpaceError(f"The folder of {output} is not there; make it, or give another --output.")

    def say(line: str) -> None:
        if not run.quiet:
            sys.stderr.write(clean(line) + "\n")

    def keep(report: dict[str, Any]) -> None:
        if output is not None:
            output.write_text(json.dumps(report, indent=2) + "\n", "utf-8")

    command = " ".join(["infinite-talk", *map(shlex.quote, sys.argv[1:])])
    report = run_cases(cases, command=command, say=say, keep=keep)
    failed = [case["name"] for case in report["cases"] if "problem" in case]
    run.result({"ok": not failed, **report}, "" if run.json else text(report))
    return 1 if failed else 0


def _given(flags: Mapping[str, Any]) -> dict[str, Any]:
    """The flags that are fields of a case, and were said."""
    names = {name: name for name in (*_ENUMS, *_NUMBERS, "profile", "compile")}
    names |= {"warm_up": "seconds_warm_up", "ceiling": "seconds_ceiling"}
    found = {name: flags[flag] for name, flag in names.items() if flags[flag] not in (None, False)}
    if flags["model"] is not None:
        found["model"] = str(flags["model"])
    if flags["models_dir"]:
        found["models_dir"] = flags["models_dir"][0]
    return found


def _set_threads(count: int) -> None:
    import torch

    torch.set_num_threads(count)
