"""``Sampler``: how a window is walked from noise to latent; the same for every window of a run."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from infinite_talk.denoise.guidance import Guidance, guidance
from infinite_talk.denoise.schedules import timesteps
from infinite_talk.denoise.steppers import Euler, Stepper
from infinite_talk.request import APG, Compat, Request


@dataclass(frozen=True, slots=True, eq=False)
class Sampler:
    """Schedule and rules; ``stepper`` and ``guidance`` may have a memory and are made anew for each window."""

    times: torch.Tensor  # (steps + 1,), falling from 1000 to 0
    text_guidance: float
    audio_guidance: float
    apg: APG | None = None
    compat: Compat = Compat.FIXED
    _placed: dict[torch.device, tuple[torch.Tensor, ...]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, request: Request) -> Sampler:
        """The sampler of a resolved request (``presets.resolve``)."""
        assert request.steps is not None and request.shift is not None, "resolve the request first"
        assert request.text_guidance is not None and request.audio_guidance is not None
        return cls(
            timesteps(request.steps, request.shift),
            request.text_guidance,
            request.audio_guidance,
            request.apg,
            request.compat,
        )

    @property
    def steps(self) -> int:
        return len(self.times) - 1

    def times_on(self, device: torch.device) -> tuple[torch.Tensor, ...]:
        """The time of each step ``(1,)`` on a device: the same tensors in every window, so that what is made
        of them can be kept."""
        if device not in self._placed:
            self._placed[device] = torch.split(self.times[:-1].to(device), 1)
        return self._placed[device]

    def guidance(self) -> Guidance:
        """The guidance rule of one window."""
        return guidance(self.text_guidance, self.audio_guidance, self.apg, self.compat)

    def stepper(self) -> Stepper:
        """The solver of one window."""
        return Euler(self.times)
