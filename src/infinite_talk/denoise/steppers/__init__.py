"""Solvers of the flow: given the velocity at one time, where is the latent at the next?"""

from __future__ import annotations

from infinite_talk.denoise.steppers.adams import AdamsBashforth, StableAdams
from infinite_talk.denoise.steppers.deis import Deis
from infinite_talk.denoise.steppers.dpm import DpmSolver, SdeDpmSolver
from infinite_talk.denoise.steppers.er_sde import ErSde
from infinite_talk.denoise.steppers.euler import Euler
from infinite_talk.denoise.steppers.lcm import Consistency, ContrastConsistency
from infinite_talk.denoise.steppers.res import ResMultistep
from infinite_talk.denoise.steppers.unipc import UniPC
from infinite_talk.denoise.steppers.vibt import Bridge
from infinite_talk.denoise.steppers.walk import StepNoise, Stepper, Walk

__all__ = [
    "AdamsBashforth",
    "Bridge",
    "Consistency",
    "ContrastConsistency",
    "Deis",
    "DpmSolver",
    "ErSde",
    "Euler",
    "ResMultistep",
    "SdeDpmSolver",
    "StableAdams",
    "StepNoise",
    "Stepper",
    "UniPC",
    "Walk",
]
