"""Solvers: against diffusers' numbers, by order of convergence, and by the law that stochastic ones keep."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from infinite_talk.denoise.noise import step_noise
from infinite_talk.denoise.schedules import NAMES, schedule_of
from infinite_talk.denoise.schedules.entries import ENTRIES
from infinite_talk.denoise.steppers import (
    AdamsBashforth,
    Bridge,
    Consistency,
    ContrastConsistency,
    Deis,
    DpmSolver,
    ErSde,
    ResMultistep,
    SdeDpmSolver,
    StableAdams,
    Stepper,
    UniPC,
    Walk,
)
from infinite_talk.sampling import ScheduleChoice
from tests.unit.denoise.recorded import solvers as recorded

NUMBERS = json.loads(recorded.FILE.read_text())
Field = Callable[[torch.Tensor, float], torch.Tensor]


def silent(step: int, shape: object) -> torch.Tensor:
    raise AssertionError(f"step {step} asked for noise")


def walked(stepper: Stepper, sigmas: tuple[float, ...], latent: torch.Tensor, field: Field) -> torch.Tensor:
    for step, sigma in enumerate(sigmas[:-1]):
        latent = stepper.step(latent, field(latent, sigma), step)
    return latent


@pytest.mark.parametrize("choice", recorded.CHOICES, ids=recorded.key)
def test_solvers_walk_as_diffusers_do(choice: ScheduleChoice):
    schedule, latent = schedule_of(choice), recorded.start()
    stepper = schedule.solver(recorded.NOISE)
    # diffusers computes some factors in float32, and its DEIS ends at 1e-6.
    close = 1e-8 if choice.name.startswith("unipc") else 3e-6
    for step, theirs in enumerate(NUMBERS[recorded.key(choice)]):
        velocity = recorded.velocity(latent, float(schedule.sigmas[step]))
        latent = stepper.step(latent, velocity, step)
        assert latent[0].tolist() == pytest.approx(theirs, abs=close), step


# Order of convergence


def error(solver: Callable[[Walk], Stepper], steps: int) -> float:
    """Of ``x' = a (x - b s)``, whose solution is known, from level 0.9 to 0.1 in even steps."""
    a, b = 2.0, 0.7

    def exact(sigma: float) -> float:
        return b * sigma + b / a + math.exp(a * (sigma - 0.9)) * (1.0 - 0.9 * b - b / a)

    sigmas = tuple(0.9 - 0.8 * step / steps for step in range(steps + 1))
    start = torch.tensor([1.0], dtype=torch.float64)
    # The schedule counts as a short one, so that no solver changes its ways with the number of steps.
    stepper = solver(Walk(sigmas, silent, whole=4))
    end = walked(stepper, sigmas, start, lambda latent, sigma: a * (latent - b * sigma))
    return abs(float(end) - exact(0.1))


@pytest.mark.parametrize(
    ("solver", "order"),
    [
        (ENTRIES["euler"].solver, 1),
        (DpmSolver, 2),
        (UniPC, 2),
        (Deis, 2),
        (ResMultistep, 2),
        (AdamsBashforth, 2),
        (StableAdams, 2),
    ],
    ids=["euler", "dpm", "unipc", "deis", "res", "adams", "stable"],
)
def test_the_error_falls_with_the_solvers_order(solver: Callable[[Walk], Stepper], order: int):
    measured = math.log2(error(solver, 160) / error(solver, 320))
    assert measured == pytest.approx(order, abs=0.25)


# What holds for all of them


