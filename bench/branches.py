"""Are guidance branches faster as one batch or one after another, and what is saved by sharing?

    python -m bench.branches --device cpu --threads 1

For the embedded model's transformer, at several numbers of tokens: seconds of a step with three branches, asked one
after another, together (``forward_branches``) and as one batch. The planner's bounds (``memory/planner.py``) are
from here. On a CPU the time of the process is taken, which other programs disturb least.
"""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import torch

from bench.common import parser, save
from infinite_talk.denoise.denoiser import Plain, Question
from infinite_talk.denoise.guidance import Branch
from infinite_talk.memory.costs import pass_flops
from infinite_talk.models.dit import DiTConfig, WanTransformer
from infinite_talk.types import Guide

EMBEDDED = DiTConfig(
    dim=256,
    ffn_dim=1024,
    freq_dim=128,
    num_heads=4,
    num_layers=10,
    text_dim=64,
    text_len=96,
    clip_dim=64,
    clip_tokens=65,
    audio_blocks=6,
    audio_channels=192,
    intermediate_dim=128,
    context_tokens=8,
    output_dim=128,
)
GRIDS = ((3, 12, 12), (6, 12, 12), (6, 16, 16), (6, 24, 24), (13, 24, 24), (21, 32, 32), (21, 60, 104))
"""Latent frames, rows and columns; the last is 480p."""
ASKED = (Branch.COND, Branch.DROP_TEXT, Branch.UNCOND)


def guide(config: DiTConfig, grid: tuple[int, int, int], device: torch.device) -> Guide:
    """Random numbers of the right shapes."""
    frames, rows, columns = grid
    heard = (1, 4 * (frames - 1) + 1, config.audio_window, config.audio_blocks, config.audio_channels)
    normal = lambda *shape: torch.randn(*shape, device=device)  # noqa: E731
    return Guide(
        text=normal(20, config.text_dim),
        negative=normal(10, config.text_dim),
        image=normal(config.clip_tokens, config.clip_dim),
        reference=normal(config.reference_dim, *grid),
        speech=normal(*heard),
        token_masks=normal(2, rows, columns),
        motion=normal(config.out_dim, 1, rows, columns),
    )


@torch.inference_mode()
def step_seconds(denoiser: Plain, given: Guide, *, single: bool, repeats: int) -> float:
    """Median of a step."""
    device = given.reference.device
    now = time.perf_counter if device.type == "cuda" else time.process_time
    moment = torch.tensor([500.0], device=device)
    questions = [Question(0, moment, branch, denoiser.condition(given, branch)) for branch in ASKED]
    latent, taken = torch.randn_like(given.reference[:16]), []
    for _ in range(repeats + 1):
        began = now()
        if single:
            for question in questions:
                denoiser.velocity(latent, question)
        else:
            denoiser.velocities(latent, questions)
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(now() - began)
    return median(taken[1:])


def measure(model: WanTransformer, grid: tuple[int, int, int], repeats: int) -> dict[str, Any]:
    device = next(model.parameters()).device
    given = guide(model.config, grid, device)
    tokens = grid[0] * (grid[1] // 2) * (grid[2] // 2)
    plain, batched = Plain(model), Plain(model, batched=True)
    return {
        "grid": grid,
        "tokens": tokens,
        "operations_per_block": sum(pass_flops(model.config, tokens)) / model.config.num_layers,
        "one_by_one": step_seconds(plain, given, single=True, repeats=repeats),
        "together": step_seconds(plain, given, single=False, repeats=repeats),
        "batch": step_seconds(batched, given, single=False, repeats=repeats),
    }


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--most-tokens", type=int, default=40_000)
    given = options.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    device = torch.device(given.device)
    torch.manual_seed(given.seed)
    with device:
        model = WanTransformer(EMBEDDED).eval()
    if device.type == "cuda":
        model.bfloat16()
    grids = [grid for grid in GRIDS if grid[0] * grid[1] * grid[2] // 4 <= given.most_tokens]
    rows = [measure(model, grid, given.repeats) for grid in grids]
    save("branches", given.out, {"device": str(device), "dtype": str(model.dtype), "steps": rows})


if __name__ == "__main__":
    main()
