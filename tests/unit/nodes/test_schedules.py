"""The scheduler nodes: what they give, what they take, and what they refuse."""

from __future__ import annotations

import logging

import pytest
import torch

from infinite_talk.denoise.schedules import schedule_of
from infinite_talk.errors import UsageError
from infinite_talk.nodes import WanVideoScheduler, WanVideoSchedulerv2, WanVideoSigmaToStep
from infinite_talk.nodes.declare import inputs_of
from infinite_talk.sampling import ScheduleChoice

SCHEDULERS = [WanVideoScheduler, WanVideoSchedulerv2]


def test_the_sigmas_are_the_uncut_schedule_and_the_cut_goes_on():
    sigmas, steps, shift, name, start, end = WanVideoScheduler().process("dpm++_sde", 4, 11.0, 2, -1)
    assert (sigmas * 1000).tolist() == pytest.approx([999.99, 970.6, 916.7, 785.7, 0], abs=0.05)
    assert sigmas.dtype == torch.float32
    assert (steps, shift, name, start, end) == (4, 11.0, "dpm++_sde", 2, -1)


@pytest.mark.parametrize("name", ["unipc", "euler", "dpm++", "deis", "res_multistep", "sa_ode_stable"])
def test_sampling_with_the_sigmas_is_sampling_with_the_name(name: str):
    """All outputs of the node put into the sampler are the schedule itself."""
    sigmas, steps, shift, same, start, end = WanVideoScheduler().process(name, 9, 3.0, 1, 7)
    own = ScheduleChoice(
        name=same, steps=steps, shift=shift, start=start, end=end, sigmas=tuple(sigmas.tolist())
    )
    plain = ScheduleChoice(name=name, steps=9, shift=3.0, start=1, end=7)
    found, expected = schedule_of(own), schedule_of(plain)
    torch.testing.assert_close(found.sigmas, expected.sigmas, atol=1e-7, rtol=0)
    # With sigmas that are given the model is always asked at whole times, as in the node pack.
    assert found.times.tolist() == expected.times.trunc().tolist()


def test_the_steps_are_those_of_the_sigmas_that_come_out():
    sigmas, steps, *_ = WanVideoScheduler().process("unipc", 20, 5.0, 0, -1, enhance_hf=True)
    assert len(sigmas) == steps + 1 != 21
    sigmas, steps, *_ = WanVideoScheduler().process("multitalk", 30, 5.0, 0, -1)
    assert (len(sigmas), steps) == (5, 4)
    given = torch.tensor([0.9, 0.5, 0.0])
    sigmas, steps, *_ = WanVideoScheduler().process("euler", 30, 5.0, 0, -1, given)
    torch.testing.assert_close(sigmas, given)
    assert steps == 2


def test_the_second_node_gives_the_inputs_in_one():
    (found,) = WanVideoSchedulerv2().process("unipc", 8, 7.0, 0.9, 6, enhance_hf=True)
    assert found == {
        "scheduler": "unipc",
        "steps": 8,
        "shift": 7.0,
        "start_step": 0.9,
        "end_step": 6,
        "sigmas": None,
        "enhance_hf": True,
    }


def test_a_sigma_goes_where_a_step_goes():
    (level,) = WanVideoSigmaToStep().convert(0.93)
    assert isinstance(level, float)
    start = WanVideoScheduler().process("dpm++", 4, 11.0, level, -1)[4]
    assert schedule_of(ScheduleChoice(name="dpm++", steps=4, shift=11.0, start=start)).first == 2
    with pytest.raises(UsageError, match=r"sigma of WanVideoSigmaToStep is 1\.5"):
        WanVideoSigmaToStep().convert(1.5)


@pytest.mark.parametrize("node", SCHEDULERS)
def test_defaults_are_the_declared_ones(node: type[WanVideoScheduler]):
    declared = {
        name: options["default"] for name, (_, options) in inputs_of(node).items() if "default" in options
    }
    assert declared == {
        "scheduler": "unipc", "steps": 30, "shift": 5.0, "start_step": 0, "end_step": -1, "enhance_hf": False
    }  # fmt: skip
    assert str(node().process()) == str(node().process(**declared))


@pytest.mark.parametrize("node", SCHEDULERS)
@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"scheduler": "unipcc"}, "Did you mean 'unipc'"),
        ({"steps": 0}, "steps of WanVideoScheduler.* is 0"),
        ({"steps": 2.5}, "give a whole number"),
        ({"shift": 1001.0}, "shift of WanVideoScheduler.* is 1001"),
        ({"start_step": -1}, "start_step of WanVideoScheduler.* is -1"),
        ({"start_step": 4.0}, r"start_step is the float 4, a sigma"),
        ({"start_step": 5, "end_step": 5}, "No step is left"),
        ({"enhance_hf": 1}, "give True or False"),
        ({"sigmas": torch.tensor([0.1, 0.2])}, "falling numbers"),
    ],
)
def test_values_are_refused_where_they_are_given(
    node: type[WanVideoScheduler], values: dict[str, object], words: str
):
    with pytest.raises(UsageError, match=words):
        node().process(**values)


def test_what_has_no_effect_is_told(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO):
        WanVideoSchedulerv2().process("multitalk", 6, 5.0)
    assert "The scheduler multitalk always takes 4 steps; steps = 6 has no effect." in caplog.messages
    assert any("4 steps, at the times 1000, 909.215, 714.897, 4.9" in line for line in caplog.messages)
