"""Models come to the device for the time of their use, and leave nothing behind."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from infinite_talk.memory.residency import Home, Residency
from infinite_talk.memory.streaming import stream_blocks

CPU = torch.device("cpu")


def encoder() -> nn.Module:
    torch.manual_seed(0)
    made = nn.Module()
    made.first = nn.Linear(8, 8)
    made.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
    made.register_buffer("table", torch.randn(8))
    return made


def places(model: nn.Module) -> list[int]:
    return [tensor.data_ptr() for tensor in (*model.parameters(), *model.buffers())]


def run(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    x = model.first(x) + model.table
    for block in model.blocks:
        x = block(x)
    return x


@torch.inference_mode()
def test_a_visit_uses_other_memory_and_gives_the_same_numbers() -> None:
    model, x = encoder(), torch.randn(2, 8)
    expected, residency = run(model, x), Residency(CPU)
    residency.settle(model, Home.VISITS)
    for _ in range(2):
        with residency.using(model) as here:
            assert here is model
            there = places(model)
            assert torch.equal(run(model, x), expected)
        assert not set(there) & set(places(model))
        at_home = places(model)
    with residency.using(model), residency.using(model):
        pass
    assert places(model) == at_home  # one copy on the host, whatever happened


def test_nested_uses_end_with_the_last_and_an_error_ends_them_too() -> None:
    model, residency = encoder(), Residency(CPU)
    residency.settle(model, Home.VISITS)
    with residency.using(model):
        pass
    at_home = places(model)
    with residency.using(model):
        there = places(model)
        with residency.using(model):
            assert places(model) == there
        assert places(model) == there != at_home
    with pytest.raises(KeyError), residency.using(model):
        raise KeyError
    assert places(model) == at_home


@pytest.mark.parametrize("home", [Home.DEVICE, Home.HOST])
def test_models_that_stay_are_left_alone(home: Home) -> None:
    model, residency = encoder(), Residency(CPU)
    residency.settle(model, home)
    before = places(model)
    with residency.using(model):
        assert places(model) == before
    assert residency.home(model) is home


@torch.inference_mode()
def test_streamed_blocks_stay_out_of_a_visit_and_their_slots_go_with_it() -> None:
    model, x, residency = encoder(), torch.randn(2, 8), Residency(CPU)
    expected = run(model, x)
    stream = stream_blocks(model, 2, 0, CPU)
    residency.settle(model, Home.VISITS)
    blocks = places(stream[0])
    for _ in range(2):
        with residency.using(model):
            assert torch.equal(run(model, x), expected)
            assert stream._slots
            assert places(stream[0]) == blocks
        assert not stream._slots


@torch.inference_mode()
def test_a_model_can_move_house() -> None:
    model, x, residency = encoder(), torch.randn(2, 8), Residency(CPU)
    expected = run(model, x)
    for home in (Home.VISITS, Home.HOST, Home.VISITS, Home.DEVICE, Home.VISITS):
        residency.settle(model, home)
        with residency.using(model):
            assert torch.equal(run(model, x), expected)
    residency.close()
    assert torch.equal(run(model, x), expected)
