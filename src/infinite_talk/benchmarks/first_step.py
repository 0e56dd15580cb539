"""A process that loads a model, makes one step and says when it was where: ``python -m ... JOB.json BEGAN``."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from infinite_talk.errors import Cancelled


def main(job: str, began: float) -> None:
    """Write one line of JSON: seconds since ``began`` (as ``time.time()``) at each point, and the notes."""
    at = {"python": time.time() - began}
    asked: dict[str, Any] = json.loads(Path(job).read_text("utf-8"))
    import torch

    from infinite_talk.engine import Engine
    from infinite_talk.progress import Phase, Progress
    from infinite_talk.request import Box, Request, Speaker
    from infinite_talk.settings import Attention, Device, Precision, Quantization, Settings

    at["imports"] = time.time() - began
    notes: list[str] = []

    def listen(event: Progress) -> None:
        if event.note:
            notes.append(event.note)
        if event.phase is Phase.LOADING:
            at.setdefault("loading", time.time() - began)
        if event.phase is Phase.SAMPLING and event.step == 0:
            at.setdefault("sampling", time.time() - began)
        if event.phase is Phase.SAMPLING and event.step == 1:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            at["first step"] = time.time() - began
            raise Cancelled("The first step is done.")

    speakers = tuple(
        Speaker(audio=Path(one["audio"]), box=None if one["box"] is None else Box(**one["box"]))
        for one in asked["speakers"]
    )
    request = Request(
        image=Path(asked["image"]),
        speakers=speakers,
        size=asked["size"],
        steps=2,
        text_guidance=asked["text"],
        audio_guidance=asked["audio"],
        window_frames=asked["frames"],
        motion_frames=asked["motion"],
        max_frames=asked["frames"],
    )
    settings = Settings(
        model=None if asked["model"] is None else Path(asked["model"]),
        models_dirs=tuple(Path(path) for path in asked["models_dirs"]),
        device=Device(asked["device"]),
        precision=Precision(asked["precision"]),
        quantization=Quantization(asked["quantization"]),
        attention=Attention(asked["attention"]),
        strict=True,
    )
    try:
        for _clip in Engine(settings, progress=listen).generate(request):
            pass
    except Cancelled:
        sys.stdout.write(json.dumps({"at": at, "notes": notes}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
