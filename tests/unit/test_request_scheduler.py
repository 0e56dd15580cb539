"""``Request.scheduler``: the schedules of the node system on the engine's windows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from infinite_talk import Engine, Request, Settings, Speaker, UsageError
from infinite_talk.frontends.comfy.portrait import write_sound
from infinite_talk.runtime import work_of
from tests.bundles import save_tiny_bundle


@pytest.fixture(scope="module")
def engine(tmp_path_factory) -> Engine:
    return Engine(Settings(model=save_tiny_bundle(tmp_path_factory.mktemp("scheduler") / "model")))


@pytest.fixture(scope="module")
def request_(tmp_path_factory) -> Request:
    folder: Path = tmp_path_factory.mktemp("media")
    levels = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(levels).save(folder / "a.png")
    sound = {"waveform": torch.sin(torch.arange(8000) / 9)[None, None] * 0.3, "sample_rate": 16000}
    speaker = Speaker(audio=write_sound(sound, folder / "a.wav"))
    picture = folder / "a.png"
    asked = Request(image=picture, speakers=(speaker,), size="64x64!", steps=4, shift=5.0, seed=3)
    return replace(asked, colour_strength=0.0)  # which would hide what differs


def frames(engine: Engine, request: Request) -> torch.Tensor:
    return torch.cat([clip.frames for clip in engine.generate(request)]).float()


def test_the_official_times_by_name_are_the_official_video(engine, request_):
    """``multitalk`` is linspace(1, 0.001, 4), shifted, walked by Euler: what the engine does without a name."""
    named = frames(engine, replace(request_, scheduler="multitalk"))
    assert (named - frames(engine, request_)).abs().max() <= 1  # a level of 255


def test_another_name_is_another_walk_and_the_same_each_time(engine, request_):
    stochastic = replace(request_, scheduler="dpm++_sde")
    first = frames(engine, stochastic)
    assert torch.equal(first, frames(engine, stochastic))
    assert (first - frames(engine, request_)).abs().max() > 1
    assert (first - frames(engine, replace(request_, scheduler="dpm++"))).abs().max() > 1


def test_a_plan_counts_the_steps_that_are_walked(engine, request_):
    job = engine.prepare(replace(request_, scheduler="multitalk", steps=9))
    assert work_of(job.request, job.source, job.plan).steps == 4


def test_an_unknown_name_is_refused_before_a_model_is_read(request_):
    with pytest.raises(UsageError, match=r"There is no scheduler 'unipcc'. Did you mean 'unipc'\?"):
        Engine(Settings()).prepare(replace(request_, scheduler="unipcc"))
