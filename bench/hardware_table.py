"""Which GPU runs what, how, and how fast: ``docs/hardware.md`` from the planner, with what was measured beside it.

python -m bench.hardware_table > docs/hardware.md

Measured values are those of ``bench/results/memory_limits.json``, where it has a row for the same memory, size
and precision.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from bench.common import RESULTS
from infinite_talk.errors import CapabilityError
from infinite_talk.memory import ModelSizes, Work, allocator_limit, full_sizes, plan_memory
from infinite_talk.memory.planner import MemoryPlan
from infinite_talk.memory.speed import CARDS, GIB, Card
from infinite_talk.settings import Quantization
from infinite_talk.types import FPS, Size
from infinite_talk.weights.precision import FORMATS

MEASURED = RESULTS / "memory_limits.json"
SIZES = {"480p": Size(448, 896), "720p": Size(704, 1280)}
PRECISIONS: Mapping[str, Any] = {
    "bf16": None,
    "fp8": FORMATS[Quantization.FP8_E4M3FN_SCALED_FAST],
    "int8": FORMATS[Quantization.INT8],
    "nvfp4": FORMATS[Quantization.FP4_SCALED],
    "gguf Q4_K": "Q4_K",
}
FEW, MANY = (4, 1), (40, 3)
"""Steps and passes: with a distilled LoRA, and as published."""

HEAD = """# Hardware

Written by `python -m bench.hardware_table > docs/hardware.md`; a test compares it with the planner.

What the 14B model needs on GPUs of different sizes, for windows of 81 frames. **Computed** are the plan (how it is
made to fit), the peak of tensors on the GPU, the memory on the host and the time; the times come from data sheets
and a usual share of them (`memory/speed.py`), and are right within a factor of two. **Measured** is filled in from
`bench/results/memory_limits.json`: a run of the whole engine under a limit of so much memory on one GPU, with
the difference to the run's own plan (all on an H200, but for int8 and nvfp4 of the last card: on an H100, without
a limit of its own). An empty cell was not measured. Each run stayed within its limit and made its
window at the first try. An H200 hides the copies of streamed blocks behind its work, so that a pass takes as long with
8 GiB as with all of its memory; a card with a slower link will not hide all of them. `infinite-talk plan` says the
same for your machine, files and options.

Time per second of video: with 4 steps of 1 pass (a distilled LoRA), and with 40 steps of 3 passes (as published).
Formats: `fp8` is `fp8_e4m3fn_scaled_fast` (Ada and newer; elsewhere its weights are widened), `nvfp4` is
`fp4_scaled`, weights only.

What is done to fit: *swap n* keeps n of 40 blocks in host memory and copies each before its turn; *keys anew*
computes keys and values of text, picture and speech at each step; *rows n* works on n tokens at a time; *tile n*
decodes tiles of n pixels, with the numbers of whole frames; *encoders leave* reads the encoders anew for each use;
*text by layer* passes the text encoder through the GPU.
"""


OWN = 141
"""GB of the card on which the runs without a limit were made."""


def page(measured: Mapping[tuple[int, str, str], Mapping[str, Any]] | None = None) -> str:
    """The whole page."""
    found = read_measured() if measured is None else measured
    parts = [HEAD]
    for name, size in SIZES.items():
        parts += [f"## {name} ({size.width}x{size.height})\n", *table(name, size, found), ""]
    return "\n".join(parts)


def table(name: str, size: Size, measured: Mapping[tuple[int, str, str], Mapping[str, Any]]) -> Iterator[str]:
    """One row for each card and precision."""
    yield (
        "| GPU memory | e.g. | precision | what is done to fit | peak GiB | measured | host GiB | measured | "
        "s per s, 4 x 1 | s per s, 40 x 3 | measured s per pass |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    for card in CARDS:
        for precision, kept in PRECISIONS.items():
            row = measured.get((round(card.gib), name, precision), {})
            yield "| " + " | ".join(cells(card, precision, full_sizes(kept), size, row)) + " |"


def cells(
    card: Card, precision: str, model: ModelSizes, size: Size, measured: Mapping[str, Any]
) -> list[str]:
    """One row."""
    few, many = (planned(card, model, size, *how) for how in (FEW, MANY))
    first = [f"{card.gib:g} GB", card.name, precision]
    if few is None or many is None:
        return [*first, "does not fit", *[""] * 7]
    peak, host, each = (measured.get(key) for key in ("peak", "host", "seconds_per_pass"))
    return [
        *first,
        strategy(many),
        f"{many.peak / GIB:.1f}",
        "" if peak is None else f"{peak / GIB:.1f} ({(measured['planned'] / peak - 1) * 100:+.0f} %)",
        f"{many.host / GIB:.0f}",
        "" if host is None else f"{host / GIB:.0f}",
        rate(few, size, FEW),
        rate(many, size, MANY),
        "" if each is None else f"{each:.2f}",
    ]


def planned(card: Card, model: ModelSizes, size: Size, steps: int, passes: int) -> MemoryPlan | None:
    """The plan, or ``None`` if it does not fit."""
    work = Work(size=size, steps=steps, branches=passes, silent=1 if passes > 1 else 0)
    try:
        return plan_memory(model, work, allocator_limit(card.gib), speed=card.speed())
    except CapabilityError:
        return None


def strategy(plan: MemoryPlan) -> str:
    """What is done to fit, in few words."""
    done = {
        f"swap {plan.blocks_to_swap}": plan.blocks_to_swap > 0,
        "none ahead": plan.blocks_to_swap > 0 and not plan.prefetch_blocks,
        "keys anew": not plan.keep_keys_values,
        f"rows {plan.rows_at_once}": plan.rows_at_once is not None,
        f"tile {plan.vae_tile}": plan.vae_tile is not None,
        "encoders leave": not plan.keep_encoders,
        "text by layer": plan.text_blocks_to_swap > 0,
    }
    return ", ".join(name for name, is_done in done.items() if is_done) or "all stays"


def rate(plan: MemoryPlan, size: Size, how: tuple[int, int]) -> str:
    """Seconds of work for a second of video, in the middle of a long one."""
    work = Work(size=size, steps=how[0], branches=how[1])
    return f"{plan.seconds_per_window * FPS / work.new_frames:.0f}"


def read_measured() -> dict[tuple[int, str, str], Mapping[str, Any]]:
    """Rows of the measurement by GiB, size and precision; none when it was not made."""
    if not MEASURED.is_file():
        return {}
    rows = json.loads(MEASURED.read_text("utf-8"))["rows"]
    # Without a limit a run had what its card has.
    return {(row["gib"] or OWN, row["size"], row["precision"]): row for row in rows if row.get("ok")}


if __name__ == "__main__":
    sys.stdout.write(page())
