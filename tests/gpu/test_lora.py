"""LoRA on a GPU: merged there, beside packed weights in bfloat16, streamed and compiled."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from infinite_talk.memory.streaming import stream_blocks
from infinite_talk.models.dit import WanTransformer
from infinite_talk.ops.linear import Packed, PackedLinear, takes_float8
from infinite_talk.ops.linear.fast8 import FP8_E4M3FN_FAST
from infinite_talk.ops.linear.lora import LoRALinear, Strengths, Terms
from infinite_talk.ops.linear.rows import float8_rows
from infinite_talk.settings import Quantization
from infinite_talk.weights.builder import build
from infinite_talk.weights.lora import Merging, attach, read_adapter
from infinite_talk.weights.precision import Policy, capability_of, policy_for
from tests.unit.lora.files import Random, merged_by_hand, plain_model, random_lora, written
from tests.unit.tiny_dit import CONFIG, TIMES, inputs, latent

DEVICE = torch.device("cuda")
pytestmark = pytest.mark.gpu
KINDS = [kind for kind in Quantization if kind is not Quantization.GGUF]


def policy_of(kind: Quantization) -> Policy:
    policy, note = policy_for(kind, capability_of(DEVICE))
    if note is not None:
        pytest.skip(note)
    return policy


def built(policy: Policy | Merging | None, state: dict[str, Tensor] | None = None) -> WanTransformer:
    """The tiny transformer in bfloat16 on the GPU; weights are packed and merged there."""
    weights = {n: t.to(DEVICE) for n, t in (state or plain_model().state_dict()).items()}
    return build(lambda: WanTransformer(CONFIG), weights, policy=policy, dtype=torch.bfloat16, device=DEVICE)


def adapter_of(lora: Random, strength: float | tuple[float, ...]):
    return read_adapter(written(lora, lambda name: name), strength=strength)


@torch.no_grad()
def predicted(net: WanTransformer) -> Tensor:
    given = {name: tensor.to(DEVICE) for name, tensor in inputs().items()}
    return net(latent().to(DEVICE), TIMES.to(DEVICE), net.condition(**given))


def error(found: Tensor, exact: Tensor) -> float:
    return float((found - exact).norm() / exact.norm())


@pytest.mark.parametrize("kind", KINDS)
def test_merged_is_the_merged_model_packed(kind: Quantization) -> None:
    lora, policy = random_lora(), policy_of(kind)
    shapes = {name: tuple(tensor.shape) for name, tensor in plain_model().state_dict().items()}
    merged = built(Merging([adapter_of(lora, 1.0)], policy, shapes))
    twin = built(policy, merged_by_hand([(lora, 1.0)]).state_dict())
    assert error(predicted(merged), predicted(twin)) < 0.02  # sums on the GPU may round the other way


@pytest.mark.parametrize("kind", KINDS)
def test_beside_every_precision(kind: Quantization) -> None:
    """No further from the merged model in float32 than the precision itself is from its own."""
    lora, policy = random_lora(size=0.05), policy_of(kind)
    rounding = error(predicted(built(policy)), predicted(plain_model().to(DEVICE)))
    made = built(policy)
    attach(made, [adapter_of(lora, 1.0)])
    exact = predicted(merged_by_hand([(lora, 1.0)]).to(DEVICE))
    assert error(predicted(made), exact) < 2.5 * rounding + 0.01
    assert error(predicted(built(policy)), exact) > 0.1


@pytest.mark.parametrize(("rank", "width", "out"), [(32, 512, 256), (20, 512, 1024), (128, 13824, 640)])
def test_activations_in_8_bits_serve_the_layer_and_what_is_beside_it(rank: int, width: int, out: int) -> None:
    """One rounding for both: as near to the exact sum as the layer alone is to its own product."""
    generator = torch.Generator(DEVICE).manual_seed(rank)

    def noise(*shape: int, scale: float = 1.0) -> Tensor:
        return (torch.randn(*shape, generator=generator, device=DEVICE) * scale).to(torch.bfloat16)

    weight, up, down = noise(out, width), noise(out, rank), noise(rank, width, scale=0.2)
    base = PackedLinear(
        Packed(FP8_E4M3FN_FAST, (out, width), FP8_E4M3FN_FAST.pack(weight)), None, torch.bfloat16
    )
    terms = Terms(Strengths([0.5]), (up, down, ((0, 2.0, rank),)), None)
    layer, x = LoRALinear(base.to(DEVICE), terms.to(DEVICE)), noise(2, 300, width)
    assert takes_float8(layer, dtype=torch.bfloat16) == takes_float8(base, dtype=torch.bfloat16)
    rows = float8_rows(x)
    beside = x.float() @ down.float().t() @ up.float().t()
    added = terms.add_product(torch.zeros(2, 300, out, dtype=torch.bfloat16, device=DEVICE), rows)
    assert error(added.float(), beside) < 0.05
    if takes_float8(layer, dtype=torch.bfloat16):
        rounding = error(base(rows).float(), x.float() @ weight.float().t())
        assert error(layer(rows).float(), x.float() @ weight.float().t() + beside) < rounding + 0.01


def test_streamed_blocks_carry_it_and_strengths_change_in_place() -> None:
    nets = [built(policy_of(Quantization.INT8)) for _ in range(2)]
    strengths = [attach(net, [adapter_of(random_lora(), (1.0, 0.5, 0.0))]) for net in nets]
    stream_blocks(nets[1], 2, 1, DEVICE)
    answers = []
    for step in range(3):
        for one in strengths:
            one.at_step(step)
        answers.append(predicted(nets[0]))
        assert torch.equal(answers[-1], predicted(nets[1]))
    assert not torch.equal(answers[0], answers[1])


def test_compiled_it_is_the_same_and_compiled_once() -> None:
    net = built(policy_of(Quantization.FP8_E4M3FN_SCALED))
    strengths = attach(net, [adapter_of(random_lora(), (1.0, 0.5, 0.0))])
    block = net.blocks[1]
    given = {name: tensor.to(DEVICE) for name, tensor in inputs().items()}
    with torch.no_grad():
        condition = net.condition(**given)
        tokens, e0 = net.embed(latent().to(DEVICE), condition), net.modulation(TIMES.to(DEVICE))
        torch._dynamo.reset()
        compiled = torch.compile(block, fullgraph=True)
        compiled(tokens, e0, condition, condition.blocks[1])
        with torch.compiler.set_stance("fail_on_recompile"):
            for step in (1, 2, 0):
                strengths.at_step(step)
                found = compiled(tokens, e0, condition, condition.blocks[1]).float()
                assert error(found, block(tokens, e0, condition, condition.blocks[1]).float()) < 0.02


def test_setting_strengths_waits_for_nothing() -> None:
    net = built(None)
    strengths = attach(net, [adapter_of(random_lora(), (1.0, 0.5))])
    torch.cuda.set_sync_debug_mode("error")
    try:
        assert strengths.at_step(1)
    finally:
        torch.cuda.set_sync_debug_mode("default")
