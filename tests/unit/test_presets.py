"""What a request leaves open: filled in from the model, a distilled preset, and what was measured for step caches."""

from __future__ import annotations

from dataclasses import replace

import pytest

from infinite_talk.errors import UsageError
from infinite_talk.presets import DISTILLED, OFFICIAL, Defaults, resolve
from infinite_talk.request import Distilled, EasyCache, MagCache, Request, TeaCache
from infinite_talk.weights.hub.catalogue import PRESETS, catalogued


@pytest.mark.parametrize("name", list(Distilled))
def test_a_distilled_preset_asks_the_model_once_a_step(name: Distilled) -> None:
    few = resolve(Request(distilled=name), OFFICIAL)
    assert f"{few.steps}step" in name
    assert (few.text_guidance, few.audio_guidance) == (1.0, 1.0)
    assert few.shift == DISTILLED[name].shift
    assert few.window_frames == OFFICIAL.window_frames


def test_what_the_request_says_wins_over_its_distilled_preset() -> None:
    asked = Request(distilled=Distilled.LIGHTX2V_4STEP, steps=6, audio_guidance=2.0, shift=3.0, size="720")
    few = resolve(asked, OFFICIAL)
    assert (few.steps, few.shift, few.text_guidance, few.audio_guidance) == (6, 3.0, 1.0, 2.0)


def test_distilled_files_are_those_of_the_catalogue() -> None:
    """A file that is pulled is recognised, and a preset that is named exists."""
    published = {file.path.rpartition("/")[2] for file in catalogued()} | {one.name for one in PRESETS}
    few = DISTILLED[Distilled.LIGHTX2V_4STEP]
    assert {*few.loras[:2], *few.models} <= published
    for file in catalogued():
        if file.part == "lora":
            assert file.path.rpartition("/")[2] in few.loras


@pytest.mark.parametrize(
    ("size", "first"), [("480", 257151.496), ("720", 8107.0546), ("640x480", 257151.496)]
)
def test_teacache_takes_the_polynomial_of_its_size(size: str, first: float) -> None:
    cache = resolve(Request(size=size, step_cache=TeaCache(threshold=0.1)), OFFICIAL).step_cache
    assert cache == TeaCache(threshold=0.1, coefficients=cache.coefficients)
    assert cache.coefficients[0] == pytest.approx(first)


@pytest.mark.parametrize(("size", "shift", "last"), [("480", 3.0, 0.92617), ("720", 5.0, 0.8679)])
def test_magcache_takes_the_ratios_of_its_size(size: str, shift: float, last: float) -> None:
    cache = resolve(Request(size=size, step_cache=MagCache()), OFFICIAL).step_cache
    assert (len(cache.ratios), cache.ratios[-1], cache.shift) == (40, last, shift)


def test_numbers_of_the_request_win() -> None:
    for cache in (TeaCache(coefficients=(1.0, 0.0)), MagCache(ratios=(1.0, 0.9), shift=2.0), EasyCache()):
        assert resolve(Request(step_cache=cache), OFFICIAL).step_cache == cache
        assert resolve(Request(step_cache=cache), Defaults()).step_cache == cache
    own = MagCache(ratios=(1.0, 0.9))
    assert resolve(Request(step_cache=own, shift=4.0), OFFICIAL).step_cache == replace(own, shift=4.0)


@pytest.mark.parametrize(("cache", "said"), [(TeaCache(), "coefficients"), (MagCache(), "ratios")])
def test_a_model_that_was_not_measured_is_refused(cache: TeaCache | MagCache, said: str) -> None:
    with pytest.raises(UsageError, match=f"{said}.*EasyCache, which needs no numbers"):
        resolve(Request(step_cache=cache), Defaults())


def test_resolving_again_changes_nothing() -> None:
    for cache in (None, TeaCache(), MagCache(), EasyCache()):
        once = resolve(Request(step_cache=cache, distilled=Distilled.FUSIONX_8STEP), OFFICIAL)
        assert resolve(once, Defaults()) == once