@pytest.mark.parametrize("name", NAMES)
def test_a_model_that_knows_the_picture_is_led_to_it(name: str):
    """Whatever the noise: if the model always sees the same picture, the last step arrives there."""
    if name == "humo_lcm":
        pytest.skip("changes the picture's contrast on purpose")
    steps = ENTRIES[name].exactly or min(12, ENTRIES[name].most)
    schedule = schedule_of(ScheduleChoice(name=name, steps=steps, shift=3.0))
    picture = torch.linspace(-1, 1, 5, dtype=torch.float64)
    noise = torch.linspace(2, -1.5, 5, dtype=torch.float64)
    top = float(schedule.sigmas[0])
    # A straight field for those that extrapolate the velocity; towards the picture for all others.
    straight = noise - picture
    curved = ENTRIES[name].solver not in (StableAdams, AdamsBashforth)
    end = walked(
        schedule.solver(step_noise(3, 1)),
        tuple(schedule.sigmas.tolist()),
        (1 - top) * picture + top * noise,
        lambda latent, sigma: (latent - picture) / sigma if curved else straight,
    )
    torch.testing.assert_close(end, picture, atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides(name: str):
    steps = ENTRIES[name].exactly or 4
    schedule = schedule_of(ScheduleChoice(name=name, steps=steps, shift=3.0))

    def end(seed: int, window: int) -> torch.Tensor:
        stepper = schedule.solver(step_noise(seed, window))
        return walked(stepper, tuple(schedule.sigmas.tolist()), torch.ones(2, 3), recorded.velocity)

    assert torch.equal(end(5, 2), end(5, 2))
    assert end(5, 2).dtype == torch.float32
    stochastic = ENTRIES[name].solver in (Consistency, ContrastConsistency, SdeDpmSolver, ErSde, Bridge)
    assert torch.equal(end(5, 2), end(6, 2)) is not stochastic
    assert torch.equal(end(5, 2), end(5, 3)) is not stochastic


@settings(max_examples=25)
@given(st.integers(2, 9), st.integers(0, 8), st.integers(1, 9))
def test_extrapolating_solvers_are_exact_on_a_straight_way(steps: int, start: int, whole: int):
    """With the same velocity everywhere, any cut of any length arrives at the level of its end."""
    sigmas = tuple(1 - step / 11 for step in range(start % 3, start % 3 + steps + 1))
    for solver in (AdamsBashforth, StableAdams, ENTRIES["euler"].solver):
        end = walked(
            solver(Walk(sigmas, silent, whole + 8)),
            sigmas,
            torch.zeros(1, dtype=torch.float64),
            lambda latent, sigma: torch.ones_like(latent),
        )
        assert float(end) == pytest.approx(sigmas[-1] - sigmas[0], abs=1e-6)


@settings(max_examples=40)
@given(st.sampled_from(NAMES), st.integers(1, 40), st.sampled_from([0.01, 0.3, 30.0, 1000.0]), st.booleans())
def test_no_shift_is_too_extreme_to_be_walked(name: str, steps: int, shift: float, hf: bool):
    entry = ENTRIES[name]
    steps = entry.exactly or min(steps, entry.most)
    schedule = schedule_of(
        ScheduleChoice(name=name, steps=steps, shift=shift, enhance_hf=hf and not entry.fixed)
    )
    picture = torch.linspace(-1, 1, 5)
    top = float(schedule.sigmas[0])
    end = walked(
        schedule.solver(step_noise(3, 1)),
        tuple(schedule.sigmas.tolist()),
        (1 - top) * picture + top * picture.flip(0).cos(),
        lambda latent, sigma: (latent - picture) / sigma,
    )
    # Coefficients of even steps extrapolate too far on a grid that is crowded at one end, but not without end.
    assert end.isfinite().all() and end.abs().max() < (30 if entry.solver is StableAdams else 3)


@pytest.mark.parametrize("name", [name for name in NAMES if not ENTRIES[name].fixed])
def test_own_sigmas_are_walked_from_pure_noise_to_where_they_end(name: str):
    schedule = schedule_of(ScheduleChoice(name=name, steps=4, sigmas=(1.0, 0.8, 0.5, 0.3, 0.1)))
    picture, noise = torch.tensor([0.5]), torch.tensor([-1.0])
    end = walked(
        schedule.solver(lambda step, shape: noise),
        tuple(schedule.sigmas.tolist()),
        noise,
        lambda latent, sigma: noise - picture,
    )
    assert end.isfinite().all()
    deterministic = (
        DpmSolver,
        UniPC,
        Deis,
        ResMultistep,
        StableAdams,
        AdamsBashforth,
        ENTRIES["euler"].solver,
    )
    if ENTRIES[name].solver in deterministic and not ENTRIES[name].closed:
        torch.testing.assert_close(end, 0.9 * picture + 0.1 * noise, atol=1e-5, rtol=0)


# Stochastic solvers


class Given:
    """Noise that is told."""

    def __init__(self) -> None:
        self.value = torch.zeros(1)

    def __call__(self, step: int, shape: object) -> torch.Tensor:
        return self.value


@pytest.mark.parametrize("solver", [Consistency, SdeDpmSolver, ErSde])
@settings(max_examples=25)
@given(st.lists(st.floats(0.02, 0.999), min_size=3, max_size=6, unique=True))
def test_a_step_keeps_the_shares_of_picture_and_noise(solver: type[Consistency], sigmas: list[float]):
    """``x = (1 - s) picture + s noise`` before a step is so after it, in law: signal ``1 - s'``, spread ``s'``.

    The step is linear in the latent, the picture and the fresh noise; its three factors are measured.
    """
    levels = tuple(sorted(sigmas, reverse=True))
    assume(min(a - b for a, b in pairwise(levels)) > 1e-3)

    def factors(latent: float, picture: float, fresh: float) -> float:
        noise = Given()
        stepper = solver(Walk(levels, noise, len(levels) - 1))
        for step, sigma in enumerate(levels[:-1]):
            noise.value = torch.tensor([fresh], dtype=torch.float64)
            now = torch.tensor([latent], dtype=torch.float64)
            end = stepper.step(now, (now - picture) / sigma, step)
        return float(end)

    before, after = levels[-2], levels[-1]
    of_latent, of_picture, of_noise = factors(1, 0, 0), factors(0, 1, 0), factors(0, 0, 1)
    assert of_latent * (1 - before) + of_picture == pytest.approx(1 - after, abs=1e-6)
    assert math.hypot(of_latent * before, of_noise) == pytest.approx(after, abs=1e-6)


def test_the_third_order_of_er_sde_by_its_formula():
    """Written out for a third step, with integrals by fine sums: pictures ``1, 4, 2``, no noise."""
    levels = (0.9, 0.7, 0.5, 0.3)
    stepper = ErSde(Walk(levels, lambda step, shape: torch.zeros(1, dtype=torch.float64), 3))
    latent = torch.tensor([0.8], dtype=torch.float64)
    for step, picture in enumerate((1.0, 4.0)):
        stepper.step(latent, (latent - picture) / levels[step], step)
    found = float(stepper.step(latent, (latent - 2.0) / levels[2], 2))

    def scale(u: float) -> float:
        return u * (math.exp(u**0.3) + 10)

    two, one, now, end = (s / (1 - s) for s in levels)
    ratio = scale(end) / scale(now)
    points = [end + (now - end) * index / 200 for index in range(200)]
    s0 = sum(1 / scale(u) for u in points) * (now - end) / 200
    s1 = sum((u - now) / scale(u) for u in points) * (now - end) / 200
    slope = (2.0 - 4.0) / (now - one)
    former = (4.0 - 1.0) / (one - two)
    curve = (slope - former) / ((now - two) / 2)
    expected = (0.7 / 0.5) * ratio * 0.8 + 0.7 * (
        (1 - ratio) * 2.0
        + (end - now + s0 * scale(end)) * slope
        + ((end - now) ** 2 / 2 + s1 * scale(end)) * curve
    )
    assert found == pytest.approx(expected, rel=1e-9)


def test_the_bridges_spread_is_that_of_a_brownian_bridge():
    noise = Given()
    noise.value = torch.tensor([1.0])
    stepper = Bridge(Walk((0.8, 0.5, 0.0), noise, 2))
    found = stepper.step(torch.zeros(1), torch.ones(1), 0)
    assert float(found) == pytest.approx(-0.3 + math.sqrt(0.3 * 0.5 / 0.8))
    assert float(stepper.step(torch.zeros(1), torch.ones(1), 1)) == pytest.approx(-0.5)


def test_humos_contrast_by_its_formula():
    noise = Given()
    stepper = ContrastConsistency(Walk((1.0, 0.5, 0.0), noise, 2))
    picture = torch.tensor([1.0, 2.0, 6.0])
    for step, sigma in enumerate((1.0, 0.5)):
        found = stepper.step(picture + sigma, torch.ones(3), step)  # so that the picture is predicted
        factor = 0.95 * (1 + 0.15 * (1 - step / 2) * 0.5)
        expected = 3 + (picture - 3) * factor
        torch.testing.assert_close(found, expected * (0.5 if step == 0 else 1))


def test_stable_adams_by_its_rules():
    """The slow twin: all rules of a long schedule written one after another, on a curved field."""
    sigmas = tuple(1 - step / 12 for step in range(13))

    def field(latent: torch.Tensor, sigma: float) -> torch.Tensor:
        return torch.full_like(latent, sigma**2 + 1)

    start = torch.zeros(1, dtype=torch.float64)
    found = walked(StableAdams(Walk(sigmas, silent, 12)), sigmas, start, field)
    place, reached, history, smooth = 0.0, 1.0, [], None
    for step, sigma in enumerate(sigmas[:-1]):
        history = [sigma**2 + 1, *history]
        order = min(len(history), 2 if sigma > 0.7 or sigma <= 0.15 else 3)
        velocity = {
            1: history[0],
            2: 1.5 * history[0] - 0.5 * history[min(1, len(history) - 1)],
            3: (23 * history[0] - 16 * history[min(1, step)] + 5 * history[min(2, step)]) / 12,
        }[order]
        if sigma < 0.15:
            velocity = 0.8 * smooth + 0.2 * velocity
        smooth = velocity
        width = (sigmas[step + 1] - sigma) * (0.5 + 0.5 * sigma / 0.15 if sigma < 0.15 else 1)
        if step == 11:
            width = 0 - reached
        place, reached = place + width * velocity, reached + width
    assert float(found) == pytest.approx(place, abs=1e-12)


# Step noise


@settings(max_examples=25)
@given(st.integers(0, 2**64 - 1), st.integers(0, 50), st.integers(0, 100))
def test_step_noise_is_its_steps_own(seed: int, window: int, step: int):
    from infinite_talk.denoise.noise import noise_for

    noise = step_noise(seed, window)
    drawn = noise(step, (3, 4))
    assert torch.equal(drawn, step_noise(seed, window)(step, (3, 4)))
    assert drawn.dtype == torch.float32
    for other in (
        noise(step + 1, (3, 4)),
        step_noise(seed, window + 1)(step, (3, 4)),
        noise_for(seed, window, (3, 4)),
    ):
        assert not torch.isin(drawn, other).any()
