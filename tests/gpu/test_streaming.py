"""Block streaming and loading on a GPU: the same numbers, no growth, and a host that never waits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from infinite_talk.memory.streaming import stream_blocks, together
from infinite_talk.models.dit import WanTransformer
from infinite_talk.settings import Quantization
from infinite_talk.weights.builder import build
from infinite_talk.weights.precision import POLICIES
from infinite_talk.weights.reader import TensorFiles
from tests.unit.tiny_dit import CONFIG, TIMES, inputs, latent, model

pytestmark = pytest.mark.gpu
CONFIG_6 = replace(CONFIG, dim=96, ffn_dim=192, num_layers=6)
KINDS = [
    Quantization.DISABLED,
    Quantization.FP8_E4M3FN_SCALED_FAST,
    Quantization.INT8,
    Quantization.NF4,
    Quantization.FP4_SCALED,
]


@pytest.fixture
def device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device())


@pytest.fixture
def no_waiting() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


def built(device: torch.device, kind: Quantization = Quantization.DISABLED) -> WanTransformer:
    weights = model(config=CONFIG_6).state_dict()
    made = build(
        lambda: WanTransformer(CONFIG_6), weights, dtype=torch.bfloat16, device=device, policy=POLICIES[kind]
    )
    made.keep_keys_values = False
    return made


def answers(net: WanTransformer, device: torch.device, steps: int = 4) -> list[torch.Tensor]:
    given = {name: tensor.to(device) for name, tensor in inputs().items()}
    with torch.inference_mode():
        condition = net.condition(**given)
        return [net(latent(seed=i).to(device), TIMES.to(device) - i, condition) for i in range(steps)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("swap", "prefetch"), [(6, 0), (6, 1), (3, 1), (6, 2)])
def test_the_numbers_are_those_of_the_whole_model(
    device: torch.device, kind: Quantization, swap: int, prefetch: int
) -> None:
    net = built(device, kind)
    expected = answers(net, device)
    stream = stream_blocks(net, swap, prefetch, device)
    assert stream.note is None
    assert all(torch.equal(a, b) for a, b in zip(answers(net, device), expected, strict=True))
    stream.swap(0)
    assert all(torch.equal(a, b) for a, b in zip(answers(net, device), expected, strict=True))


def test_blocks_large_enough_to_race_arrive_before_they_compute(device: torch.device) -> None:
    """32 MB each, next to no work: the copies are always late."""
    owner = nn.Module()
    owner.blocks = nn.ModuleList(nn.Linear(2048, 4096, bias=False) for _ in range(8))
    for i, block in enumerate(owner.blocks):
        nn.init.constant_(block.weight, i + 1)
    stream_blocks(owner, 8, 1, device)
    x = torch.ones(1, 2048, device=device)
    with torch.inference_mode():
        found = torch.stack([block(x)[0, 0] for _ in range(20) for block in owner.blocks])
    assert torch.equal(found.cpu(), torch.arange(1.0, 9).repeat(20) * 2048)


def test_the_host_never_waits_and_memory_does_not_grow(device: torch.device) -> None:
    owner = nn.Module()
    owner.blocks = nn.ModuleList(nn.Linear(512, 512) for _ in range(6))
    stream_blocks(owner, 5, 1, device)
    x = torch.ones(64, 512, device=device)

    def step() -> None:
        y = x
        for block in owner.blocks:
            y = block(y)

    with torch.inference_mode():
        step()
        before = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(10):
                step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert (torch.cuda.memory_allocated(), torch.cuda.memory_reserved()) == before


def test_device_memory_is_slots_and_resident_blocks(device: torch.device) -> None:
    owner = nn.Module()
    owner.blocks = nn.ModuleList(nn.Linear(2048, 2048, bias=False) for _ in range(8))
    size = 4 * 2048 * 2048
    start = torch.cuda.memory_allocated()
    stream = stream_blocks(owner, 6, 1, device)
    assert torch.cuda.memory_allocated() - start == 2 * size
    for _ in owner.blocks:
        pass
    assert torch.cuda.memory_allocated() - start == 4 * size
    assert stream.device_bytes == 2 * size
    stream.release()
    assert torch.cuda.memory_allocated() - start == 2 * size


def test_compiled_blocks_stream(device: torch.device) -> None:
    net = built(device)
    expected = answers(net, device)
    for block in net.blocks.children():
        block.compile(dynamic=False)
    compiled = answers(net, device)
    stream_blocks(net, 6, 1, device)
    streamed = answers(net, device)
    for whole, one, other in zip(expected, compiled, streamed, strict=True):
        assert torch.equal(one, other)
        assert (one - whole).norm() < 0.02 * whole.norm()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("swap", [0, 4])
def test_loading_gives_the_weights_of_the_file(
    device: torch.device, tmp_path: Path, kind: Quantization, swap: int
) -> None:
    weights = {
        name: tensor.to(torch.bfloat16) for name, tensor in model(config=CONFIG_6).state_dict().items()
    }
    save_file(weights, tmp_path / "model.safetensors")
    made = build(
        lambda: WanTransformer(CONFIG_6),
        TensorFiles(tmp_path / "model.safetensors"),
        dtype=torch.bfloat16,
        device=device,
        policy=POLICIES[kind],
        together=together(6, swap),
    )
    places = {id(tensor): tensor.data_ptr() for tensor in made.blocks[5].state_dict(keep_vars=True).values()}
    stream = stream_blocks(made, swap, 1, device)
    if swap:
        assert {
            id(tensor): tensor.data_ptr() for tensor in stream[5].state_dict(keep_vars=True).values()
        } == places  # gathered by loading, not copied again
    made.keep_keys_values = False
    there = {name: tensor.to(device) for name, tensor in weights.items()}
    plain = build(
        lambda: WanTransformer(CONFIG_6), there, dtype=torch.bfloat16, device=device, policy=POLICIES[kind]
    )
    expected = answers(plain, device)
    assert all(torch.equal(a, b) for a, b in zip(answers(made, device), expected, strict=True))
