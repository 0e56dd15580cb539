"""How a portrait moves besides the mouth: head, blinking, gaze and brows at any absolute frame number."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from training.portraits.chance import smooth_noise, table, uniform

_BLINK_SLOT = 78  # frames; one blink in most slots gives about 15 a minute
_GAZE_SLOT = 34  # frames between glances
_AWAKE = 14  # no blink is centred before this frame: the picture a user gives has open eyes


@dataclass(frozen=True)
class Pose:
    """(N, F) each; zero is the neutral value of all of them."""

    shift_x: Tensor  # picture half-heights
    shift_y: Tensor
    roll: Tensor  # radians
    yaw: Tensor  # face units by which the features move over the head
    pitch: Tensor
    blink: Tensor  # 0 open .. 1 closed
    gaze_x: Tensor  # -1 .. 1
    gaze_y: Tensor
    brow: Tensor  # raised, about -1 .. 1
    squint: Tensor  # 0 .. 1
    smile: Tensor  # about -1 .. 1, bends the mouth's corners

    @property
    def frames(self) -> int:
        return int(self.blink.shape[1])

    def __getitem__(self, index: Tensor | slice | tuple[Tensor | slice, ...]) -> Pose:
        """A selection over samples, or over (samples, frames)."""
        return Pose(**{field.name: getattr(self, field.name)[index] for field in fields(self)})


def _blinks(seeds: Tensor, frames: Tensor) -> Tensor:
    """Lid closure (N, F): quick to close, slower to open; one blink at a random moment of most time slots."""
    slot = frames.div(_BLINK_SLOT, rounding_mode="floor")[:, None] + torch.arange(-1, 2, device=frames.device)
    moment = slot * _BLINK_SLOT + uniform(seeds[:, None, None], 21, slot) * _BLINK_SLOT
    happens = (uniform(seeds[:, None, None], 22, slot) < 0.85) & (moment > _AWAKE)
    since = frames[:, None] - moment
    span = torch.where(since < 0, 2.2, 3.4)
    lid = torch.exp(-((since / span) ** 4))
    return (lid * happens).amax(-1)


def _glances(seeds: Tensor, frames: Tensor, stream: int) -> Tensor:
    """Gaze (N, F) in -1..1 that rests, then moves within about four frames."""
    slot = frames.div(_GAZE_SLOT, rounding_mode="floor")
    s = seeds[:, None]
    into = (frames - slot * _GAZE_SLOT) - uniform(s, stream, slot) * (_GAZE_SLOT - 5)
    move = (into / 4).clamp(0, 1)
    move = move * move * (3 - 2 * move)

    def target(index: Tensor) -> Tensor:
        raw = 2 * uniform(s, stream + 1, index) - 1
        return raw * raw.abs()  # mostly near the viewer

    return torch.lerp(target(slot), target(slot + 1), move)


def poses(seeds: Tensor, frames: int, speech_level: Tensor | None = None, start_frame: int = 0) -> Pose:
    """Motion of ``frames`` frames from absolute frame ``start_frame`` on.

    Args:
        seeds: (N,) int64; independent of the seeds that make the identity.
        speech_level: (N, F) smooth loudness in 0..1; raises brows and nods a little. It acts frame by frame,
            so that a long clip rendered in pieces equals the clip rendered at once.
    """
    time = torch.arange(start_frame, start_frame + frames, device=seeds.device)
    energy = 0.4 + 0.8 * table(seeds, 20, 1)
    loud = (speech_level - 0.35) if speech_level is not None else torch.zeros((), device=seeds.device)

    def drift(stream: int, period: float) -> Tensor:
        return smooth_noise(seeds, stream, time, period)

    return Pose(
        shift_x=0.016 * energy * drift(1, 26),
        shift_y=0.012 * energy * drift(2, 24),
        roll=0.030 * energy * drift(3, 28),
        yaw=0.030 * energy * drift(4, 24),
        pitch=0.024 * energy * drift(5, 22) + 0.016 * loud,
        blink=_blinks(seeds, time),
        gaze_x=_glances(seeds, time, 30),
        gaze_y=_glances(seeds, time, 33),
        brow=0.45 * drift(6, 18) + 0.6 * loud,
        squint=0.25 * drift(7, 20).clamp(0, 1),
        smile=0.5 * drift(8, 30),
    )


def still(seeds: Tensor) -> Pose:
    """The rest pose (N, 1): that of frame 0, eyes open. With the mouth `REST` it is the portrait picture."""
    return poses(seeds, 1)


__all__ = ["Pose", "poses", "still"]
