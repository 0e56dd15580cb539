"""Mouth movements without speech: random visemes with pauses, as pure functions of seed and frame number.

Good enough to train what only has to know mouths (the reader, the autoencoder); talking is trained on speech.
"""

from __future__ import annotations

import torch
from torch import Tensor

from training.portraits.chance import table, uniform

# open, width, round, teeth, tongue, tuck: common mouths of speech, in the order of `mouth.CHANNELS`
VISEMES = {
    "rest": (0.0, 0.5, 0.0, 0.0, 0.0, 0.0),
    "p": (0.0, 0.5, 0.1, 0.0, 0.0, 0.0),
    "f": (0.12, 0.55, 0.0, 0.9, 0.0, 1.0),
    "th": (0.22, 0.5, 0.0, 0.7, 0.9, 0.0),
    "t": (0.25, 0.58, 0.0, 0.7, 0.4, 0.0),
    "l": (0.35, 0.55, 0.0, 0.4, 0.9, 0.0),
    "s": (0.12, 0.72, 0.0, 1.0, 0.0, 0.0),
    "sh": (0.2, 0.3, 0.75, 0.9, 0.0, 0.0),
    "r": (0.25, 0.35, 0.5, 0.3, 0.2, 0.0),
    "w": (0.1, 0.08, 1.0, 0.0, 0.0, 0.0),
    "ee": (0.24, 1.0, 0.0, 0.8, 0.2, 0.0),
    "eh": (0.52, 0.72, 0.0, 0.5, 0.15, 0.0),
    "ae": (0.78, 0.78, 0.0, 0.5, 0.1, 0.0),
    "aa": (1.0, 0.5, 0.0, 0.3, 0.05, 0.0),
    "ao": (0.78, 0.28, 0.5, 0.1, 0.0, 0.0),
    "uw": (0.2, 0.08, 0.95, 0.0, 0.0, 0.0),
}
_BEAT = 2.6  # frames per viseme: about ten a second
_PHRASE = 18  # beats that share one decision: talk or pause


def babble(seeds: Tensor, frames: int, start_frame: int = 0) -> Tensor:
    """Mouth channels (N, frames, 6) in 0..1; every seed speaks at its own liveliness."""
    time = torch.arange(start_frame, start_frame + frames, device=seeds.device).to(torch.float32) / _BEAT
    beat = time.floor()
    t = time - beat
    weights = torch.stack(((1 - t) ** 2, 1 + 2 * t - 2 * t**2, t**2), dim=-1) / 2  # quadratic B-spline
    beats = beat.to(torch.int64)[:, None] + torch.arange(3, device=seeds.device)  # (F, 3)
    each = seeds[:, None, None]
    shapes = torch.tensor(list(VISEMES.values()), device=seeds.device)
    chosen = (uniform(each, 40, beats) * len(shapes)).to(torch.int64)
    talks = uniform(each, 41, beats.div(_PHRASE, rounding_mode="floor")) < 0.82
    knots = shapes[torch.where(talks, chosen, 0)]  # (N, F, 3, 6)
    mouth = (knots * weights[None, :, :, None]).sum(2)
    lively = 0.7 + 0.6 * table(seeds, 42, 1)
    opening = (mouth[..., :1] * lively[:, :, None]).clamp(0, 1)
    return torch.cat((opening, mouth[..., 1:]), dim=-1)


__all__ = ["VISEMES", "babble"]
