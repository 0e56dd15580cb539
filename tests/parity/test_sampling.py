"""Schedules and guidance rules against the recorded ones."""

from __future__ import annotations

import pytest
import torch

from infinite_talk.denoise.guidance import Branch, guidance
from infinite_talk.denoise.schedules import timesteps
from infinite_talk.denoise.steppers import Euler
from infinite_talk.request import APG
from tests.golden import GoldenFile, cases


def _named(found: list[GoldenFile]) -> list[object]:
    return [pytest.param(case, id=case.name) for case in found]


@pytest.mark.parametrize("case", _named(cases("timesteps")))
def test_times_and_widths_follow_the_reference(case: GoldenFile) -> None:
    for steps, shift in case.config["combos"]:
        name = f"{steps}_{shift:g}"
        times = timesteps(steps, shift)
        torch.testing.assert_close(times, case[f"out/t_{name}"], atol=1e-4, rtol=0)
        walked = [Euler(times).step(torch.zeros(()), -torch.ones(()), i) for i in range(steps)]
        torch.testing.assert_close(torch.stack(walked), case[f"out/dt_{name}"], atol=1e-7, rtol=0)


@pytest.mark.parametrize("rule", ["cfg", "cfg_text1", "apg", "apg_text1"])
@pytest.mark.parametrize("case", _named(cases("guidance")))
def test_guided_velocity_follows_the_reference(case: GoldenFile, rule: str) -> None:
    config = case.config
    text = 1.0 if rule.endswith("text1") else config["text_guide_scale"]
    apg = APG(momentum=config["apg_momentum"], norm_threshold=config["apg_norm_threshold"])
    window = guidance(text, config["audio_guide_scale"], apg if rule.startswith("apg") else None)
    for step in range(config["steps"]):
        answers = {branch: case[f"in/{branch}_{step}"] for branch in window.branches}
        torch.testing.assert_close(window.combine(answers), case[f"out/{rule}_{step}"], atol=2e-5, rtol=0)
    expected = {"cond", "drop_audio"} if text == 1.0 else {"cond", "drop_text", "uncond"}
    assert set(window.branches) == {Branch(name) for name in expected}
