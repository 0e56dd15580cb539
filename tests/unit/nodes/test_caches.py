"""What the dictionaries of the cache nodes mean for a model."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from infinite_talk.denoise.caches import SkipCount, step_cache
from infinite_talk.denoise.caches.magcache import policy
from infinite_talk.denoise.caches.measured import measured_sets, set_for
from infinite_talk.denoise.denoiser import Plain
from infinite_talk.denoise.loop import denoise
from infinite_talk.denoise.sampler import Sampler
from infinite_talk.errors import UsageError
from infinite_talk.nodes import WanVideoEasyCache, WanVideoMagCache, WanVideoTeaCache
from infinite_talk.nodes.caches import cache_of
from infinite_talk.presets import OFFICIAL, Defaults
from infinite_talk.request import EasyCache, MagCache, TeaCache
from infinite_talk.sampling import GuidanceChoice, Sampling, ScheduleChoice
from tests.unit.denoise.test_loop import some_guide, tiny_transformer

LARGE = {"title": "wan2.1-i2v-14b-480p.safetensors", "width": 5120}


def tea(**values: Any) -> dict[str, Any]:
    return WanVideoTeaCache().process(**values)[0]


def rule(steps: int, **guidance: tuple[float, ...]) -> Sampler:
    schedule = ScheduleChoice(name="euler", steps=steps, shift=3.0)
    return Sampler.of_sampling(Sampling(schedule=schedule, guidance=GuidanceChoice(**guidance)))


@pytest.mark.parametrize(
    ("title", "width", "name"),
    [
        ("Wan2_1-I2V-14B-480P_fp8.safetensors", 5120, "i2v_480"),
        ("wan2.1_i2v_720p_14B.gguf", 5120, "i2v_720"),
        ("renamed.safetensors", 5120, "i2v_480"),
        ("Wan2_2-I2V-A14B-HIGH.safetensors", 5120, "i2v_14B_2.2"),
        ("wan2.2_i2v_low_noise_14B.safetensors", 5120, "i2v_14B_2.2"),
        ("wan2.1_1.3B_720.safetensors", 1536, "1_3B"),
        ("embedded", 96, None),
    ],
)
def test_the_architecture_chooses_the_numbers(title: str, width: int, name: str | None) -> None:
    assert set_for(title, width) == name


def test_the_published_numbers_are_those_of_the_presets() -> None:
    """Two copies of the same numbers, from two sources."""
    small, large = (measured_sets()[name] for name in ("i2v_480", "i2v_720"))
    assert small.e0 == pytest.approx(OFFICIAL.step_cache)
    assert large.e0 == pytest.approx(OFFICIAL.large_step_cache)
    assert (small.ratios, small.shift) == (OFFICIAL.magcache, OFFICIAL.magcache_shift)
    assert (large.ratios, large.shift) == (OFFICIAL.large_magcache, OFFICIAL.large_magcache_shift)
    for one in measured_sets().values():
        assert len(one.e) == len(one.e0) == 5
        assert len(one.ratios) == len(one.other_ratios) in (40, 50)
        assert one.ratios[0] == one.other_ratios[0] == 1


def test_teacache_has_the_polynomial_of_its_mode() -> None:
    numbers = measured_sets()["i2v_480"]
    for mode, coefficients in (("e", numbers.e), ("e0", numbers.e0)):
        found = cache_of(tea(mode=mode, start_step=2, end_step=7), **LARGE)
        assert found is not None
        assert found.cache == TeaCache(
            threshold=0.3, coefficients=coefficients, embedding=mode, first=2, last=7
        )
        assert found.keep_on() == torch.device("cpu")
    assert cache_of(None, **LARGE) is None


def test_teacache_without_coefficients_adds_up_the_moves() -> None:
    found = cache_of(tea(use_coefficients=False), **LARGE)
    assert found is not None
    assert found.cache == TeaCache(threshold=0.3, coefficients=(1.0, 0.0), embedding="e0", first=1, last=None)


def test_teacache_skips_by_the_chosen_embedding_in_the_chosen_steps() -> None:
    """Slow twin: distances of consecutive steps are added up since the last computed one."""
    transformer, asked, guide = tiny_transformer(), rule(12), some_guide()
    noise = torch.randn(guide.latent_shape, generator=torch.Generator().manual_seed(0))
    skipped = {}
    for embedding in ("e", "e0"):
        with torch.no_grad():
            rows = [transformer.embed_time(time[None])[embedding == "e0"] for time in asked.times]
        for first, last in ((1, None), (4, 8)):
            expected, moved = 0, 0.0
            for step in range(12):
                if first <= step <= (11 if last is None else last):
                    moved += float((rows[step] - rows[step - 1]).abs().mean() / rows[step - 1].abs().mean())
                    skip = moved < 1.0
                else:
                    skip = False
                moved, expected = (moved, expected + 1) if skip else (0.0, expected)
            count = SkipCount()
            cache = TeaCache(
                threshold=1.0, coefficients=(1.0, 0.0), embedding=embedding, first=first, last=last
            )
            denoise(step_cache(Plain(transformer), asked, cache, count), asked, guide, noise)
            assert count.take() == {"cond": expected}
            skipped[embedding, first] = expected
    assert all(skipped.values())
    assert skipped["e", 1] != skipped["e0", 1]


def test_magcache_reads_its_whole_table_at_the_steps_of_the_run() -> None:
    """On the measured schedule every step has its own ratio; the pack never sees the second half."""
    ratios = (1.0, *[1.0] * 10, *[0.5] * 9)
    cache = MagCache(threshold=0.1, longest=99, ratios=ratios, shift=1.0, first=1)
    skips = policy(
        Sampler.of_sampling(Sampling(schedule=ScheduleChoice(name="multitalk", steps=4, shift=1.0))), cache
    )
    assert len(skips.skips) == 4
    whole = policy(rule_like(20, 1.0), cache)
    assert whole.skips == (False, *[True] * 10, *[False] * 9)


def rule_like(steps: int, shift: float) -> Sampler:
    """On the grid on which ratios are taken to be measured."""
    from infinite_talk.denoise.schedules import timesteps

    return Sampler(timesteps(steps, shift), 1.0, 1.0)


def test_magcache_counts_the_other_passes_where_there_are_some() -> None:
    cache = MagCache(
        threshold=0.1, longest=99, ratios=(1.0,) * 8, other_ratios=(1.0, *[0.5] * 7), shift=3.0, first=1
    )
    assert policy(rule(8), cache).skips == (False, *[True] * 7)
    assert not any(policy(rule(8, text=(5.0,)), cache).skips)
    assert policy(rule(8, audio=(3.0,)), cache).skips == (False, *[True] * 7)  # both passes have the prompt


def test_magcache_of_the_node() -> None:
    found = cache_of(WanVideoMagCache().setargs(cache_device="main_device")[0], **LARGE, shift=11.0)
    assert found is not None and isinstance(found.cache, MagCache)
    assert (found.cache.threshold, found.cache.longest, found.cache.first) == (0.02, 4, 1)
    assert found.cache.other_ratios == measured_sets()["i2v_480"].other_ratios
    assert found.keep_on() is None


def test_easycache_of_the_node() -> None:
    found = cache_of(WanVideoEasyCache().setargs()[0], title="embedded", width=96)
    assert found is not None
    assert found.cache == EasyCache(threshold=0.015, first=10, last=None)


def test_easycache_stops_at_its_last_step() -> None:
    transformer, asked, guide = tiny_transformer(), rule(10), some_guide()
    noise = torch.randn(guide.latent_shape, generator=torch.Generator().manual_seed(0))
    counts = []
    for last in (None, 5):
        count = SkipCount()
        cache = step_cache(
            Plain(transformer), asked, EasyCache(threshold=math.inf, first=2, last=last), count
        )
        denoise(cache, asked, guide, noise)
        counts.append(count.take()["cond"])
    assert counts == [8, 4]


def test_where_it_remembers_does_not_change_a_number() -> None:
    transformer, asked, guide = tiny_transformer(), rule(8), some_guide()
    noise = torch.randn(guide.latent_shape, generator=torch.Generator().manual_seed(0))
    cache = TeaCache(threshold=0.4, coefficients=(1.0, 0.0), first=1)
    found = [
        denoise(step_cache(Plain(transformer), asked, cache, keep_on=place), asked, guide, noise)
        for place in (None, torch.device("cpu"))
    ]
    assert torch.equal(*found)


def test_a_branch_that_missed_a_step_is_computed_with_the_others() -> None:
    """Step 2 asks one branch; the plan skips 1, 2 and 3, but at 3 the other branch's memory is two steps old."""
    transformer, guide, count = tiny_transformer(), some_guide(), SkipCount()
    asked = rule(5, text=(3.0, 3.0, 1.0, 3.0))
    cache = TeaCache(threshold=1e9, coefficients=(1.0, 0.0), first=1)
    noise = torch.randn(guide.latent_shape, generator=torch.Generator().manual_seed(0))
    denoise(step_cache(Plain(transformer), asked, cache, count), asked, guide, noise)
    assert count.take() == {"cond": 3, "drop_text": 2}


