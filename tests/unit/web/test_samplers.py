"""Both lists against the schedules themselves."""

from __future__ import annotations

import pytest

from infinite_talk.denoise.schedules.entries import ENTRIES
from infinite_talk.frontends.web.samplers import SAMPLERS, SCHEDULERS, sampler_of, scheduler_for


def test_every_scheduler_is_in_the_list_once_and_with_those_that_step_alike():
    assert sorted(SCHEDULERS) == sorted(ENTRIES)
    samplers: dict[object, set[str]] = {}
    for name, entry in ENTRIES.items():
        samplers.setdefault(entry.solver, set()).add(sampler_of(name))
    assert [found for found in samplers.values() if len(found) > 1] == []


@pytest.mark.parametrize(
    ("sampler", "before", "after"),
    [
        ("dpmpp_sde", "", "dpm++_sde"),
        ("euler", "euler/beta", "euler/beta"),
        ("unipc", "euler", "unipc"),
        ("", "unipc", ""),
        ("nonsense", "unipc", ""),
    ],
)
def test_a_sampler_takes_one_of_its_schedulers_and_leaves_one_that_is_chosen(sampler, before, after):
    assert scheduler_for(sampler, before) == after


def test_each_list_shows_what_the_other_says():
    for sampler in SAMPLERS:
        assert sampler_of(scheduler_for(sampler, "")) == sampler
    assert sampler_of("") == sampler_of(None) == ""
