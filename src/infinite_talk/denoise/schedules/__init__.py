"""Schedulers by name: a grid of noise levels and the solver that goes with it (``docs/schedulers.md``)."""

from __future__ import annotations

from infinite_talk.denoise.schedules.choose import schedule_of
from infinite_talk.denoise.schedules.entries import NAMES, NOT_OFFERED
from infinite_talk.denoise.schedules.schedule import Schedule
from infinite_talk.denoise.times import NOISE_TIME, timesteps

__all__ = ["NAMES", "NOISE_TIME", "NOT_OFFERED", "Schedule", "schedule_of", "timesteps"]
