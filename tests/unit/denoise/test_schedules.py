"""Schedulers by name: recorded grids, what all grids have in common, and how a choice cuts them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from infinite_talk.denoise.schedules import NAMES, NOT_OFFERED, Schedule, schedule_of, timesteps
from infinite_talk.denoise.schedules.entries import ENTRIES
from infinite_talk.denoise.schedules.grids import beta_quantile
from infinite_talk.denoise.schedules.reference import page
from infinite_talk.denoise.steppers import Euler, StepNoise
from infinite_talk.errors import UsageError
from infinite_talk.sampling import ScheduleChoice


def schedule(name: str, steps: int = 4, shift: float = 5.0, **more: object) -> Schedule:
    return schedule_of(ScheduleChoice(name=name, steps=steps, shift=shift, **more))


def levels(*args: object, **more: object) -> list[float]:
    return schedule(*args, **more).sigmas.tolist()


def shifted(level: float, shift: float) -> float:
    return shift * level / (1 + (shift - 1) * level)


def no_noise(step: int, shape: object) -> torch.Tensor:
    raise AssertionError(f"step {step} asked for noise")


# What was recorded of the node pack


@pytest.mark.parametrize(
    ("name", "steps", "shift", "times"),
    [
        ("multitalk", 4, 1, [1000, 667, 334, 1, 0]),
        ("multitalk", 4, 5, [1000, 909.2, 714.9, 5.0, 0]),
        ("multitalk", 4, 7, [1000, 933.4, 778.3, 7.0, 0]),
        ("multitalk", 4, 11, [1000, 956.6, 846.5, 10.9, 0]),
        ("dpm++_sde", 4, 11, [999.99, 970.6, 916.7, 785.7, 0]),
        ("euler", 4, 5, [1000, 909.7, 717.3, 24.4, 0]),
        ("res_multistep", 4, 5, [1000, 937.7, 833.9, 626.9, 0]),
        ("er_sde", 4, 5, [1000, 937.7, 833.9, 626.9, 0]),
        ("flowmatch_distill", 4, 1, [999, 750, 500, 250, 0]),
        ("flowmatch_distill", 4, 5, [999.8, 937.5, 833.3, 625, 0]),
        ("flowmatch_distill", 4, 11, [999.909, 970.588, 916.667, 785.714, 0]),
        ("flowmatch_causvid", 9, 5, [999, 934, 862, 756, 603, 410, 250, 140, 74, 0]),
        ("flowmatch_causvid", 3, 5, [999, 934, 862, 0]),
    ],
)
def test_grids_are_the_recorded_ones(name: str, steps: int, shift: float, times: list[float]):
    assert levels(name, steps, shift) == pytest.approx([time / 1000 for time in times], abs=6e-5)


def test_the_video_workflow_begins_where_it_was_recorded():
    cut = schedule("dpm++_sde", 4, 11.0, start=2)
    assert (cut.sigmas * 1000).tolist() == pytest.approx([916.7, 785.7, 0], abs=0.05)
    assert cut.times.tolist() == [916, 785]
    assert cut.first == 2


@pytest.mark.parametrize("name", ["unipc", "dpm++", "dpm++_sde", "unipc/beta", "deis"])
def test_wans_own_solvers_ask_at_whole_times(name: str):
    found = schedule(name, 7, 3.0)
    assert found.times.tolist() == [math.floor(1000 * sigma) for sigma in found.sigmas.tolist()[:-1]]


def test_deis_cuts_whole_times_as_diffusers_does():
    # 1 - 0.334 is a little less than 0.666, and 3 x 0.333 a little more: diffusers asks at 666 and 332.
    assert schedule("deis", 3, 1.0).times.tolist() == [999, 666, 332]


# Each grid by its formula


@pytest.mark.parametrize("shift", [1.0, 3.0, 11.0])
@pytest.mark.parametrize("steps", [1, 3, 12])
def test_grids_by_their_formulas(steps: int, shift: float):
    numbers = range(steps)
    top = np.float32(shifted(0.999, shift))
    ends = shifted(1.0, shift), shifted(0.001, shift)
    even = np.linspace(*ends, steps)
    share = [1 - i / steps if steps <= 10 else (1 + math.cos(math.pi * i / steps)) / 2 for i in numbers]
    slow = {
        "unipc": [shifted(top * (1 - i / steps), shift) for i in numbers],
        "euler": [shifted(one, shift) for one in even],
        "lcm": [shifted(one, shift) for one in even],
        "deis": [shifted(0.999 * (1 - i / steps), shift) for i in numbers],
        "longcat_distill_euler": [
            shifted(range(1000, 0, -20)[math.floor(50 * i / steps)] / 1000, shift) for i in numbers
        ],
        "flowmatch_pusa": [shifted(1 - i / steps, shift) for i in numbers],
        "sa_ode_stable": [shifted(one, shift) for one in share],
    }
    for name, expected in slow.items():
        assert levels(name, steps, shift)[:-1] == pytest.approx(expected, abs=1e-6), name


@settings(max_examples=25)
@given(st.integers(2, 40), st.floats(1.0, 12.0))
def test_shifting_once_is_one_shift_less(steps: int, shift: float):
    for name in ("unipc", "dpm++_sde", "euler", "lcm"):
        once, plain = levels(name, steps, shift, shift_once=True), levels(name, steps, 1.0)
        assert once == pytest.approx([shifted(one, shift) for one in plain], abs=1e-6)


def test_shifting_once_changes_only_what_is_shifted_twice():
    for name in NAMES:
        changed = levels(name) != levels(name, shift_once=True)
        assert changed == ENTRIES[name].twice, name


@pytest.mark.parametrize("share", [0.0, 1e-6, 0.01, 0.2, 0.5, 0.77, 0.999, 1.0])
def test_quantiles_of_the_beta_distribution_against_scipy(share: float):
    stats = pytest.importorskip("scipy.stats")
    assert beta_quantile(share) == pytest.approx(stats.beta.ppf(share, 0.6, 0.6), abs=1e-12)


@pytest.mark.parametrize("base", ["unipc", "dpm++", "dpm++_sde", "euler", "lcm"])
def test_beta_keeps_the_ends_of_its_base(base: str):
    plain, bent = levels(base, 9), levels(f"{base}/beta", 9)
    assert bent[0] == pytest.approx(plain[0]) and bent[-2] == pytest.approx(plain[-2])
    middle = beta_quantile(0.5) * (plain[0] - plain[-2]) + plain[-2]
    assert bent[4] == pytest.approx(middle)


def test_causvid_of_a_small_model_has_four_steps_of_its_own():
    choice = ScheduleChoice(name="flowmatch_causvid", steps=4, shift=1.0)
    assert schedule_of(choice, width=1536).times.tolist() == [1000, 750, 500, 250]
    with pytest.raises(UsageError, match=r"1\.3B model has 4 steps; got steps = 5"):
        schedule_of(ScheduleChoice(name="flowmatch_causvid", steps=5), width=1536)


def test_rcm_is_its_angles_as_levels_of_the_flow():
    found = schedule("rcm", 4)
    angles = [math.atan(120), 1.5, 1.4, 1.0]
    expected = [math.sin(a) / (math.sin(a) + math.cos(a)) for a in angles]
    assert found.sigmas.tolist() == pytest.approx([*expected, 0])
    assert found.noise_scale == pytest.approx(120 / 121)
    assert schedule("rcm", 4, start=1).noise_scale == 1


def test_the_bridge_counts_its_time_from_one():
    found = schedule("vibt_unipc", 5, 3.0)
    assert found.times.tolist() == schedule("deis", 5, 3.0).times.tolist()
    assert found.sigmas.tolist()[:-1] == pytest.approx([(time + 1) / 1000 for time in found.times.tolist()])


def test_pusa_begins_at_the_strength():
    found = schedule("flowmatch_pusa", 4, 1.0, denoise_strength=0.6)
    assert found.sigmas.tolist() == pytest.approx([0.6, 0.45, 0.3, 0.15, 0])
    assert found.first == 0


def test_ode_plus_raises_its_last_level():
    plain, raised = levels("flowmatch_pusa", 8, 3.0), levels("ode/+", 8, 3.0)
    assert raised[:-2] == pytest.approx(plain[:-2])
    assert raised[-2] - plain[-2] == pytest.approx(0.003 * math.sin(math.pi * 7 / 8))


# All grids


@settings(max_examples=60)
@given(st.sampled_from(NAMES), st.integers(1, 60), st.floats(0.2, 20.0), st.booleans())
def test_every_grid_falls_to_nothing_in_as_many_steps_as_asked(name: str, steps: int, shift: float, hf: bool):
    entry = ENTRIES[name]
    steps = entry.exactly or min(steps, entry.most)
    found = schedule(name, steps, shift, enhance_hf=hf and not entry.fixed)
    sigmas = found.sigmas
    if entry.closed or entry.fixed or not hf:
        assert found.steps == steps
    assert len(sigmas) == found.steps + 1
    assert (sigmas[:-1] >= sigmas[1:]).all() and sigmas[-1] == 0 and sigmas[0] <= 1 + 1e-6
    if (
        name != "vibt_unipc"
    ):  # which counts in whole times: at large shifts two steps may share one, and nothing moves
        assert (sigmas[:-1] > sigmas[1:]).all()
    assert (found.times <= 1000.001).all() and (found.times >= 0).all()
    assert ((found.times.double() - 1000 * sigmas[:-1]).abs() <= 1.001).all()
    assert (found.sigmas.dtype, found.times.dtype) == (torch.float64, torch.float32)


def test_every_name_of_the_node_pack_is_offered():
    pack = (
        "unipc unipc/beta dpm++ dpm++/beta dpm++_sde dpm++_sde/beta euler euler/beta longcat_distill_euler deis lcm "
        "lcm/beta res_multistep er_sde flowmatch_causvid flowmatch_distill flowmatch_pusa multitalk sa_ode_stable rcm "
        "vibt_unipc"
    )
    assert NAMES[:21] == tuple(pack.split())


# multitalk


@settings(max_examples=25)
@given(st.integers(1, 100), st.floats(1.0, 12.0))
def test_multitalk_is_the_engines_schedule_to_the_last_bit(steps: int, shift: float):
    found = schedule("multitalk", steps, shift)
    times = timesteps(4, shift)
    assert torch.equal(found.times, times[:-1])
    ours, engines = found.solver(no_noise), Euler(times)
    latent = torch.linspace(-2, 2, 9)
    for step in range(4):
        velocity = latent.cos()
        assert torch.equal(ours.step(latent, velocity, step), engines.step(latent, velocity, step))
        latent = ours.step(latent, velocity, step)


def test_multitalk_says_in_one_line_what_has_no_effect():
    assert schedule("multitalk", 4).notes == ()
    assert schedule("multitalk", 6).notes == (
        "The scheduler multitalk always takes 4 steps; steps = 6 has no effect.",
    )
    found = schedule("multitalk", start=2, end=3, denoise_strength=0.5, sigmas=(1.0, 0.0), enhance_hf=True)
    assert found.steps == 4
    assert found.notes == (
        "With the scheduler multitalk these have no effect: start_step, end_step, denoise_strength, sigmas, "
        "enhance_hf.",
    )


# Cuts


@settings(max_examples=25)
@given(st.integers(2, 30), st.data())
def test_a_cut_is_a_slice_of_the_whole(steps: int, data: st.DataObject):
    start = data.draw(st.integers(0, steps - 1))
    end = data.draw(st.integers(start + 1, steps + 5) | st.just(-1))
    whole, part = schedule("euler", steps), schedule("euler", steps, start=start, end=end)
    stop = steps if end == -1 else min(end, steps)
    assert torch.equal(part.sigmas, whole.sigmas[start : stop + 1])
    assert torch.equal(part.times, whole.times[start:stop])
    assert part.first == start


@settings(max_examples=25)
@given(st.floats(0.05, 0.95), st.floats(0.05, 0.95))
def test_thresholds_name_steps_by_their_noise(one: float, other: float):
    low, high = sorted((one, other))
    whole = levels("unipc", 30, 2.0)[:-1]
    inside = [sigma for sigma in whole if low <= sigma <= high]
    if not inside:
        with pytest.raises(UsageError, match="No step"):
            schedule("unipc", 30, 2.0, start=high, end=low)
        return
    assert levels("unipc", 30, 2.0, start=high, end=low)[:-1] == inside


@pytest.mark.parametrize(
    ("steps", "strength", "start"), [(10, 0.5, 4), (4, 0.99, 0), (30, 0.7, 8), (6, 0.0, 5), (5, 1.0, 0)]
)
def test_strength_leaves_the_last_steps(steps: int, strength: float, start: int):
    found = schedule("dpm++", steps, denoise_strength=strength)
    assert (found.first, found.steps) == (start, steps - start)


@pytest.mark.parametrize("steps", [4, 20, 100])
def test_enhance_hf_walks_the_less_noisy_half_evenly(steps: int):
    whole, found = schedule("unipc", steps, 3.0), schedule("unipc", steps, 3.0, enhance_hf=True)
    half = float(whole.times[0]) / 2
    tail = max(3, min(15, int(steps * 0.2)))
    kept = [time for time in whole.times.tolist() if time > half]
    assert found.times.tolist() == pytest.approx([*kept, *(half * (1 - i / tail) for i in range(tail))])
    exact = (whole.sigmas * 1000).tolist()[: len(kept)]
    assert (found.sigmas * 1000).tolist() == pytest.approx([*exact, *found.times.tolist()[len(kept) :], 0])


def test_own_sigmas_replace_the_grid():
    found = schedule("euler", 30, 5.0, sigmas=(0.9876, 0.5, 0.25, 0.1))
    assert found.sigmas.tolist() == [0.9876, 0.5, 0.25, 0.1]
    assert found.times.tolist() == [987, 500, 250]
    assert found.notes == (
        "The sigmas make 3 steps; steps = 30 has no effect.",
        "shift = 5 has no effect on sigmas that are given.",
    )


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"name": "eular"}, "There is no scheduler 'eular'. Did you mean 'euler'"),
        (
            {"name": "flowmatch_lowstep_d"},
            "is not offered: its algorithm was never published.*'sa_ode_stable/lowstep'",
        ),
        ({"name": "iching/wuxing-sharp"}, "is not offered: .*norm of 20.*'sa_ode_stable'"),
        ({"name": "flowmatch_distill", "steps": 5}, "has 4 steps; got steps = 5"),
        ({"name": "flowmatch_causvid", "steps": 10}, "takes 1 to 9 steps; got steps = 10"),
        ({"name": "rcm", "steps": 5}, "takes 1 to 4 steps"),
        ({"name": "longcat_distill_euler", "steps": 51}, "takes 1 to 50 steps"),
        ({"name": "unipc", "steps": 0}, "takes 1 to 1000 steps"),
        ({"name": "flowmatch_causvid", "sigmas": (1.0, 0.0)}, "fixed grid; sigmas do not go"),
        ({"name": "flowmatch_distill", "enhance_hf": True}, "fixed grid; enhance_hf does not go"),
        ({"name": "flowmatch_pusa", "denoise_strength": 0.0}, "above 0 with flowmatch_pusa"),
        ({"name": "euler", "shift": 0.0}, "shift must be a number above 0"),
        ({"name": "euler", "denoise_strength": 1.5}, "between 0 and 1; got 1.5"),
        ({"name": "euler", "denoise_strength": 0.5, "start": 1}, "sets the first step itself"),
        ({"name": "euler", "start": 4}, "No step is left: start_step = 4"),
        ({"name": "euler", "start": 2, "end": 2}, "No step is left"),
        ({"name": "euler", "start": -1}, "No step is left"),
        ({"name": "euler", "start": 0.001}, "No step has a sigma of 0.001 or less"),
        ({"name": "unipc", "end": 1.5}, "No step has a sigma of 1.5 or more"),
        ({"name": "euler", "sigmas": (0.5, 0.6)}, "falling numbers between 1 and 0"),
        ({"name": "euler", "sigmas": (1.5, 0.6)}, "falling numbers between 1 and 0"),
        ({"name": "euler", "sigmas": (0.5, 0.5, 0.0)}, "falling numbers between 1 and 0"),
        ({"name": "euler", "sigmas": (0.5,)}, "falling numbers between 1 and 0"),
        ({"name": "euler", "sigmas": (1.0, math.nan, 0.0)}, "falling numbers between 1 and 0"),
    ],
)
def test_what_cannot_be_is_refused_in_words(choice: dict[str, object], words: str):
    with pytest.raises(UsageError, match=words):
        schedule_of(ScheduleChoice(**choice))


def test_names_that_are_not_offered_point_to_offered_ones():
    assert {known.nearest for known in NOT_OFFERED.values()} <= set(NAMES)
    assert not set(NOT_OFFERED) & set(NAMES)
    seed = {"flowmatch_lowstep_d", "flowmatch_sa_ode_stable", "sa_ode_stable/lowstep", "ode/+", "humo_lcm"}
    kinds = ("", "-strong", "-stable", "-smooth", "-clean", "-sharp", "-lowstep")
    assert seed | {f"iching/wuxing{kind}" for kind in kinds} <= set(NOT_OFFERED) | set(NAMES)


def test_the_page_about_the_schedulers_is_what_they_are():
    written = (Path(__file__).parents[3] / "docs" / "schedulers.md").read_text("utf-8")
    assert written == page(), "run: python -m infinite_talk.denoise.schedules.reference > docs/schedulers.md"


def test_a_shift_without_effect_is_told():
    assert schedule("rcm", shift=5.0).notes == ("shift = 5 has no effect with the scheduler rcm.",)
    assert schedule("rcm", shift=1.0).notes == ()


def _counted(asked: list[int]) -> StepNoise:
    def noise(step: int, shape: object) -> torch.Tensor:
        asked.append(step)
        return torch.zeros(tuple(shape))  # type: ignore[arg-type]

    return noise


def test_a_cut_run_draws_the_noise_of_the_steps_it_takes():
    """Two samplers that share a schedule do not add the same noise twice."""
    asked: list[int] = []
    solver = schedule("lcm", 6, start=2, end=5).solver(_counted(asked))
    for step in range(3):
        solver.step(torch.zeros(2), torch.ones(2), step)
    assert asked == [2, 3, 4]
