"""A report as text for people: one line for each case, and what a line cannot hold below it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

GIB = 1 << 30


def text(report: Mapping[str, Any]) -> str:
    """The whole report."""
    machine, versions = report["machine"], report["versions"]
    where = machine["gpu"] or machine["processor"]
    lines = [f"{where}, torch {versions['torch']}, {report['date']}", ""]
    for case in report["cases"]:
        lines += [*of_case(case), ""]
    return "\n".join(lines).rstrip()


def of_case(case: Mapping[str, Any]) -> list[str]:
    """A heading, then rows."""
    head = case["name"] if case["name"] == case["what"] else f"{case['name']} ({case['what']})"
    if "problem" in case:
        return [f"{head}: {case['problem']}"]
    ran = case["ran"]
    rows = [
        f"{head}: {ran['model']}, {ran['width']}x{ran['height']}, {ran['frames']} frames, {ran['device']}, "
        f"{ran['precision']}, {ran['quantization']}, attention {ran['attention']}"
    ]
    return [*rows, *(f"  {row}" for row in ROWS[case["what"]](case["result"]))]


def spread(values: Mapping[str, Any]) -> str:
    """``2.761 s (2.755 to 2.770, 0.2 %)``."""
    return (
        f"{seconds(values['median'])} ({seconds(values['min'])} to {seconds(values['max'])}, "
        f"{100 * values['relative_std']:.1f} %)"
    )


def seconds(value: float) -> str:
    """Three figures that count."""
    return f"{value:.3f} s" if value >= 1 else f"{1000 * value:.3g} ms"


def memory(values: Mapping[str, Any]) -> str:
    """Peak, how much of it was not there before, and what the allocator held."""
    return (
        f"peak {values['allocated'] / GIB:.2f} GiB ({values['above'] / GIB:.2f} above), reserved "
        f"{values['reserved'] / GIB:.2f} GiB"
    )


def power(values: Mapping[str, Any] | None) -> str:
    """Of the card while it worked; empty when it was not read."""
    return "" if values is None else f", {values['watts']:.0f} W, SM {values['sm_mhz']:.0f} MHz"


def of_dit(result: Mapping[str, Any]) -> Iterator[str]:
    flops, limit, rate = result["flops"], result["limit"], result["tflops"]
    yield f"forward    {spread(result['seconds'])}{power(result['power'])}"
    if estimate := result.get("estimate"):
        yield f"ESTIMATE   {seconds(estimate['seconds'])}, {estimate['says']}"
    yield f"           {result['tokens']} tokens, {memory(result['memory'])}"
    yield f"work       {flops['ours'] / 1e12:.4g} TFLOP as done, {flops['official'] / 1e12:.4g} as published"
    yield f"rate       {rate['ours']:.4g} TFLOP/s as done, {rate['official']:.4g} as published"
    ceilings = result["ceilings"]
    best = ceilings["float8_tflops"] or ceilings["gemm_tflops"]
    yield (
        f"ceilings   {', '.join(f'{name} {value:.4g}' for name, value in best.items())}, attention "
        f"{ceilings['attention_tflops']:.4g} TFLOP/s, copy {ceilings['copy_gb_per_s']:.4g} GB/s"
    )
    yield (
        f"limit      {seconds(limit['seconds'])}, {limit['fraction']:.3f} of it reached; as published "
        f"{seconds(limit['official_seconds'])}, {limit['official_fraction']:.3f}"
    )
    yield f"condition  {seconds(result['condition_seconds'])}, once for each window and branch"
    if step := result.get("step"):
        yield f"step       {spread(step['seconds'])} of {step['branches']} branches, {step['tflops']:.4g} TFLOP/s"
    if profile := result.get("profile"):
        yield from of_profile(profile)
    if rival := result.get("against"):
        yield from of_rival(rival)


def of_profile(profile: Mapping[str, Any]) -> Iterator[str]:
    groups = sorted(profile["groups"].items(), key=lambda item: -item[1]["seconds"])
    said = ", ".join(f"{name} {seconds(group['seconds'])}" for name, group in groups)
    yield f"profile    {said}"
    for row in profile["kernels"][:8]:
        yield f"           {seconds(row['seconds']):>10} {row['calls']:>5} x {row['name'][:70]}"
    syncs = profile["host_syncs_in_loop"]
    yield f"host waits {syncs['count']} in {syncs['steps']} steps {syncs['by'] or ''}".rstrip()


def of_rival(rival: Mapping[str, Any]) -> Iterator[str]:
    yield f"{rival['name']}, attention {rival['attention']}, {rival['flops'] / 1e12:.4g} TFLOP: {rival['says']}"
    for name, way in rival["ways"].items():
        yield (
            f"  {name:<9}{spread(way['seconds'])}, {way['tflops']:.4g} TFLOP/s; {way['ratio']:.2f} times ours, "
            f"{way['ratio_per_flop']:.2f} times for the same work"
        )


def of_jobs(result: Mapping[str, Any]) -> Iterator[str]:
    for name, job in result["jobs"].items():
        load = job.get("sustained_tflops")
        said = f", under load {load:.4g}" if load is not None else ""
        yield (
            f"{name:<17}{spread(job['seconds'])}, {job['tflops']:.4g} TFLOP/s{said}, {memory(job['memory'])}"
            f"{power(job['power'])}"
        )


def of_window(result: Mapping[str, Any]) -> Iterator[str]:
    layers = "" if result["layers"] == result["of_layers"] else f", {result['layers']} LAYERS ONLY"
    yield (
        f"{result['windows']} windows of {result['steps']} steps x {result['branches']}{layers}, "
        f"{result['frames']} frames on disk"
    )
    yield f"whole      {spread(result['seconds'])}{power(result['power'])}; {memory(result['memory'])}"
    yield f"           {result['seconds_per_second_of_video']:.3g} s for each second of video"
    phases = result["phases"]
    said = ", ".join(f"{name} {seconds(value)}" for name, value in phases["seconds"].items())
    yield f"phases     {said}"
    yield f"           in a run that waits between them, {phases['windows']} windows of {phases['steps']} steps"
    yield f"first      {seconds(result['first_seconds'])}, the models being made"


def of_load(result: Mapping[str, Any]) -> Iterator[str]:
    yield f"first step {spread(result['seconds'])} after the start; the first start {seconds(result['first_seconds'])}"
    yield "           " + ", ".join(f"{name} {seconds(value)}" for name, value in result["points"].items())


ROWS: Mapping[str, Callable[[Mapping[str, Any]], Iterator[str]]] = {
    "dit": of_dit,
    "vae": of_jobs,
    "window": of_window,
    "attention": of_jobs,
    "linear": of_jobs,
    "load": of_load,
}
