"""Tables and plots of ``docs/performance.md``: the cost model, and what was measured beside it.

    python -m bench.performance    # writes them, from the cost model and bench/results/speed*.json

The results are made by ``infinite-talk bench --cases bench/cases/NAME.toml -o bench/results/speed_NAME.json``.
``tests/contract/test_performance_page.py`` holds that the page is what this writes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.common import RESULTS
from bench.figures import put
from bench.plots import Line, plot
from infinite_talk.benchmarks.ceilings import is_packed
from infinite_talk.memory.flops import (
    Kind,
    condition_parts,
    decode_flops,
    encode_flops,
    forward_parts,
    total,
    total_bytes,
)
from infinite_talk.memory.published import WAN_VAE
from infinite_talk.memory.work import Work
from infinite_talk.models.dit import DiTConfig
from infinite_talk.types import FPS, Size

DOCS = Path(__file__).parent.parent / "docs"
PAGE = DOCS / "performance.md"
FULL = DiTConfig()
SIZES = {"480p": Size(480, 832), "640x640": Size(640, 640), "720p": Size(720, 1280)}
FRAMES = (41, 81, 121)
# Operations and bytes per second of an H200 under sustained load, where no result has its own.
GEMM, FLOAT8, ATTENTION, ATTENTION8 = 690e12, 1290e12, 690e12, 920e12
ROWS = {
    "self-attention: q, k, v, o": ("self qkv", "self o"),
    "self-attention: scores and answers": ("self attention",),
    "text and picture: q, o": ("cross q", "cross o"),
    "text and picture: scores and answers": ("cross attention",),
    "speech: q, o": ("speech q", "speech o"),
    "speech: scores and answers": ("speech attention",),
    "speech, as done here": (
        "speech keys carried back",
        "speech scores",
        "speech values carried on",
        "speech answers",
    ),
    "feed-forward": ("feed-forward up", "feed-forward down"),
    "keys and values of text, picture, speech": ("cross keys and values", "speech keys and values"),
    "class maps (two people)": ("class maps",),
}
"""Rows of the table of parts: what they are called, and the parts they sum."""


def cost_tables() -> str:
    """Operations by part, then by size and length of the window."""
    return "\n".join([*_parts(), "", *_windows()])


def _parts() -> Iterator[str]:
    work = {name: Work(size=size) for name, size in SIZES.items()}
    yield "| 1e12 operations of one pass, 81 frames | " + " | ".join(SIZES) + " |"
    yield "|---" * (len(SIZES) + 1) + "|"
    for says, names in ROWS.items():
        cells = [_cell(names, one) for one in work.values()]
        yield f"| {says} | " + " | ".join(cells) + " |"
    ways: Mapping[str, dict[str, bool]] = {
        "**all, as published**": {"official": True},
        "**all, as a step does it here**": {},
    }
    for says, how in ways.items():
        cells = [f"**{total(forward_parts(FULL, one, **how)) / 1e12:.1f}**" for one in work.values()]
        yield f"| {says} | " + " | ".join(cells) + " |"
    yield (
        "| GB moved by norms, gates, GELU (fused) | "
        + " | ".join(
            f"{total_bytes(forward_parts(FULL, one), Kind.ELEMENTWISE) / 1e9:.0f}" for one in work.values()
        )
        + " |"
    )


def _cell(names: tuple[str, ...], work: Work) -> str:
    """The operations of some parts, in the formulation that has them."""
    two = Work(size=work.size, people=2)
    for parts in (
        forward_parts(FULL, work, official=True),
        forward_parts(FULL, work),
        forward_parts(FULL, two),
    ):
        if found := total(part for part in parts if part.name in names):
            return f"{found / 1e12:.1f}"
    raise AssertionError(names)


def _windows() -> Iterator[str]:
    yield (
        "| window | tokens | TF, a pass as published | as done here | once for each window and branch | decode | "
        "encode 9 motion frames | limit s, bf16 | fp8 | fp8, attention too | s per s of video, 4 steps, bf16 |"
    )
    yield "|---" * 11 + "|"
    for name, size in SIZES.items():
        for frames in FRAMES:
            work = Work(size=size, frames=frames)
            parts = forward_parts(FULL, work)
            motion = Work(size=size, frames=work.motion)
            bf16, fp8, both = (limit(work, *how) for how in ((False, False), (True, False), (True, True)))
            cells = (
                f"{name}, {frames} frames",
                f"{work.tokens():,}",
                f"{total(forward_parts(FULL, work, official=True)) / 1e12:.0f}",
                f"{total(parts) / 1e12:.0f}",
                f"{total(condition_parts(FULL, work)) / 1e12:.1f}",
                f"{decode_flops(WAN_VAE, work) / 1e12:.0f}",
                f"{encode_flops(WAN_VAE, motion) / 1e12:.0f}",
                f"{bf16:.2f}",
                f"{fp8:.2f}",
                f"{both:.2f}",
                f"{4 * bf16 * FPS / work.new_frames:.1f}",
            )
            yield "| " + " | ".join(cells) + " |"


def limit(work: Work, float8: bool, attention8: bool) -> float:
    """Seconds of a pass as it is done here if all products and attentions ran at the sustained rates."""
    parts = forward_parts(FULL, work)
    packed = total(part for part in parts if is_packed(part))  # what carries speech keys stays in bf16
    gemm = packed / (FLOAT8 if float8 else GEMM) + (total(parts, Kind.GEMM) - packed) / GEMM
    own = total(part for part in parts if part.name == "self attention")
    rest = total(parts, Kind.ATTENTION) - own
    return gemm + own / (ATTENTION8 if attention8 else ATTENTION) + rest / ATTENTION


def results(folder: Path = RESULTS) -> list[dict[str, Any]]:
    """All cases that were measured, each with its card."""
    found = []
    for path in sorted(folder.glob("speed*.json")):
        report = json.loads(path.read_text("utf-8"))
        where = report["machine"]["gpu"] or report["machine"]["processor"]
        found += [{**case, "where": where, "file": path.name} for case in report["cases"]]
    return found


def measured_tables(cases: list[dict[str, Any]]) -> str:
    """Forward passes against their limits, then everything else."""
    passes = [case for case in cases if case["what"] == "dit" and "result" in case]
    others = [case for case in cases if case["what"] in ("vae", "window", "load") and "result" in case]
    failed = [f"- {case['name']} ({case['where']}): {case['problem']}" for case in cases if "problem" in case]
    if not passes and not others:
        return "Nothing was measured yet."
    blocks = [list(_passes(passes)), list(_others(others)), failed]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _passes(cases: list[dict[str, Any]]) -> Iterator[str]:
    if not cases:
        return
    yield (
        "| forward pass | card | s (min to max) | TF done | TFLOP/s | limit s | reached | as published: limit s | "
        "reached | peak GiB | W, SM MHz | host waits a step |"
    )
    yield "|---" * 12 + "|"
    for case in cases:
        yield "| " + " | ".join(_pass(case)) + " |"
        yield from _rivals(case)


def _pass(case: Mapping[str, Any]) -> list[str]:
    result = case["result"]
    seconds, bound, power = result["seconds"], result["limit"], result["power"]
    estimate = result.get("estimate")
    name = case["name"] + (f", **estimate from {result['layers']} layers**" if estimate else "")
    share = estimate["layers"] / result["layers"] if estimate else 1.0
    waits = result.get("profile", {}).get("host_syncs_in_loop")
    return [
        name,
        case["where"],
        f"{_s(seconds['median'] * share)} ({_s(seconds['min'] * share)} to {_s(seconds['max'] * share)})",
        f"{result['flops']['ours'] * share / 1e12:.4g}",
        f"{result['tflops']['ours']:.3g}",
        _s(bound["seconds"] * share),
        f"{bound['fraction']:.3f}",
        _s(bound["official_seconds"] * share),
        f"{bound['official_fraction']:.3f}",
        f"{result['memory']['allocated'] / (1 << 30):.1f}",
        "" if power is None else f"{power['watts']:.0f}, {power['sm_mhz']:.0f}",
        "" if waits is None else f"{waits['count'] / max(1, waits['steps']):g}",
    ]


def _rivals(case: Mapping[str, Any]) -> Iterator[str]:
    rival = case["result"].get("against")
    if rival is None:
        return
    for name, way in rival["ways"].items():
        seconds = way["seconds"]
        cells = [
            f"{rival['name']}, {name}, attention {rival['attention']}, no speech branch",
            case["where"],
            f"{_s(seconds['median'])} ({_s(seconds['min'])} to {_s(seconds['max'])})",
            f"{rival['flops'] / 1e12:.4g}",
            f"{way['tflops']:.3g}",
            *("", f"{way['ratio']:.2f} x ours", "", f"{way['ratio_per_flop']:.2f} x per operation"),
            f"{way['memory']['allocated'] / (1 << 30):.1f}",
            *("", ""),
        ]
        yield "| " + " | ".join(cells) + " |"


def _others(cases: list[dict[str, Any]]) -> Iterator[str]:
    if not cases:
        return
    yield "| what | card | s (min to max) | beside it |"
    yield "|---|---|---|---|"
    for case in cases:
        for name, seconds, says in _lines(case):
            spread = f"{_s(seconds['median'])} ({_s(seconds['min'])} to {_s(seconds['max'])})"
            yield f"| {name} | {case['where']} | {spread} | {says} |"


def _lines(case: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, float], str]]:
    result = case["result"]
    if case["what"] == "vae":
        for name, job in result["jobs"].items():
            above = job["memory"]["above"] / (1 << 30)
            says = f"{result['dtype']}, {job['tflops']:.3g} TFLOP/s, {above:.1f} GiB beside weights"
            yield f"{case['name']}: {name.replace('_', ' ')}", job["seconds"], says
    if case["what"] == "window":
        few = "" if result["layers"] == result["of_layers"] else f", {result['layers']} layers only"
        says = (
            f"{result['windows']} windows, {result['steps']} steps x {result['branches']}{few}, "
            f"{result['seconds_per_second_of_video']:.3g} s for each second of video"
        )
        yield case["name"], result["seconds"], says
    if case["what"] == "load":
        says = ", ".join(f"{name} at {_s(at)}" for name, at in result["points"].items())
        yield f"{case['name']}: to the first step", result["seconds"], says


def _s(seconds: float) -> str:
    return f"{seconds:.3g}" if seconds < 100 else f"{seconds:.0f}"


def tokens_plot(cases: list[dict[str, Any]]) -> str:
    """Seconds of a pass against tokens: limits as lines, measurements as points."""
    steps = [Work(size=Size(16 * side, 16 * side)) for side in range(12, 63, 2)]
    ways = {"bf16 limit": (False, False), "fp8 limit": (True, False), "fp8, attention too": (True, True)}
    lines = [
        Line(f"{name} (H200)", [(w.tokens() / 1000, limit(w, *how)) for w in steps])
        for name, how in ways.items()
    ]
    points: dict[str, list[tuple[float, float]]] = {}
    for case in cases:
        if case["what"] != "dit" or "result" not in case or case["ran"]["model"] != "14b":
            continue
        ran, result = case["ran"], case["result"]
        seconds = result.get("estimate", {"seconds": result["seconds"]["median"]})["seconds"]
        kind = "fp8" if ran["quantization"].startswith("fp8") else ran["precision"]
        name = f"{kind}, {ran['attention']}, {case['where'].removeprefix('NVIDIA ')}"
        points.setdefault(name, []).append((result["tokens"] / 1000, seconds))
    lines += [Line(name, sorted(at), points=True) for name, at in sorted(points.items())]
    return plot("One pass of 40 layers", "thousand tokens", "seconds", lines)


def length_plot(cases: list[dict[str, Any]]) -> str:
    """Seconds of work for each second of video against the length of the video."""
    lines = []
    for case in cases:
        if case["what"] != "window" or "result" not in case or case["result"]["windows"] < 3:
            continue
        result, done, at = case["result"], 0.0, []
        first = case["ran"]["frames"]
        new = (result["frames"] - first) / (result["windows"] - 1)
        for number, seconds in enumerate(result["seconds_per_window"][-1]):
            done += seconds
            length = (first + number * new) / FPS
            at.append((length, done / length))
        few = "" if result["layers"] == result["of_layers"] else f", {result['layers']} layers"
        lines.append(
            Line(f"{case['ran']['model']}{few}, {case['where'].removeprefix('NVIDIA ')}", at, joined=True)
        )
    return plot("Work for each second of video", "seconds of video", "seconds of work", lines)


def main() -> None:
    """Command line."""
    cases = results()
    put(PAGE, "cost", cost_tables())
    put(PAGE, "measured", measured_tables(cases))
    for name, drawn in (("tokens", tokens_plot(cases)), ("length", length_plot(cases))):
        (DOCS / "images" / f"time_{name}.svg").write_text(drawn, "utf-8")


if __name__ == "__main__":
    main()
