"""How much of a LoRA arrives when it is merged into a weight, plain or packed, and computed beside it?

python -m bench.loras    # on a CPU, in seconds; prints the table of docs/loras.md
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from bench.common import save
from infinite_talk.ops.linear import Format
from infinite_talk.ops.linear.gguf import Q4_0, Q8_0
from infinite_talk.settings import Quantization
from infinite_talk.weights.precision import POLICIES

SIZE, RANK, SHARE, TOKENS = 1024, 64, 0.05, 256
"""A square weight, and a LoRA whose norm is this share of the weight's."""
KINDS = (
    Quantization.INT8,
    Quantization.FP8_E4M3FN_SCALED,
    Quantization.FP8_E4M3FN,
    Quantization.NF4,
    Quantization.FP4_SCALED,
    Quantization.FP4_EXPERIMENTAL,
)


@dataclass(frozen=True)
class Row:
    """One format. Shares are of the LoRA's own output, errors relative to the output of the exact sum."""

    share_into_packed: float
    share_into_plain: float
    error_into_plain: float
    error_beside: float


def measured(kind: Format) -> Row:
    generator = torch.Generator().manual_seed(0)
    weight = 0.02 * torch.randn(SIZE, SIZE, generator=generator)
    delta = torch.randn(SIZE, RANK, generator=generator) @ torch.randn(RANK, SIZE, generator=generator)
    delta *= SHARE * weight.norm() / delta.norm()
    x = torch.randn(TOKENS, SIZE, generator=generator)

    def packed(plain: Tensor) -> Tensor:
        return kind.unpack(kind.pack(plain), (SIZE, SIZE), torch.float32)

    exact, own = x @ (weight + delta).T, x @ delta.T
    without = x @ packed(weight).T

    def share(merged: Tensor) -> float:
        return float(((x @ merged.T - without) * own).sum() / own.square().sum())

    def error(found: Tensor) -> float:
        return float((found - exact).norm() / exact.norm())

    into_plain, into_packed = packed(weight + delta), packed(packed(weight) + delta)
    return Row(share(into_packed), share(into_plain), error(x @ into_plain.T), error(without + own))


def table(rows: dict[str, Row]) -> str:
    """As in ``docs/loras.md``."""
    names = {
        "share_into_packed": "share of it that arrives, merged into a packed weight",
        "share_into_plain": "the same, merged into the plain weight and packed once",
        "error_into_plain": "error of the layer's output, merged and packed once",
        "error_beside": "error of the layer's output, beside the packed weight",
    }
    head = f"| a LoRA of rank {RANK} with {SHARE:.0%} of the weight's size ({SIZE} x {SIZE}, random) |"
    lines = [f"{head} {' | '.join(rows)} |", "|---" * (len(rows) + 1) + "|"]
    for field, title in names.items():
        digits = 2 if field.startswith("share") else 3
        cells = (f"{asdict(row)[field]:.{digits}f}" for row in rows.values())
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--out", type=Path, help="JSON to write; default bench/results/loras.json")
    given = options.parse_args()
    kinds: dict[str, Format] = {}
    for quantization in KINDS:
        kind = POLICIES[quantization].format
        assert kind is not None
        kinds[quantization.value] = kind
    rows = {name: measured(kind) for name, kind in (kinds | {"Q8_0": Q8_0, "Q4_0": Q4_0}).items()}
    print(table(rows))
    save("loras", given.out, {"formats": {name: asdict(row) for name, row in rows.items()}})


if __name__ == "__main__":
    main()
