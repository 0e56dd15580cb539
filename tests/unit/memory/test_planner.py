"""The planner: always within the limit, never more for less, and what the user decided."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infinite_talk.errors import CapabilityError, UsageError
from infinite_talk.memory import MemoryPlan, ModelSizes, Work, full_sizes, plan_memory, replan
from infinite_talk.memory.planner import NOTCH, SPARE, UNASKED, allocator_limit, choices, with_spare
from infinite_talk.memory.speed import CARDS, GIB, card_with
from infinite_talk.memory.stages import Needs, resident_bytes
from infinite_talk.ops.linear import Format
from infinite_talk.settings import Memory, Quantization
from infinite_talk.types import Size
from infinite_talk.weights.precision import FORMATS

KEPT: dict[str, Format | str | None] = {
    "bf16": None,
    "fp8": FORMATS[Quantization.FP8_E4M3FN_SCALED_FAST],
    "int8": FORMATS[Quantization.INT8],
    "nvfp4": FORMATS[Quantization.FP4_SCALED],
    "gguf": "Q4_K",
}
MODELS = {name: full_sizes(kept) for name, kept in KEPT.items()}
LOW, HIGH = Work(size=Size(448, 832)), Work(size=Size(704, 1280))


def plan(gib: float, name: str = "bf16", work: Work = LOW, asked: Memory = UNASKED) -> MemoryPlan:
    return plan_memory(MODELS[name], work, allocator_limit(gib), asked)


works = st.builds(
    Work,
    size=st.sampled_from([Size(448, 832), Size(640, 640), Size(704, 1280), Size(64, 96)]),
    frames=st.sampled_from([5, 33, 81, 129]),
    branches=st.just(3),
    people=st.integers(1, 3),
    windows=st.integers(1, 50),
)
memories = st.builds(
    Memory,
    blocks_to_swap=st.one_of(st.none(), st.integers(0, 40)),
    prefetch_blocks=st.one_of(st.none(), st.integers(0, 3)),
    vae_tiling=st.sampled_from([None, True, False]),
    keep_encoders=st.sampled_from([None, True, False]),
)


def tried(model: ModelSizes, work: Work, limit: float, asked: Memory) -> MemoryPlan | None:
    try:
        return plan_memory(model, work, limit, asked)
    except CapabilityError:
        return None


@given(
    name=st.sampled_from(list(MODELS)),
    work=works,
    gib=st.floats(1, 150),
    less=st.floats(0.3, 1),
    asked=memories,
)
@settings(max_examples=30, deadline=None)
def test_a_plan_is_within_its_limit_and_less_memory_never_needs_more(name, work, gib, less, asked):
    found = tried(MODELS[name], work, gib * GIB, asked)
    smaller = tried(MODELS[name], work, less * gib * GIB, asked)
    if found is None:
        assert smaller is None
        return
    assert found == tried(MODELS[name], work, gib * GIB, asked)
    assert with_spare(found.peak) <= gib * GIB
    assert found.peak == max(stage.peak for stage in found.stages)
    if smaller is not None:
        assert smaller.peak <= found.peak
        assert smaller.blocks_to_swap >= found.blocks_to_swap or smaller.vae_tile is not None


@given(work=works, gib=st.floats(4, 150), asked=memories)
@settings(max_examples=30, deadline=None)
def test_what_was_decided_is_kept(work, gib, asked):
    found = tried(MODELS["int8"], work, gib * GIB, asked)
    if found is None:
        return
    if asked.blocks_to_swap is not None:
        assert found.blocks_to_swap == asked.blocks_to_swap
    if asked.prefetch_blocks is not None and found.blocks_to_swap:
        assert found.prefetch_blocks == asked.prefetch_blocks
    if asked.keep_encoders is not None:
        assert found.keep_encoders is asked.keep_encoders
    if asked.vae_tiling is not None and max(work.size.height, work.size.width) > 64:
        assert (found.vae_tile is not None) is asked.vae_tiling


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("gib", [8, 12, 16, 24, 48, 80])
def test_the_14b_model_fits_everywhere(name, gib):
    found = plan(gib, name)
    assert found.peak < allocator_limit(gib)
    assert found.host < 64 * GIB


def test_plenty_of_memory_changes_nothing():
    found = plan(141)
    assert (found.blocks_to_swap, found.vae_tile, found.rows_at_once) == (0, None, None)
    assert found.keep_encoders
    assert found.keep_keys_values
    assert not found.text_blocks_to_swap


def test_the_order_of_sacrifices():
    """From plenty to little memory, each thing is given up before the next dearer one."""

    def given_up(found: MemoryPlan) -> tuple[bool, bool, bool, bool]:
        return (
            not found.keep_encoders,
            found.blocks_to_swap > 0,
            found.vae_tile is not None,
            found.blocks_to_swap > 0 and not found.prefetch_blocks,
        )

    seen = [given_up(plan(gib)) for gib in (100, 56, 40, 24, 12, 8, 5.5)]
    assert seen == sorted(seen)  # once given up, never taken back
    assert seen[0] == (False, False, False, False)
    assert seen[-1][:3] == (True, True, True)


@pytest.mark.parametrize("asked", [Memory(blocks_to_swap=41), Memory(blocks_to_swap=-1)])
def test_more_blocks_than_there_are(asked):
    with pytest.raises(UsageError, match="has 40"):
        plan(24, asked=asked)


def test_impossible_names_the_least_that_works():
    with pytest.raises(CapabilityError, match=r"at least (\d+\.\d) GiB") as caught:
        plan(3)
    least = float(str(caught.value).partition("at least ")[2].split()[0])
    assert tried(MODELS["bf16"], LOW, (least + 0.06) * GIB, UNASKED) is not None
    assert tried(MODELS["bf16"], LOW, (least - 0.06) * GIB, UNASKED) is None


def test_too_little_host_memory_is_said():
    with pytest.raises(CapabilityError, match=r"host memory, 16\.0 GiB"):
        plan_memory(MODELS["bf16"], LOW, 16 * GIB, host_limit=16 * GIB)


@pytest.mark.parametrize("name", MODELS)
def test_replanning_goes_down_until_nothing_is_left(name):
    found, peaks = plan(48, name), []
    with pytest.raises(CapabilityError):
        while len(peaks) < 60:
            peaks.append(found.peak)
            found = replan(found, MODELS[name], LOW)
    assert 3 < len(peaks) < 60
    assert all(b <= NOTCH * a + SPARE for a, b in pairwise(peaks))


def test_a_cpu_keeps_everything_and_swaps_nothing():
    found = plan_memory(MODELS["bf16"], LOW, 200 * GIB, gpu=False)
    assert (found.blocks_to_swap, found.keep_encoders, found.host) == (0, True, 0)


def test_the_reason_says_what_is_done():
    said = plan(16).reason
    assert said.startswith("15.5 GiB free: ")
    assert f"{plan(16).blocks_to_swap} of 40 blocks stay in host memory (1 ahead)" in said
    assert "encoders leave after use" in said
    small = replace(LOW, size=Size(64, 96), frames=5)
    assert plan(141, work=small).reason == "140.5 GiB free: everything stays loaded"


def test_swapping_costs_time_only_where_copies_are_slower_than_work():
    """24 GiB: hidden on a card with many operations per byte; a slow bus and few tokens are not."""
    card = card_with(24)
    swapped = plan_memory(MODELS["bf16"], LOW, allocator_limit(24), speed=card.speed())
    alone = plan_memory(MODELS["bf16"], LOW, allocator_limit(96), speed=card.speed())
    assert swapped.blocks_to_swap > 15
    assert swapped.seconds_per_window == pytest.approx(alone.seconds_per_window)
    slow = replace(card.speed(), link=1e8)
    assert (
        plan_memory(MODELS["bf16"], LOW, allocator_limit(24), speed=slow).seconds_per_window
        > 2 * alone.seconds_per_window
    )


def test_landing_places_are_counted():
    model = MODELS["bf16"]
    assert resident_bytes(model, 0, 0) == model.rest + 40 * model.block
    assert resident_bytes(model, 40, 1) == model.rest + 2 * model.block
    assert resident_bytes(model, 1, 2) == resident_bytes(model, 0, 0)


def test_cards_are_in_order():
    assert [card.gib for card in CARDS] == sorted(card.gib for card in CARDS)
    assert card_with(13).gib == 16
    assert card_with(500) is CARDS[-1]


def test_every_choice_has_a_finite_need():
    costs = Needs(MODELS["fp8"], HIGH)
    needs = [costs.peak(choice) for choice in choices(MODELS["fp8"], HIGH, UNASKED, 12 * GIB, gpu=True)]
    assert min(needs) < 8 * GIB < max(needs)


def test_small_branches_are_one_batch_while_there_is_room() -> None:
    """A model of the embedded one's size in launches of microseconds; never the 14B model at any usual size."""
    config = replace(MODELS["bf16"].transformer, dim=256, ffn_dim=1024, num_heads=4, num_layers=10)
    small = replace(MODELS["bf16"], transformer=config, block=4e6, rest=4e6, base=4)
    work = Work(size=Size(192, 192), frames=49, branches=3)
    roomy = plan_memory(small, work, 40 * GIB)
    assert roomy.batch_branches
    assert not plan_memory(small, replace(work, branches=1, silent=0), 40 * GIB).batch_branches
    assert not plan_memory(small, work, 40 * GIB, gpu=False).batch_branches  # too large for a CPU's caches
    assert plan_memory(small, replace(work, size=Size(96, 96), frames=21), 40 * GIB, gpu=False).batch_branches
    needs = Needs(small, work)
    chosen = next(iter(choices(small, work, UNASKED, 40 * GIB, gpu=True)))
    together, one_by_one = (
        needs.denoise(None, kept=True, batched=batched).bytes for batched in (True, False)
    )
    assert chosen.batched and together > one_by_one
    assert not any(
        plan(80, work=replace(LOW, size=size)).batch_branches for size in (Size(256, 256), LOW.size)
    )
