"""The process behind ``adviser``: reads questions as lines of JSON, writes answers likewise, ends when it rests.

python -m infinite_talk.jobs.advice SECONDS_OF_REST
"""

from __future__ import annotations

import json
import os
import select
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from infinite_talk.errors import InfiniteTalkError, OutOfMemoryError
from infinite_talk.jobs.adviser import Choice, Forecasted, Json, Machine, ModelFile, Runs, as_json
from infinite_talk.request import Request
from infinite_talk.settings import Settings

_LORAS = {"lora", "loras"}
"""Folders that are not searched for parts of models."""


def main() -> int:
    """Answer until the standard input ends, or nobody asks."""
    rest = float(sys.argv[1])
    out = os.dup(1)
    os.dup2(2, 1)  # what libraries print is no answer
    asked = b""
    while select.select([0], [], [], rest)[0]:
        part = os.read(0, 1 << 16)
        if not part:
            break
        asked += part
        while b"\n" in asked:
            line, _, asked = asked.partition(b"\n")
            _write(out, json.dumps(_told(json.loads(line)), allow_nan=False).encode() + b"\n")
    return 0


def _write(handle: int, data: bytes) -> None:
    while data:
        data = data[os.write(handle, data) :]


def _told(asked: Mapping[str, Any]) -> dict[str, Json]:
    try:
        return {"answer": answer(asked["question"], asked["given"])}
    except InfiniteTalkError as error:
        return {"error": type(error).__name__, "message": error.message, "code": error.code}
    except MemoryError:
        message = "The memory of this machine does not hold what is needed to answer."
        return {"error": "OutOfMemoryError", "message": message, "code": OutOfMemoryError.default_code}


def answer(question: str, given: Mapping[str, Any]) -> Json:
    """The answer to one question.

    Raises:
        InfiniteTalkError: why there is none.
    """
    match question:
        case "forecast":
            request = TypeAdapter(Request).validate_python(given["request"])
            return as_json(forecast(request, _settings(given), given["seconds"]))
        case "runs":
            return as_json(runs(_settings(given), given["people"]))
        case "machine":
            return as_json(machine())
        case "files":
            return as_json(files([Path(one) for one in given["folders"]]))
        case _:
            from infinite_talk.quality import measure_quality

            found = measure_quality(Path(given["video"]))
            return asdict(found) | {"drift": found.drift, "believable": found.believable}


def _settings(given: Mapping[str, Any]) -> Settings:
    return TypeAdapter(Settings).validate_python(given["settings"])


def forecast(request: Request, settings: Settings, seconds: float) -> Forecasted:
    """Time and memory of a run without media."""
    from infinite_talk.forecast import plan_run

    found = plan_run(request, settings, seconds=seconds)
    work = found.work
    return Forecasted(
        model=found.model,
        device=found.device,
        width=work.size.width,
        height=work.size.height,
        windows=work.windows,
        steps=work.steps,
        passes=work.windows * work.steps * work.branches,
        video_seconds=found.seconds,
        seconds=found.run_seconds,
        memory=found.plan.peak + found.context,
        host=found.plan.host,
        strategy=found.plan.reason,
        notes=found.notes,
    )


def runs(settings: Settings, people: int) -> Runs:
    """What runs for what was asked."""
    from infinite_talk.engine import Engine

    runtime = Engine(settings).runtime(people)
    how = runtime.how
    return Runs(
        model=f"{runtime.model.name} {runtime.model.version}",
        device=_device(how.device),
        precision=str(how.precision),
        quantization=str(how.quantization),
        attention=how.attention.name,
        summary=str(how),
        notes=(*how.notes, *runtime.model.notes),
    )


def machine() -> Machine:
    """Every attention kernel and quantisation here."""
    import torch

    from infinite_talk.ops.attention.matrix import attention_matrix
    from infinite_talk.weights.support import precision_matrix

    here = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    kernels = (
        Choice(row.name, row.usable, row.chosen, row.exact, row.milliseconds, f"{row.why} {row.get}".strip())
        for row in attention_matrix()
    )
    kept = (
        Choice(row.name, row.native, row.name == "disabled", row.name == "disabled", None, row.why)
        for row in precision_matrix()
    )
    return Machine(_device(here), tuple(kernels), tuple(kept))


def files(folders: list[Path]) -> tuple[ModelFile, ...]:
    """Parts of models in the folders; LoRAs, whose folders are not searched for parts; presets that are all here."""
    from infinite_talk.weights.scan import SUFFIXES, scan
    from infinite_talk.weights.shelf import list_presets

    found: dict[str, ModelFile] = {}
    for folder in folders:
        for one in scan(folder):
            part, damage = "" if one.seen.part is None else str(one.seen.part), one.damage or ""
            if part or damage:
                name = _name(one.place, folder)
                found[str(one.place)] = ModelFile(part, str(one.place), name, one.seen.precision, damage)
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in SUFFIXES and _LORAS & {part.lower() for part in path.parts}:
                found.setdefault(str(path), ModelFile("lora", str(path), _name(path, folder), ""))
    whole = [one.preset.name for one in list_presets(folders) if one.complete and one.preset.complete]
    return (*found.values(), *(ModelFile("preset", name, name, "") for name in whole))


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path != folder else folder.name


def _device(device: Any) -> str:  # noqa: ANN401 - of torch, which is loaded late
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


if __name__ == "__main__":
    sys.exit(main())
