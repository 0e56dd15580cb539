"""The pieces that measurements are made of."""

from __future__ import annotations

import pytest
import torch

from infinite_talk.benchmarks.ceilings import Ceilings, Meter, shapes_of
from infinite_talk.benchmarks.clock import Spread
from infinite_talk.benchmarks.profile import group_of, syncs_of
from infinite_talk.benchmarks.random_models import RandomWeights, write_tokenizer
from infinite_talk.benchmarks.watch import parse_row
from infinite_talk.memory.flops import Kind, block_parts, total
from infinite_talk.models.dit import DiTConfig
from infinite_talk.models.text.finding import fits
from infinite_talk.models.text.tokens import FolderTokenizer
from infinite_talk.ops.attention import sdpa
from tests.bundles import CONFIGS

CPU = torch.device("cpu")


def test_random_weights_keep_the_size_of_what_they_are_given():
    shapes = {
        "a.weight": (400, 500),
        "a.bias": (400,),
        "norm.gamma": (8, 1, 1),
        "conv.weight": (64, 32, 3, 3, 3),
    }
    weights = RandomWeights(shapes, torch.float32, CPU, seed=3)
    x = torch.randn(200, 500)
    assert float((x @ weights["a.weight"].T).std()) == pytest.approx(1.0, rel=0.02)
    assert float(weights["conv.weight"].std()) == pytest.approx((32 * 27) ** -0.5, rel=0.02)
    assert not weights["a.bias"].any() and bool((weights["norm.gamma"] == 1).all())
    assert torch.equal(weights["a.weight"], RandomWeights(shapes, torch.float32, CPU, seed=3)["a.weight"])
    assert not torch.equal(weights["a.weight"], RandomWeights(shapes, torch.float32, CPU, seed=4)["a.weight"])


def test_the_made_up_tokenizer_passes_for_the_encoders(tmp_path):
    class Sizes:
        vocab_size = 500

    tokenizer = FolderTokenizer(write_tokenizer(tmp_path / "made", 500))
    assert fits(tokenizer, Sizes())
    assert len(list(tokenizer("a person speaks"))) == 4  # three words and the end mark


def test_the_limit_is_each_part_at_its_own_ceiling():
    config = DiTConfig(**CONFIGS["transformer"])
    parts = block_parts(config, 96, official=True)
    rates = dict.fromkeys(shapes_of(config), 2.0)
    ceilings = Ceilings(rates, dict.fromkeys(rates, 8.0), attention=4.0, copy=1.0)
    gemm, attention = total(parts, Kind.GEMM), total(parts, Kind.ATTENTION)
    assert ceilings.limit(parts, float8=False) == pytest.approx(gemm / 2 + attention / 4)
    assert ceilings.limit(parts, float8=True) == pytest.approx(gemm / 8 + attention / 4)
    # What carries speech keys multiplies with no weight of the model, so it stays in the base precision.
    done = block_parts(config, 96)
    speech = total(part for part in done if part.kind is Kind.GEMM and part.name.startswith("speech"))
    narrow = total(done, Kind.GEMM) - speech
    limit = narrow / 8 + speech / 2 + total(done, Kind.ATTENTION) / 4
    assert speech and ceilings.limit(done, float8=True) == pytest.approx(limit)
    # A shape with a ceiling of its own is held to that, the others to the smallest one's.
    slow = Ceilings({**rates, (config.dim, config.ffn_dim): 1.0}, {}, attention=4.0, copy=1.0)
    up = next(part for part in parts if part.name == "feed-forward up")
    assert slow.limit(parts, float8=True) == pytest.approx(gemm / 2 + attention / 4 + up.flops / 2)


def test_a_ceiling_is_measured_once():
    calls = []

    def attention(q, k, v):
        calls.append(q.shape)
        return sdpa(q, k, v)

    meter, config = Meter(CPU, 0.001), DiTConfig(**CONFIGS["transformer"])
    how = {"name": "mine", "float8": True}
    first = meter.ceilings(config, 64, torch.float32, attention, **how)
    count = len(calls)
    assert count and set(calls) == {(1, config.num_heads, 64, config.head_dim)}
    assert meter.ceilings(config, 64, torch.float32, attention, **how) == first
    assert len(calls) == count
    assert not first.float8  # no CPU has it
    assert all(rate > 0 for rate in (*first.gemm.values(), first.attention, first.copy))


def test_spread():
    found = Spread.of([1.0, 3.0, 2.0])
    assert (found.median, found.min, found.max) == (2.0, 1.0, 3.0)
    assert found.relative_std == pytest.approx((2 / 3) ** 0.5 / 2)


def test_readings_of_the_card():
    assert parse_row("688.12, 1455, 63\n") == (688.12, 1455.0, 63.0)
    assert parse_row("[N/A], 1455, 63") is None and parse_row("NVIDIA-SMI has failed") is None


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("void flash::flash_fwd_kernel<...>", "attention"),
        ("cutlass::device_kernel<flash::enable_sm90<flash::FlashAttnFwdSm90>>", "attention"),
        ("nvjet_tst_256x128_64x4_1x2_h_bz_coopB_TNN", "gemm"),
        ("aten::addmm", "gemm"),
        ("Memcpy HtoD (Pageable -> Device)", "copy"),
        ("triton_poi_fused_add_0", "elementwise"),
        ("void at::native::vectorized_elementwise_kernel<4>", "elementwise"),
        ("something", "other"),
    ],
)
def test_kernels_are_told_apart_by_name(name, group):
    assert group_of(name) == group


def test_waits_inside_the_loop_are_counted_and_those_around_it_are_not():
    def walk(on_step):
        torch.ones(1).item()
        for step in range(4):
            if step == 2:
                torch.ones(1).item()
            on_step(step)
        torch.ones(1).item()

    assert syncs_of(walk, CPU) == {"steps": 3, "count": 1, "by": {"aten::_local_scalar_dense": 1}}
