"""Precision policies on a GPU: kernels against their slow twins, bounds, the size of what is packed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from bench import lifelike
from bench.precision import BASES, MEASURED, BlockCase, layer_errors
from bench.precision_tables import bound_of
from infinite_talk.models.dit import DiTConfig, WanTransformer
from infinite_talk.ops.linear import Packed, PackedLinear
from infinite_talk.settings import Quantization
from infinite_talk.weights.builder import build
from infinite_talk.weights.precision import POLICIES, Policy, capability_of, policy_for

DEVICE = torch.device("cuda")
pytestmark = pytest.mark.gpu
FAST = [policy for policy in POLICIES.values() if policy.needs is not None]
PACKING = [policy for policy in MEASURED if policy.format is not None]
# Two heads of 128, one of the published widths of a feed-forward layer.
CONFIG = DiTConfig(
    dim=256, ffn_dim=13824, num_heads=2, num_layers=1, text_dim=64, text_len=16, clip_dim=64, clip_tokens=9,
    audio_blocks=2, audio_channels=16, intermediate_dim=16, output_dim=768,
)  # fmt: skip


@pytest.fixture(autouse=True)
def without_tensorfloat32() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


def named(policy: Policy) -> str:
    return policy.name


@pytest.mark.parametrize("policy", FAST, ids=named)
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("rows", [1, 17, 300, 4097])
@pytest.mark.parametrize(("out", "into"), [(1536, 5120), (640, 13824), (48, 96)])
def test_a_kernel_is_its_slow_twin(policy: Policy, base: str, rows: int, out: int, into: int) -> None:
    if policy.needs is None or not policy.needs.includes(capability_of(DEVICE)):
        pytest.skip("this GPU does not multiply in the format")
    random = lifelike.source(3, DEVICE)
    kind, weight = policy.format, lifelike.weight(out, into, random)
    x = lifelike.activations(rows, into, random).to(BASES[base])
    bias = torch.randn(out, generator=random, device=DEVICE)
    parts = kind.pack(weight)
    fast, slow = (run(x, parts, (out, into), bias) for run in (kind.linear, kind.emulate))
    assert fast.dtype == x.dtype
    error = (fast.float() - slow.float()).norm() / slow.float().norm()
    print(f"{policy.name} {base} {rows} x {into} -> {out}: {error:.2e}")
    # The float8 kernel sums in fewer bits than float32, and in bfloat16 results are rounded up to three times.
    assert error < 0.006


@pytest.mark.parametrize("policy", PACKING, ids=named)
def test_packing_is_the_same_as_on_the_cpu(policy: Policy) -> None:
    weight = lifelike.weight(128, 5120, lifelike.source(4, torch.device("cpu")))
    here, there = policy.format.pack(weight), policy.format.pack(weight.to(DEVICE))
    assert here.keys() == there.keys()
    one, other = (Packed(policy.format, (128, 5120), parts).unpack() for parts in (here, there))
    # A number on a border may fall to the other side where a quotient is rounded differently.
    assert (one != other.cpu()).float().mean() < 1e-3


@pytest.mark.parametrize("policy", MEASURED, ids=named)
def test_layers_stay_within_their_bounds(policy: Policy) -> None:
    random = lifelike.source(1, DEVICE)
    cases = (
        (lifelike.weight(1280, 5120, random), lifelike.activations(256, 5120, random)),
        (lifelike.weight(512, 13824, random), lifelike.hidden(256, 13824, random)),
    )
    for weight, x in cases:
        for base, error in layer_errors(policy, weight, x).items():
            print(f"{policy.name} {base} {error}")
            assert error.relative <= bound_of(policy.name, base).layer


@pytest.mark.parametrize("policy", MEASURED, ids=named)
def test_blocks_stay_within_their_bounds(policy: Policy) -> None:
    case = BlockCase.make(CONFIG, (3, 16, 16), lifelike.source(2, DEVICE))
    for base, errors in case.errors(policy).items():
        assert errors["update"].relative <= bound_of(policy.name, base).block, base


@pytest.mark.parametrize("policy", PACKING, ids=named)
def test_packed_weights_take_what_is_computed(policy: Policy) -> None:
    """Weights of blocks take ``bits`` each and nothing stays behind of what they were packed from."""
    state = lifelike.state(CONFIG, lifelike.source(2, torch.device("cpu")))
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    model = build(lambda: WanTransformer(CONFIG), state, dtype=torch.bfloat16, device=DEVICE, policy=policy)
    taken = torch.cuda.memory_allocated() - before
    packed = [module.packed for module in model.modules() if isinstance(module, PackedLinear)]
    numbers = sum(weight.shape[0] * weight.shape[1] for weight in packed)
    plain = sum(value.nbytes for value in [*model.parameters(), *model.buffers()]) - sum(
        w.nbytes for w in packed
    )
    computed = numbers * policy.bits / 8 + plain
    # Scales of rows, and torch hands out memory in pieces of 512 bytes.
    assert computed <= taken < 1.02 * computed + 512 * 200
    del model


def test_what_runs_here_is_said() -> None:
    capability = capability_of(DEVICE)
    assert capability is not None
    for name in Quantization:
        runs, note = policy_for(name, capability)
        assert (note is None) == (runs.name is name)
        if capability >= (8, 9) and "fp8" in name:
            assert runs.name is name
