"""What does it cost to stream blocks? Seconds per pass, bandwidth, overlap and memory, full-size random weights.

``python -m bench.streaming`` needs a GPU of 48 GB and 40 GB of host memory; ``--layers 8`` a fifth of both.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from bench.common import parser, save
from infinite_talk.memory.streaming import BlockStream, stream_blocks
from infinite_talk.memory.workspace import block_workspace, condition_bytes
from infinite_talk.models.dit import Condition, DiTConfig, WanTransformer
from infinite_talk.ops.linear import Packed, PackedLinear
from infinite_talk.settings import Quantization
from infinite_talk.weights.precision import POLICIES

LATENT = (21, 60, 104)  # 81 frames of 480 x 832: 32,760 tokens


def random_model(config: DiTConfig, kind: Quantization, device: torch.device) -> WanTransformer:
    """Small random weights, packed layer by layer."""
    with torch.device("meta"):
        model = WanTransformer(config)
    for name, part in list(model.named_modules()):
        for key, parameter in list(part._parameters.items()):
            if parameter is not None:
                made = torch.empty(parameter.shape, dtype=torch.bfloat16, device=device).normal_(std=0.02)
                part._parameters[key] = nn.Parameter(made, requires_grad=False)
        if isinstance(part, nn.Linear) and name.startswith("blocks."):
            pack(model, name, part, kind)
    return model.eval()


def pack(model: nn.Module, name: str, layer: nn.Linear, kind: Quantization) -> None:
    kept = POLICIES[kind].store(f"{name}.weight", layer.weight.data, torch.bfloat16)
    if isinstance(kept, Packed):
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, PackedLinear(kept, layer.bias.data, torch.bfloat16))


def condition_for(model: WanTransformer, device: torch.device) -> Condition:
    config = model.config
    return model.condition(
        text=torch.randn(1, config.text_len, config.text_dim, device=device),
        image=torch.randn(1, config.clip_tokens, config.clip_dim, device=device),
        speech=None,
        token_masks=None,
        reference=torch.randn(1, config.reference_dim, *LATENT, device=device),
    )


def timed(work: Callable[[], object], repeats: int) -> float:
    """Seconds of one call, the first not counted."""
    work()
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(repeats):
        work()
    torch.cuda.synchronize()
    return (time.perf_counter() - began) / repeats


def transfer(stream: BlockStream) -> float:
    """Seconds to copy all streamed blocks, nothing else going on."""
    parcels = list(stream._parcels.values())
    slot = torch.empty(parcels[0].nbytes, dtype=torch.uint8, device=stream.device)

    def copy() -> None:
        for parcel in parcels:
            slot.copy_(parcel.bytes, non_blocking=True)

    return timed(copy, 1)


@torch.inference_mode()
def case(
    model: WanTransformer, stream: BlockStream, swap: int, prefetch: int, rows: int | None
) -> dict[str, Any]:
    """One way to run, one pass."""
    device, config = stream.device, model.config
    stream.swap(swap, prefetch)
    model.rows_at_once = rows
    torch.cuda.empty_cache()
    began = time.perf_counter()
    condition = condition_for(model, device)
    torch.cuda.synchronize()
    conditioned = time.perf_counter() - began
    latent, at = torch.randn(1, 16, *LATENT, device=device), torch.tensor([900.0], device=device)
    model(latent, at, condition)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    seconds = timed(lambda: model(latent, at, condition), 1)
    peak = torch.cuda.max_memory_allocated() - before
    grown = torch.cuda.memory_allocated() - before
    frames, height, width = condition.grid
    tokens = frames * height * width
    return {
        "swap": swap,
        "prefetch": prefetch,
        "rows_at_once": rows,
        "seconds": round(seconds, 3),
        "condition_seconds": round(conditioned, 3),
        "allocated_bytes": before,
        "slots_bytes": stream.device_bytes,
        "host_bytes": stream.host_bytes,
        "transfer_seconds": round(transfer(stream), 3) if swap else 0.0,
        "peak_above_bytes": peak,
        "planned_above_bytes": tokens * config.dim * 2 + block_workspace(config, tokens, 2, rows),
        "planned_condition_bytes": condition_bytes(config, tokens, frames, 2, kept=model.keep_keys_values),
        "grown_bytes": grown,
        "note": stream.note,
    }


def with_overlap(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """How much of the transfer was hidden, against the same work with nothing streamed."""
    for row in rows:
        whole = next(r for r in rows if not r["swap"] and r["rows_at_once"] == row["rows_at_once"])
        if row["swap"]:
            waited = max(0.0, row["seconds"] - whole["seconds"])
            row["overlap"] = round(1 - waited / row["transfer_seconds"], 3)
            row["gb_per_s"] = round(row["host_bytes"] / 1e9 / row["transfer_seconds"], 1)
    return rows


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--layers", type=int, default=40)
    options.add_argument("--quantization", type=Quantization, default=Quantization.DISABLED)
    asked = options.parse_args()
    device, layers = torch.device("cuda", torch.cuda.current_device()), asked.layers
    model = random_model(replace(DiTConfig(), num_layers=layers), asked.quantization, device)
    model.keep_keys_values = False
    stream = stream_blocks(model, 0, 1, device)
    rows = []
    for at_once in (None, 4096):
        ways = [(0, 1), (layers // 2, 1), (layers, 1)]
        if at_once:
            ways += [(layers // 2, 0), (layers, 0), (layers, 2)]
        for swap, prefetch in ways:
            rows.append(case(model, stream, swap, prefetch, at_once))
            print(rows[-1], flush=True)
    save(
        "streaming",
        asked.out,
        {"layers": layers, "quantization": asked.quantization, "rows": with_overlap(rows)},
    )


if __name__ == "__main__":
    main()
