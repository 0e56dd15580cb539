"""Context windows: in which overlapping stretches a latent is asked that is longer than the model takes.

The uniform schedules move from step to step, so that seams never lie at the same place; where is the step's number
with its bits reversed (AnimateDiff-Evolved, after Hotshot-XL). Numbers are latent frames.
"""

from __future__ import annotations

import math
from itertools import pairwise

from infinite_talk.errors import UsageError
from infinite_talk.sampling import ContextWindows

Stretch = tuple[int, ...]
"""Latent frames that are asked together, in their order."""
LEAST = 1e-6
"""Weight of a frame at the end of a ramp: nothing beside another stretch, everything without one."""


def stretches(choice: ContextWindows, step: int, latents: int) -> list[Stretch]:
    """The stretches of one step. Together they cover all ``latents`` frames; one, if all fit.

    Raises:
        UsageError: the stretches would not advance.
    """
    if choice.overlap >= choice.frames:
        raise UsageError(
            f"A context of {choice.frames} latent frames cannot overlap by {choice.overlap}; choose context_overlap "
            f"smaller than context_frames."
        )
    if latents <= choice.frames:
        return [tuple(range(latents))]
    if choice.schedule == "static_standard":
        return _static(choice, latents)
    if choice.schedule == "uniform_looped":
        return list(dict.fromkeys(_uniform(choice, step, latents, beyond=0)))
    return _unrolled(_uniform(choice, step, latents, beyond=choice.overlap), latents, choice.frames)


def weights(choice: ContextWindows, stretch: Stretch, latents: int) -> tuple[float, ...]:
    """How much each frame of a stretch counts where stretches overlap.

    ``linear``: 1, with ramps of ``overlap`` frames from 0 to 1 at ends where another stretch goes on; a looped video
    has no other ends. ``pyramid``: rises evenly to 1 at the centre, and is nowhere less than the ramps of its ends.
    """
    count, looped = len(stretch), choice.schedule == "uniform_looped"
    ramp = _ramp(choice.overlap)[:count]
    begins = looped or min(stretch) > 0
    ends = looped or max(stretch) < latents - 1
    if count == latents and not looped:
        begins = ends = False
    if choice.fuse == "pyramid":
        found = [min(i + 1, count - i) / ((count + 1) // 2) for i in range(count)]
        if begins:
            found[: len(ramp)] = map(max, found, ramp)
        if ends:
            found[count - len(ramp) :] = map(max, found[count - len(ramp) :], reversed(ramp))
    else:
        found = [1.0] * count
        if begins:
            found[: len(ramp)] = map(min, found, ramp)
        if ends:
            found[count - len(ramp) :] = map(min, found[count - len(ramp) :], reversed(ramp))
    return tuple(max(weight, LEAST) for weight in found)


def prompt_of(stretch: Stretch, latents: int, prompts: int) -> int:
    """Which of several prompts a stretch has: that of its last frame, the prompts being spread evenly."""
    return min(int(max(stretch) / (latents / prompts)), prompts - 1)


def halving(step: int) -> float:
    """The 64 bits of ``step`` reversed, as a fraction: 0, 1/2, 1/4, 3/4, 1/8, ..."""
    return int(f"{step:064b}"[::-1], 2) / 2**64


def _ramp(overlap: int) -> list[float]:
    """``linspace(0, 1, overlap)``."""
    return [i / max(1, overlap - 1) for i in range(overlap)]


def _static(choice: ContextWindows, latents: int) -> list[Stretch]:
    """The same stretches at all steps; the last one is pulled back to the end."""
    starts = [*range(0, latents - choice.frames, choice.frames - choice.overlap), latents - choice.frames]
    return [tuple(range(start, start + choice.frames)) for start in starts]


def _uniform(choice: ContextWindows, step: int, latents: int, *, beyond: int) -> list[Stretch]:
    """Stretches from a place that moves with the step, around the end to the beginning.

    Strides 1, 2, 4, ...: with a stride a stretch looks at every n-th frame. One so wide that it would come around to
    its own frames is left out.
    """
    size = choice.frames
    levels = min(choice.stride, math.ceil(math.log2(latents / size)) + 1)
    found = []
    for stride in (1 << level for level in range(levels)):
        if (size - 1) * stride >= latents:
            continue
        pad = round(latents * halving(step))
        starts = range(
            int(halving(step) * stride) + pad, latents + pad - beyond, size * stride - choice.overlap
        )
        found += [tuple(e % latents for e in range(j, j + size * stride, stride)) for j in starts]
    return found


def _unrolled(rolling: list[Stretch], latents: int, size: int) -> list[Stretch]:
    """Stretches that come around the end are moved back to it; what they covered at the beginning is asked anew.

    With strides that can leave frames which nobody asks; they get a stretch of their own.
    """
    found = list(rolling)
    i = 0
    while i < len(found):
        first = _first_after_end(found[i])
        if first is not None:
            moved = [(frame - found[i][0]) % latents for frame in found[i]]
            found[i] = tuple(frame + latents - 1 - moved[-1] for frame in moved)
            if first not in found[(i + 1) % len(found)]:
                found.insert(i + 1, tuple(range(first, first + size)))
        i += 1
    while missing := set(range(latents)).difference(*found):
        first = min(*missing, latents - size)
        found.append(tuple(range(first, first + size)))
    return list(dict.fromkeys(found))


def _first_after_end(stretch: Stretch) -> int | None:
    """The frame with which a stretch has come around the end of the video."""
    return next((b for a, b in pairwise(stretch) if b < a), None)