def test_a_model_of_its_own_numbers() -> None:
    own = Defaults(step_cache=(0.5, 0.0), magcache=(1.0, 0.9))
    small = {"title": "embedded", "width": 96, "measured": own}
    found = cache_of(tea(), **small)
    assert found is not None
    assert found.cache == TeaCache(threshold=0.3, coefficients=(0.5, 0.0), embedding="e0", first=1, last=None)
    assert "e0" in found.notes[0]
    mag = cache_of(WanVideoMagCache().setargs()[0], **small, shift=7.0)
    assert mag is not None and isinstance(mag.cache, MagCache)
    assert (mag.cache.ratios, mag.cache.shift) == ((1.0, 0.9), 7.0)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"cache_type": "DeepCache"}, "choose one of TeaCache, MagCache, EasyCache"),
        ({"rel_l1_tresh": 0.3}, "Did you mean rel_l1_thresh"),
        ({"cache_type": "EasyCache", "magcache_K": 3}, "unknown key magcache_K"),
        ({"cache_type": "MagCache", "magcache_thresh": 0.9}, "at most 0.3"),
        ({"rel_l1_thresh": 0.3, "mode": "e1"}, "choose one of e, e0"),
    ],
)
def test_dictionaries_that_nobody_understands(args: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        cache_of(args, **LARGE)


def test_a_model_that_nobody_has_measured() -> None:
    with pytest.raises(UsageError, match="switch use_coefficients off"):
        cache_of(tea(), title="own", width=96)
    with pytest.raises(UsageError, match="WanVideoEasyCache"):
        cache_of(WanVideoMagCache().setargs()[0], title="own", width=96)


def test_the_old_dictionary_without_a_kind_is_teacache() -> None:
    args = {"rel_l1_thresh": 0.2, "cache_device": torch.device("cpu")}
    found = cache_of(args, **LARGE)
    assert found is not None and isinstance(found.cache, TeaCache)
    assert found.on_host
