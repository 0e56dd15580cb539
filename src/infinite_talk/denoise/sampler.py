"""``Sampler``: how a window is walked from noise to latent; the same for every window of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from infinite_talk.denoise.differences import rescaled_score
from infinite_talk.denoise.face import rules_of
from infinite_talk.denoise.guidance import Guidance, guidance
from infinite_talk.denoise.schedules import NOISE_TIME, Schedule, schedule_of, timesteps
from infinite_talk.denoise.steppers import Euler, StepNoise, Stepper
from infinite_talk.request import APG, Compat, Request
from infinite_talk.sampling import Sampling, ScheduleChoice

WIDTH = 5120
"""Of the 14B transformer, where no other is known."""


@dataclass(frozen=True, slots=True, eq=False)
class Sampler:
    """Schedule and rules; ``stepper`` and ``guidance`` may have a memory and are made anew for each window."""

    times: torch.Tensor  # (steps + 1,), falling from 1000 to 0
    text_guidance: float
    audio_guidance: float
    apg: APG | None = None
    compat: Compat = Compat.FIXED
    sampling: Sampling | None = None
    """What more is asked; then it says the guidance too."""
    schedule: Schedule | None = None
    """Where ``times`` are from and who walks them; ``None``: the official schedule and Euler."""
    _placed: dict[torch.device, tuple[torch.Tensor, ...]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, request: Request, width: int = WIDTH) -> Sampler:
        """The sampler of a resolved request (``presets.resolve``), for a transformer of ``width``.

        Raises:
            UsageError: its scheduler is unknown, or does not have so many steps.
        """
        assert request.steps is not None and request.shift is not None, "resolve the request first"
        assert request.text_guidance is not None and request.audio_guidance is not None
        guided = (request.text_guidance, request.audio_guidance, request.apg, request.compat)
        if request.scheduler is None:
            return cls(timesteps(request.steps, request.shift), *guided)
        choice = ScheduleChoice(name=request.scheduler, steps=request.steps, shift=request.shift)
        schedule = schedule_of(choice, width)
        return cls(_with_end(schedule), *guided, schedule=schedule)

    @classmethod
    def of_sampling(cls, sampling: Sampling, width: int = WIDTH) -> Sampler:
        """The sampler of those who choose more than a request offers, for a transformer of ``width``.

        Raises:
            UsageError: the schedule is unknown, or has no steps left.
        """
        schedule = schedule_of(sampling.schedule, width)
        guided = sampling.guidance
        return cls(
            _with_end(schedule),
            guided.text[0],
            guided.audio[0],
            sampling=sampling,
            schedule=schedule,
        )

    @property
    def steps(self) -> int:
        return len(self.times) - 1

    @property
    def notes(self) -> tuple[str, ...]:
        """One line for each thing that was chosen without effect."""
        return () if self.schedule is None else self.schedule.notes

    @property
    def sigmas(self) -> tuple[float, ...]:
        """Share of noise before each step, and after the last: ``steps + 1`` of them."""
        if self.schedule is not None:
            return tuple(self.schedule.sigmas.tolist())
        return tuple((self.times / NOISE_TIME).tolist())

    @property
    def noise_scale(self) -> float:
        """Factor of the noise that a window starts from."""
        return 1.0 if self.schedule is None else self.schedule.noise_scale

    @property
    def by_frame(self) -> bool:
        """Whether latent frames that are known are asked at a time of their own (``frame_times.py``)."""
        return self.schedule is not None and self.schedule.by_frame

    def times_on(self, device: torch.device) -> tuple[torch.Tensor, ...]:
        """The time of each step ``(1,)`` on a device: the same tensors in every window, so that what is made
        of them can be kept."""
        if device not in self._placed:
            self._placed[device] = torch.split(self.times[:-1].to(device), 1)
        return self._placed[device]

    def guidance(self) -> Guidance:
        """The guidance rules of one window."""
        if self.sampling is not None:
            return rules_of(self.sampling.guidance, self.steps)
        return guidance(self.text_guidance, self.audio_guidance, self.apg, self.compat)

    def stepper(self, noise: StepNoise | None = None) -> Stepper:
        """The solver of one window; ``noise`` is for those that add some between the steps."""
        if self.schedule is None:
            return Euler(self.times)
        return self.schedule.solver(_none_given if noise is None else noise)

    def corrected(self, velocity: torch.Tensor, latent: torch.Tensor, step: int) -> torch.Tensor:
        """What is done to the guided velocity before the solver sees it."""
        rescaling = None if self.sampling is None else self.sampling.score_rescaling
        if rescaling is None:
            return velocity
        return rescaled_score(velocity, latent, self.sigmas[step], rescaling)


def _with_end(schedule: Schedule) -> torch.Tensor:
    """The times of the steps, and the one after the last."""
    end = torch.full_like(schedule.times[:1], float(schedule.sigmas[-1]) * NOISE_TIME)
    return torch.cat([schedule.times, end])


def _none_given(step: int, shape: Sequence[int]) -> torch.Tensor:
    raise AssertionError(f"the solver adds noise, and none was given for step {step} {tuple(shape)}")
