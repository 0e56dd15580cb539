"""Times at which the model is asked: from 1000 (pure noise) down to 0 (the picture)."""

from __future__ import annotations

import torch

NOISE_TIME = 1000.0
"""Timestep of pure noise; the model's training scale."""


def timesteps(steps: int, shift: float) -> torch.Tensor:
    """Times of ``steps`` solver steps and the final 0: ``(steps + 1,)`` float32, falling, CPU.

    Evenly spaced from 1000 to 1, then bent towards noise by ``u -> s u / (1 + (s - 1) u)`` with ``u = t /
    1000`` (the flow-matching shift of Wan2.1). ``shift`` 1 leaves them even; larger values spend more steps
    on the layout. Computed in float32 like the InfiniteTalk reference, so that time embeddings agree to the
    last bit.
    """
    even = torch.linspace(NOISE_TIME, 1.0, steps, dtype=torch.float64).to(torch.float32)
    share = torch.cat([even, torch.zeros(1)]) / NOISE_TIME
    return shift * share / (1 + (shift - 1) * share) * NOISE_TIME
