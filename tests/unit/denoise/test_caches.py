"""All step caches alike: nothing changes at threshold 0, every guidance layout and window, what is kept and told."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from infinite_talk.denoise.caches import SkipCount, StepCache, skip_note, step_cache
from infinite_talk.denoise.denoiser import Plain, Question
from infinite_talk.denoise.guidance import Branch
from infinite_talk.denoise.loop import denoise
from infinite_talk.denoise.sampler import Sampler
from infinite_talk.request import Compat, EasyCache, MagCache, TeaCache
from infinite_talk.sampling import GuidanceChoice, Sampling, ScheduleChoice, Share
from tests.unit.denoise.test_loop import sampler, some_guide, tiny_transformer

STEPS = 9
CACHES = {
    "teacache": TeaCache(threshold=1e9, coefficients=(1.0, 0.0)),
    "magcache": MagCache(threshold=1e9, longest=100, ratios=(1.0, 0.9, 0.8), shift=3.0),
    "easycache": EasyCache(threshold=1e9),
}
"""Each skips whatever it may."""
ALWAYS = {"teacache": 5, "magcache": 2, "easycache": 2}
"""Of nine steps, those that are computed whatever the threshold: five; a fifth of them, rounded up."""
LAYOUTS = [(3.0, 2.0), (1.0, 2.0), (3.0, 1.0), (1.0, 1.0)]
each_cache = pytest.mark.parametrize("name", CACHES)


class Counting:
    """Counts how often the blocks run."""

    def __init__(self, transformer) -> None:
        self.runs = 0
        transformer.blocks[0].register_forward_hook(self)

    def __call__(self, *_) -> None:
        self.runs += 1


def noise_for(guide, seed: int) -> torch.Tensor:
    return torch.randn(guide.latent_shape, generator=torch.Generator().manual_seed(seed))


def layout(branches) -> dict[str, int]:
    return dict.fromkeys(map(str, branches), 0)


@each_cache
@pytest.mark.parametrize(
    ("text", "audio", "compat"),
    [(3.0, 2.0, Compat.FIXED), (3.0, 2.0, Compat.OFFICIAL), (1.0, 1.0, Compat.FIXED)],
)
def test_threshold_zero_is_the_plain_denoiser(name: str, text: float, audio: float, compat: Compat) -> None:
    transformer, rule = tiny_transformer(), sampler(4, text, audio, compat)
    cache = step_cache(Plain(transformer), rule, replace(CACHES[name], threshold=0.0))
    for seed in (0, 1):
        guide = some_guide(seed=seed)
        noise = noise_for(guide, seed)
        assert torch.equal(
            denoise(cache, rule, guide, noise), denoise(Plain(transformer), rule, guide, noise)
        )


@each_cache
@pytest.mark.parametrize("batched", [False, True])
def test_branches_that_need_not_be_remembered_apart_are_asked_together(name: str, batched: bool) -> None:
    """As the plain denoiser does: they share work, or are one batch. At threshold 0 it is to the bit the same."""
    transformer, rule, guide = tiny_transformer(), sampler(7), some_guide()
    together, asked = Plain(transformer, batched=batched), []
    plain = Plain(transformer, batched=batched)
    velocities = plain.velocities
    plain.velocities = lambda latent, questions: (
        asked.append(len(questions)),
        velocities(latent, questions),
    )[1]
    nothing = step_cache(plain, rule, replace(CACHES[name], threshold=0.0))
    exact = denoise(together, rule, guide, noise_for(guide, 0))
    assert torch.equal(denoise(nothing, rule, guide, noise_for(guide, 0)), exact)
    assert asked == [3] * 7
    asked.clear()
    denoise(step_cache(plain, rule, CACHES[name]), rule, guide, noise_for(guide, 0))
    # The last step before the skipped ones is remembered, token by token in TeaCache and MagCache.
    computed = {"teacache": 4, "magcache": 1, "easycache": 2}[name]
    assert asked == [3] * computed


@pytest.mark.parametrize(
    ("name", "text", "audio"),
    [*((name, 3.0, 2.0) for name in CACHES), *(("magcache", *layout) for layout in LAYOUTS[1:])],
)
def test_every_layout_skips_the_same_steps_and_each_window_starts_afresh(
    name: str, text: float, audio: float
) -> None:
    transformer, rule, skips = tiny_transformer(), sampler(STEPS, text, audio), SkipCount()
    branches, count = rule.guidance().branches, Counting(transformer)
    cache = step_cache(Plain(transformer), rule, CACHES[name], skips)
    guide = some_guide()
    first = denoise(cache, rule, guide, noise_for(guide, 0))
    assert count.runs == len(branches) * ALWAYS[name]
    assert skips.take() == dict.fromkeys(map(str, branches), STEPS - ALWAYS[name])
    assert not skips.take()
    other = some_guide(seed=5)
    denoise(cache, rule, other, noise_for(other, 5))
    assert count.runs == 2 * len(branches) * ALWAYS[name]
    assert torch.equal(denoise(cache, rule, guide, noise_for(guide, 0)), first)
    assert not torch.equal(first, denoise(Plain(transformer), rule, guide, noise_for(guide, 0)))


@each_cache
def test_branches_asked_one_by_one_skip_what_they_skip_together(name: str) -> None:
    guide, latent, rule = some_guide(), noise_for(some_guide(), 0), sampler(STEPS)
    skipped = []
    for apart in (False, True):
        skips = SkipCount()
        cache = step_cache(Plain(tiny_transformer()), rule, CACHES[name], skips)
        conditions = {branch: cache.condition(guide, branch) for branch in rule.guidance().branches}
        with torch.inference_mode():
            for step in range(STEPS):
                time = rule.times[step : step + 1]
                questions = [Question(step, time, branch, own) for branch, own in conditions.items()]
                for some in [[one] for one in questions] if apart else [questions]:
                    cache.velocities(latent * (1 + 0.1 * step), some)
        skipped.append(skips.take())
    assert skipped[0] == skipped[1] and set(skipped[0].values()) == {STEPS - ALWAYS[name]}


@each_cache
def test_a_window_stopped_in_the_middle_leaves_no_trace(name: str) -> None:
    transformer, rule = tiny_transformer(), sampler(STEPS)
    cache, guide, other = step_cache(Plain(transformer), rule, CACHES[name]), some_guide(), some_guide(seed=5)
    whole = denoise(cache, rule, guide, noise_for(guide, 0))

    def stop(step: int) -> None:
        if step == STEPS - 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        denoise(cache, rule, other, noise_for(other, 5), stop)
    assert torch.equal(denoise(cache, rule, guide, noise_for(guide, 0)), whole)


@each_cache
def test_nothing_is_kept_after_a_window(name: str) -> None:
    """The codec, which comes next, may need the memory: at full size 0.34 GB for each branch."""
    transformer, rule = tiny_transformer(), sampler(STEPS)
    cache, guide = step_cache(Plain(transformer), rule, CACHES[name]), some_guide()
    held = []
    denoise(cache, rule, guide, noise_for(guide, 0), lambda _: held.append(len(cache._kept)))
    assert max(held) == 3 and held[-1] == 0


@each_cache
def test_a_skipped_step_repeats_what_its_own_branch_did(name: str) -> None:
    transformer, rule = tiny_transformer(), sampler(STEPS)
    cache, guide = step_cache(Plain(transformer), rule, CACHES[name]), some_guide()
    latent, always = noise_for(guide, 3), ALWAYS[name]
    branches = rule.guidance().branches
    with torch.inference_mode():
        for step in range(always + 1):
            # The last two at the same latent and time: then the remembered change is what the model would do.
            seen = latent * (1 + max(0, always - 1 - step))
            time = torch.tensor([400.0])
            answers = {
                branch: cache.velocity(seen, Question(step, time, branch, cache.condition(guide, branch)))
                for branch in branches
            }
            if step < always:
                computed = answers
    assert len({float(answer.sum()) for answer in computed.values()}) == len(branches)
    for branch, answer in answers.items():
        torch.testing.assert_close(answer, computed[branch])


@each_cache
def test_bfloat16_repeats_within_its_rounding(name: str) -> None:
    transformer, rule = tiny_transformer().bfloat16(), sampler(STEPS, 1.0, 1.0)
    cache, guide = step_cache(Plain(transformer), rule, CACHES[name]), some_guide()
    latent = noise_for(guide, 3)
    with torch.inference_mode():
        answers = []
        for step in range(ALWAYS[name] + 1):
            question = Question(step, torch.tensor([400.0]), Branch.COND, cache.condition(guide, Branch.COND))
            answers.append(cache.velocity(latent * (1 + max(0, ALWAYS[name] - 1 - step)), question))
    assert answers[-1].dtype == torch.float32
    difference = (answers[-1] - answers[-2]).norm() / answers[-2].norm()
    assert float(difference) < 2e-2


def test_more_is_skipped_with_a_higher_threshold_and_the_result_moves_further_away() -> None:
    """Loosely: what the threshold promises holds in order, on a model that is smooth in time."""
    transformer, rule, guide = tiny_transformer(), sampler(12, 1.0, 2.0), some_guide()
    exact = denoise(Plain(transformer), rule, guide, noise_for(guide, 0))
    for asked, thresholds in (
        (EasyCache(), (0.0, 0.1, 0.3)),
        (MagCache(longest=9, ratios=(1.0, *[0.97] * 11), shift=3.0), (0.0, 0.05, 0.2)),
    ):
        skipped, errors = [], []
        for threshold in thresholds:
            skips = SkipCount()
            cache = step_cache(Plain(transformer), rule, replace(asked, threshold=threshold), skips)
            errors.append(float((denoise(cache, rule, guide, noise_for(guide, 0)) - exact).norm()))
            skipped.append(skips.take()["cond"])
        assert skipped[0] == 0 < skipped[1] < skipped[2]
        assert errors[0] == 0 < errors[1] < errors[2]


def test_the_note_tells_steps_of_each_branch() -> None:
    assert skip_note(None, {}, 40) == "" == skip_note(TeaCache(), {}, 40)
    assert (
        skip_note(TeaCache(), {"cond": 0}, 40)
        == "TeaCache left out none of 40 steps of a window: the result is exact."
    )
    assert "3 of 80 passes in cond" in skip_note(MagCache(), {"cond": 3}, 80, "passes")
    same = skip_note(MagCache(), {"cond": 3, "uncond": 3}, 40)
    assert (
        same.startswith("MagCache left out 3 of 40 steps in each of cond, uncond") and "approximate" in same
    )
    different = skip_note(EasyCache(), {"cond": 3, "uncond": 4}, 40)
    assert "3 of 40 steps in cond, 4 of 40 steps in uncond" in different


def test_the_count_of_a_cache_without_listener_is_its_own() -> None:
    transformer, rule = tiny_transformer(), sampler(STEPS)
    first, second = (step_cache(Plain(transformer), rule, CACHES["magcache"]) for _ in range(2))
    assert isinstance(first, StepCache) and first._count is not second._count


def test_easycache_survives_a_model_that_answers_nothing() -> None:
    """A latent or an answer that stands still gives 0 / 0, which must mean: compute."""
    transformer, rule = tiny_transformer(), sampler(STEPS, 1.0, 1.0)
    for parameter in transformer.head.parameters():
        torch.nn.init.zeros_(parameter)
    skips = SkipCount()
    guide = some_guide()
    latent = denoise(
        step_cache(Plain(transformer), rule, EasyCache(), skips), rule, guide, noise_for(guide, 0)
    )
    assert skips.take() == {"cond": 0}
    assert math.isfinite(float(latent.sum()))


@each_cache
def test_the_branch_without_a_face_is_skipped_with_the_others_and_remembers_for_itself(name: str) -> None:
    """Where the face's scale acts in some steps only, a memory that missed a step is not used."""
    guided = GuidanceChoice(text=(3.0,), face=(2.0,), face_share=Share(start=0.0, end=0.7))
    rule = Sampler.of_sampling(
        Sampling(schedule=ScheduleChoice(name="euler", steps=STEPS, shift=3.0), guidance=guided)
    )
    transformer, skips, guide = tiny_transformer(), SkipCount(), some_guide()
    cache = step_cache(Plain(transformer), rule, CACHES[name], skips)
    found = denoise(cache, rule, guide, noise_for(guide, 0))
    taken = skips.take()
    assert taken["cond"] == taken["drop_text"] >= taken["drop_face"] > 0
    assert found.isfinite().all()
    nothing = step_cache(Plain(transformer), rule, replace(CACHES[name], threshold=0.0))
    exact = denoise(Plain(transformer), rule, guide, noise_for(guide, 0))
    assert torch.equal(denoise(nothing, rule, guide, noise_for(guide, 0)), exact)
