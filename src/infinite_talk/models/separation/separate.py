"""Separation of sound of any length: overlapping chunks, faded into each other."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from infinite_talk.models.separation.model import CHANNELS, MelBandRoFormer

_OVERLAP = 2
"""Chunks that hear each moment."""
_FADE = 10
"""The length of a chunk / that of its fades."""


@torch.inference_mode()
def separate(model: MelBandRoFormer, sound: Tensor) -> Tensor:
    """The voice in ``(2, S)`` at the model's rate, of the same shape, on the CPU in float32.

    Chunks begin every half of their length; each is faded in and out over a tenth, but for the sound's own ends, and
    what overlaps is averaged by these weights.
    """
    if sound.shape[0] != CHANNELS:
        raise ValueError(f"sound of {tuple(sound.shape)}; expected ({CHANNELS}, samples)")
    size = model.config.chunk
    length = sound.shape[1]
    voice, weight = torch.zeros_like(sound), torch.zeros(length)
    device = model.window.device
    starts = [0, *range(size // _OVERLAP, max(1, length - size // _OVERLAP), size // _OVERLAP)]
    for start in starts:
        part = sound[:, start : start + size]
        kept = part.shape[1]
        found = model(_filled(part, size)[None].to(device))[0, :, :kept].float().cpu()
        fade = fades(kept, size // _FADE, first=start == 0, last=start == starts[-1])
        voice[:, start : start + kept] += found * fade
        weight[start : start + kept] += fade
    return voice / weight


def fades(length: int, fade: int, *, first: bool, last: bool) -> Tensor:
    """Weights of a chunk, above 0: rising at its beginning and falling at its end, where another chunk is heard too."""
    weights = torch.ones(length)
    ramp = torch.arange(1, min(fade, length) + 1) / fade
    if not first:
        weights[: len(ramp)] *= ramp
    if not last:
        weights[-len(ramp) :] *= ramp.flip(0)
    return weights


def _filled(part: Tensor, size: int) -> Tensor:
    """A chunk that is too short goes on mirrored if that is enough, else with silence."""
    missing = size - part.shape[1]
    if missing <= 0:
        return part
    if missing < part.shape[1]:
        return F.pad(part, (0, missing), mode="reflect")
    return F.pad(part, (0, missing))
