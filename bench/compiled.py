"""Our Triton operations against ``torch.compile`` of the same blocks in plain torch: speed, and the first call.

    python -m bench.compiled --layers 8

One pass of the 14B transformer's blocks with random weights at 480p, bf16, FlashAttention 3 where it is. ``first_call``
has the compiling in it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import torch

from bench.common import parser, save
from infinite_talk.benchmarks.clock import times_of
from infinite_talk.benchmarks.random_models import Sizes
from infinite_talk.effective import Effective, effective
from infinite_talk.models.dit import Condition, DiTConfig, WanTransformer
from infinite_talk.ops.fused import EAGER
from infinite_talk.settings import Settings

GRID = (21, 60, 104)
WAYS: Mapping[str, str | None] = {
    "triton": None,
    "plain": None,
    "plain, compiled": "default",
    "plain, compiled with max-autotune": "max-autotune-no-cudagraphs",
}
"""What runs, and the mode in which it is compiled."""


def transformer(config: DiTConfig, how: Effective, *, plain: bool) -> WanTransformer:
    """Random weights, small enough that nothing overflows."""
    torch.manual_seed(0)
    with how.device:
        model = WanTransformer(config, attention=how.attention.kernel, ops=EAGER if plain else how.ops)
    model = model.to(how.dtype).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.02)
    return model


def condition(model: WanTransformer, device: torch.device) -> Condition:
    """One person, a short text."""
    config = model.config

    def some(*shape: int) -> torch.Tensor:
        return torch.randn(shape, device=device, dtype=model.dtype)

    return model.condition(
        text=[some(30, config.text_dim)],
        image=some(1, config.clip_tokens, config.clip_dim),
        speech=some(1, 1, 81, config.audio_window, config.audio_blocks, config.audio_channels),
        token_masks=None,
        reference=torch.randn(1, config.reference_dim, *GRID, device=device),
    )


@torch.inference_mode()
def measure(name: str, config: DiTConfig, how: Effective) -> dict[str, Any]:
    """Seconds of a pass."""
    model = transformer(config, how, plain=name != "triton")
    asked = condition(model, how.device)
    latent = torch.randn(1, config.out_dim, *GRID, device=how.device)
    moment = torch.tensor([900.0], device=how.device)
    began = time.perf_counter()
    if (mode := WAYS[name]) is not None:
        for block in model.blocks:
            block.compile(mode=mode, dynamic=False)
    model(latent, moment, asked)
    torch.cuda.synchronize()
    first = time.perf_counter() - began
    found = times_of(lambda: model(latent, moment, asked), how.device, repeats=7, warm_up=2.0)
    return {"name": name, "first_call": first, "seconds": asdict(found)}


def main() -> None:
    """Command line."""
    options = parser(__doc__ or "")
    options.add_argument("--layers", type=int, default=8)
    given = options.parse_args()
    config = replace(Sizes().transformer, num_layers=given.layers)
    how = effective(Settings(), gguf=False, head_dim=config.head_dim)
    rows = []
    for name in WAYS:
        rows.append(measure(name, config, how))
        print(rows[-1], flush=True)
        torch.cuda.empty_cache()
    save("compiled", given.out, {"layers": given.layers, "attention": how.attention.name, "ways": rows})


if __name__ == "__main__":
    main()
