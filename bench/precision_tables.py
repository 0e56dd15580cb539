"""The bounds that each precision is held to, and the tables of ``docs/numerics.md`` (``bench.precision --tables``)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infinite_talk.settings import Quantization
from infinite_talk.weights.precision import KEPT, POLICIES, Policy


@dataclass(frozen=True)
class Bound:
    """Largest relative error (Frobenius) that is let pass, in every base precision."""

    layer: float
    block: float  # of what a block adds to the stream


BASE_BOUNDS: Mapping[str, Bound] = {
    "fp32": Bound(1e-6, 1e-5),
    "bf16": Bound(0.004, 0.015),
    "fp16": Bound(0.0006, 0.003),
}
"""Without packing: what the base precision itself costs."""
BOUNDS: Mapping[Quantization, Bound] = {
    Quantization.FP8_E4M3FN: Bound(0.08, 0.08),
    Quantization.FP8_E4M3FN_FAST: Bound(0.085, 0.09),
    Quantization.FP8_E4M3FN_SCALED: Bound(0.035, 0.06),
    Quantization.FP8_E4M3FN_SCALED_FAST: Bound(0.045, 0.08),
    Quantization.FP8_E5M2: Bound(0.07, 0.11),
    Quantization.FP8_E5M2_FAST: Bound(0.075, 0.12),
    Quantization.FP8_E5M2_SCALED: Bound(0.07, 0.11),
    Quantization.FP8_E5M2_SCALED_FAST: Bound(0.075, 0.12),
    Quantization.INT8: Bound(0.03, 0.04),
    Quantization.INT8_FAST: Bound(0.15, 0.08),
    Quantization.NF4: Bound(0.13, 0.24),
    Quantization.FP4_EXPERIMENTAL: Bound(0.16, 0.29),
    Quantization.FP4_SCALED: Bound(0.12, 0.21),
    Quantization.FP4_SCALED_FAST: Bound(0.16, 0.28),
}
_KINDS = {
    "fp8_e4m3fn": "float8 e4m3",
    "fp8_e4m3fn_scaled": "float8 e4m3, a scale per row",
    "fp8_e5m2": "float8 e5m2",
    "fp8_e5m2_scaled": "float8 e5m2, a scale per row",
    "int8": "8-bit integers, a scale per row",
    "nf4": "16 quantiles of a normal distribution, a scale per 64",
    "fp4_experimental": "MXFP4: 4-bit floats, a power of two per 32",
    "fp4_scaled": "NVFP4: 4-bit floats, a float8 scale per 16",
}


def bound_of(policy: Quantization, base: str) -> Bound:
    """The bound of a policy in a base precision."""
    return BASE_BOUNDS[base] if policy is Quantization.DISABLED else BOUNDS[policy]


def tables(results: Path) -> str:
    """All tables, from the files of results that are there."""
    measured = [json.loads(path.read_text()) for path in _files(results)]
    parts = [_policies(), _kept(), *(_layers_and_blocks(values) for values in measured if "blocks" in values)]
    if any("films" in values for values in measured):
        parts.append(_films(measured))
    return "\n\n".join(parts)


def _files(results: Path) -> Iterator[Path]:
    for name in ("precision.json", "precision_cuda.json"):
        if (results / name).is_file():
            yield results / name


def _policies() -> str:
    rows = [
        (
            f"`{policy.name}`",
            _KINDS[policy.name.removesuffix("_fast")],
            f"{policy.bits:g}",
            "the same format, activations too" if policy.needs else "the base precision",
            policy.needs.says if policy.needs else "nothing",
            f"`{policy.needs.instead}`" if policy.needs else "",
        )
        for policy in POLICIES.values()
        if policy.bits is not None
    ]
    return _table(("policy", "weights", "bits", "multiplied in", "needs", "else runs"), rows)


def _kept() -> str:
    rows = [(f"`{name}`", why) for name, why in KEPT.items()]
    return _table(("stays in the base precision", "because"), rows)


def _layers_and_blocks(values: Mapping[str, Any]) -> str:
    block = values["block"]
    where = values["machine"]["gpu"] if "cuda" in values["command"] else values["machine"]["processor"]
    head = (
        f"Relative errors in percent, base precision fp32 / bf16 / fp16, on {where}. Layers as in the 14B model with "
        f"{values['tokens']} tokens; one block of width {block['dim']} with {block['tokens']} tokens. *Largest*: of a "
        "single number of the block's output, in root mean squares, in bf16."
    )
    if twins := values["twin"]:
        head += f" Multiplied by the slow twin: {', '.join(f'`{name}`' for name in twins)}."
    rows = [_errors(policy, values) for policy in POLICIES.values() if policy.name in values["blocks"]]
    columns = (
        "policy",
        "5120 to 13824",
        "13824 to 5120",
        "bound",
        "block's output",
        "block's update",
        "bound",
        "largest",
    )
    return f"{head}\n\n{_table(columns, rows)}"


def _errors(policy: Policy, values: Mapping[str, Any]) -> tuple[str, ...]:
    name, block = policy.name, values["blocks"][policy.name]
    layers = values["layers"]
    bounds = [bound_of(name, base) for base in BASE_BOUNDS]
    if name is not Quantization.DISABLED:
        bounds = bounds[:1]  # one for all
    return (
        f"`{name}`",
        _percent(layers["ffn.0"][name][base]["relative"] for base in BASE_BOUNDS),
        _percent(layers["ffn.2"][name][base]["relative"] for base in BASE_BOUNDS),
        _percent(bound.layer for bound in bounds),
        _percent(block[base]["output"]["relative"] for base in BASE_BOUNDS),
        _percent(block[base]["update"]["relative"] for base in BASE_BOUNDS),
        _percent(bound.block for bound in bounds),
        f"{block['bf16']['output']['largest']:.2g}",
    )


def _films(measured: Sequence[Mapping[str, Any]]) -> str:
    lengths = " and ".join(sorted({f"{values['seconds_of_speech']:g} s" for values in measured}))
    head = (
        f"A whole video of the embedded model ({lengths} of speech, its four steps) against the same one without "
        "packing in fp32 on the same machine: relative error of the latents, PSNR of the frames, r of the mouth's "
        "opening read from both."
    )
    rows = [
        (f"`{name}`", device, base, f"{100 * film['latent']:.1f} %", _decibels(film["psnr"]), f"{film['mouth_r']:.3f}")
        for values in measured
        for device in ["GPU" if "cuda" in values["command"] else "CPU"]
        for name, bases in values.get("films", {}).items()
        for base, film in bases.items()
        if (name, base) != ("disabled", "fp32")
    ]  # fmt: skip
    return f"{head}\n\n{_table(('policy', 'on', 'base', 'latents', 'frames', 'mouth'), rows)}"


def _decibels(psnr: float) -> str:
    return "the same" if psnr >= 80 else f"{psnr:.1f} dB"  # 80 is where the measurement ends


def _percent(shares: Iterable[float]) -> str:
    return " / ".join(f"{100 * share:.2g}" for share in shares)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
