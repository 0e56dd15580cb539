"""Running cases one after another, with their results as plain values for JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from infinite_talk.benchmarks.about import about
from infinite_talk.benchmarks.case import Case, What, named
from infinite_talk.benchmarks.codec import measure_codec
from infinite_talk.benchmarks.dit import measure_dit
from infinite_talk.benchmarks.kernels import measure_attention, measure_linear
from infinite_talk.benchmarks.load import check_loadable, measure_load
from infinite_talk.benchmarks.rival import Same, compared, diffusers_version
from infinite_talk.benchmarks.stand import Prepared, Say, Stand, case_model, folder, settings_of
from infinite_talk.benchmarks.window import measure_window
from infinite_talk.device import choose_device
from infinite_talk.errors import InfiniteTalkError, OutOfMemoryError
from infinite_talk.runtime import is_out_of_memory

Measure = Callable[[Prepared, Stand], dict[str, Any]]
MEASURES: dict[What, Measure] = {
    What.DIT: measure_dit,
    What.VAE: measure_codec,
    What.WINDOW: measure_window,
    What.ATTENTION: measure_attention,
    What.LINEAR: measure_linear,
    What.LOAD: measure_load,
}
SCHEMA = "infinite-talk-bench/1"


def run_cases(
    cases: Sequence[Case],
    *,
    command: str,
    say: Say,
    keep: Callable[[dict[str, Any]], None] = lambda _report: None,
) -> dict[str, Any]:
    """Measure all cases in this process.

    Cases that need the same model should follow each other: it is then made once.

    Args:
        command: what was typed, for the record.
        say: hears what is being done.
        keep: is given the report after each case, so that an interrupted run leaves what it has.

    Returns:
        the report: ``schema``, ``date``, ``command``, ``machine``, ``versions``, ``cases``. A case that this
        machine cannot run has ``problem`` instead of results if it is one of several.

    Raises:
        InfiniteTalkError: a case makes no sense; or the only case cannot run.
    """
    cases = named(cases)
    check(cases)
    device = choose_device(settings_of(cases[0]))
    report = {"schema": SCHEMA, **about(command, device), "cases": []}
    with folder() as made:
        stand = Stand(Path(made), say)
        try:
            for case in cases:
                say(f"{case.name}: {case.what}")
                report["cases"].append(one_case(case, stand, alone=len(cases) == 1))
                keep(report)
        finally:
            stand.release()
    return report


def check(cases: Iterable[Case]) -> None:
    """What is known to fail before anything is made."""
    for case in cases:
        choose_device(settings_of(case))
        if case.what is What.LOAD:
            check_loadable(case)
        if case.against is not None:
            diffusers_version()


def one_case(case: Case, stand: Stand, *, alone: bool) -> dict[str, Any]:
    """One result with what was asked and what ran."""
    found: dict[str, Any] = {"name": case.name, "what": str(case.what), "case": described(case)}
    try:
        found["result"] = measured(case, stand, found)
    except (InfiniteTalkError, RuntimeError) as error:
        failure = as_ours(error)
        if alone:
            raise (failure or error) from error
        stand.release()
        found["problem"] = failure.message if failure else f"{type(error).__name__}: {error}"
        stand.say(f"{case.name}: {found['problem']}")
    return found


def measured(case: Case, stand: Stand, found: dict[str, Any]) -> dict[str, Any]:
    """The result; what ran goes into ``found``."""
    prepared = stand.prepare(case)
    found["ran"] = ran(prepared)
    result = MEASURES[case.what](prepared, stand)
    if case.against is not None:
        same = Same.of(prepared)
        del prepared
        stand.release()
        stand.say("making the transformer of diffusers")
        result["against"] = compared(same, result)
    return result


def as_ours(error: Exception) -> InfiniteTalkError | None:
    """The error for people; ``None``: it is a mistake of this program."""
    if isinstance(error, InfiniteTalkError):
        return error
    if is_out_of_memory(error):
        return OutOfMemoryError(
            "The memory does not hold this case. Choose fewer --layers, a smaller --size, or a quantization."
        )
    return None


def described(case: Case) -> dict[str, Any]:
    """The case as plain values."""
    values = {field.name: getattr(case, field.name) for field in fields(case) if field.name != "name"}
    size = values["size"]
    values["size"] = None if size is None else f"{size.width}x{size.height}"
    return {name: str(v) if isinstance(v, (str, Path)) else v for name, v in values.items()}


def ran(prepared: Prepared) -> dict[str, Any]:
    """What runs for what was asked."""
    how, work = prepared.how, prepared.work
    return {
        "model": case_model(prepared.case),
        "device": str(how.device),
        "precision": str(how.precision),
        "quantization": str(how.quantization),
        "attention": how.attention.name,
        "attention_version": how.attention.version,
        "strategy": prepared.plan.reason,
        "width": work.size.width,
        "height": work.size.height,
        "frames": work.frames,
        "people": work.people,
    }
