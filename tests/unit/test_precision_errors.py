"""Every precision policy stays within its stated bound, in every base precision, on layers, blocks and videos."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bench import lifelike
from bench.precision import MEASURED, BlockCase, Error, Film, film, layer_errors
from bench.precision_tables import bound_of
from infinite_talk.engine import Job
from infinite_talk.generate import plan_for
from infinite_talk.models.dit import DiTConfig
from infinite_talk.settings import Quantization
from infinite_talk.weights.precision import POLICIES, Policy
from tests.unit import tiny
from tests.unit.test_generate import request

CPU = torch.device("cpu")
ROWS, TOKENS = 96, 32  # of layers as wide as the 14B model's
CONFIG = DiTConfig(
    dim=96, ffn_dim=256, num_heads=4, num_layers=1, text_dim=32, text_len=16, clip_dim=32, clip_tokens=9,
    audio_blocks=2, audio_channels=16, intermediate_dim=16, output_dim=64,
)  # fmt: skip

each_policy = pytest.mark.parametrize("policy", MEASURED, ids=lambda policy: policy.name)


@pytest.fixture(scope="module")
def layers() -> dict[str, tuple[Tensor, Tensor]]:
    random = lifelike.source(1, CPU)
    return {
        "first": (lifelike.weight(ROWS, 5120, random), lifelike.activations(TOKENS, 5120, random)),
        "second": (lifelike.weight(ROWS, 13824, random), lifelike.hidden(TOKENS, 13824, random)),
    }


@pytest.fixture(scope="module")
def block() -> BlockCase:
    return BlockCase.make(CONFIG, (3, 8, 8), lifelike.source(2, CPU))


@each_policy
def test_layers_as_wide_as_the_published_ones(
    policy: Policy, layers: dict[str, tuple[Tensor, Tensor]]
) -> None:
    for weight, x in layers.values():
        for base, error in layer_errors(policy, weight, x).items():
            assert error.relative <= bound_of(policy.name, base).layer, base
            if policy.format is not None:  # a bound far from what happens would hold nothing
                assert error.relative > bound_of(policy.name, base).layer / 8, base


@each_policy
def test_a_block(policy: Policy, block: BlockCase) -> None:
    for base, errors in block.errors(policy).items():
        bound = bound_of(policy.name, base).block
        assert errors["output"].relative <= errors["update"].relative <= bound, base
        if policy.format is not None:
            assert errors["update"].relative > bound / 5, base


def test_a_block_notices_a_wrong_weight(block: BlockCase) -> None:
    """What the bounds are worth: one layer of fifteen with its rows in another order is beyond all of them."""
    name = "blocks.0.ffn.2.weight"
    wrong = replace(block, state={**block.state, name: block.state[name].roll(1, 0)})
    errors = wrong.errors(POLICIES[Quantization.DISABLED])["fp32"]
    assert errors["update"].relative > max(bound_of(policy.name, "fp32").block for policy in MEASURED)


def test_fp16_that_overflows_shows(block: BlockCase) -> None:
    """A stream beyond float16 becomes infinite or NaN, which ``denoise`` refuses; it is never a wrong number."""
    loud = replace(block, stream=block.stream * 1e5)
    assert not torch.isfinite(loud.run(loud.state, torch.float16)).all()
    assert torch.isfinite(loud.run(loud.state, torch.bfloat16)).all()


@each_policy
def test_a_whole_video(policy: Policy, plain_video: Film) -> None:
    """Widths of 24 and 32 are no multiples of what kernels and blocks of numbers have."""
    made = video(policy)
    assert made.frames.shape == plain_video.frames.shape
    error = Error.of(made.latents, plain_video.latents).relative
    if policy.format is None:
        assert error == 0
    else:
        # Random weights of deviation 0.3 and guidance of 3 make more of an error than a trained model does.
        assert 0.001 < error < 4 * bound_of(policy.name, "fp32").block


@pytest.fixture(scope="module")
def plain_video() -> Film:
    return video(POLICIES[Quantization.DISABLED])


def video(policy: Policy) -> Film:
    """One window."""
    source, asked = tiny.source(17), request(steps=1)
    return film(Job(asked, source, plan_for(source, asked)), tiny.tiny_rooms(), policy, torch.float32)
