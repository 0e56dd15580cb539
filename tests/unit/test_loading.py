"""Loading brings every byte of every kind of weight, in order, and its errors stop it cleanly."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from infinite_talk.errors import CheckpointError
from infinite_talk.ops.linear import Packed
from infinite_talk.ops.linear.nf4 import NF4
from infinite_talk.weights.builder import build
from infinite_talk.weights.loading import AHEAD, THREADS, Carrier, _ahead
from infinite_talk.weights.origin import origin_of
from infinite_talk.weights.reader import TensorFiles

CHUNK = 64


def numbers() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {
        "one": torch.tensor(3.5),
        "none": torch.empty(0, 4),
        "less": torch.randn(3),
        "exact": torch.randn(16),
        "more": torch.randn(7, 13).to(torch.bfloat16),
        "eight": torch.randn(33, 5).to(torch.float8_e4m3fn),
        "whole": torch.arange(100, dtype=torch.int64),
    }


def as_bytes(tensor: Tensor) -> Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


@pytest.fixture
def file(tmp_path: Path) -> TensorFiles:
    path = tmp_path / "numbers.safetensors"
    save_file(numbers(), path)
    return TensorFiles(path)


@pytest.mark.parametrize("name", numbers())
@pytest.mark.parametrize("from_file", [True, False])
def test_every_tensor_comes_whole(file: TensorFiles, name: str, from_file: bool) -> None:
    carrier, expected = Carrier(None, CHUNK), numbers()[name]
    given = file[name] if from_file else expected
    assert (origin_of(given) is not None) is (from_file and bool(expected.numel()))  # nothing is nowhere
    for _ in range(2):  # memory is used again
        found = carrier.bring(given).value
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        assert torch.equal(as_bytes(found), as_bytes(expected))
    carrier.close()


def test_a_tensor_with_an_origin_is_read_from_its_file(file: TensorFiles) -> None:
    """Not from the mapping: other bytes at its place in the file are what comes."""
    given = file["exact"]
    origin = origin_of(given)
    copied = origin.path.with_name("other.safetensors")
    content = bytearray(origin.path.read_bytes())
    content[origin.start : origin.start + 4] = b"\0\0\0\0"
    copied.write_bytes(content)
    given.infinite_talk_origin = type(origin)(copied, origin.start)
    carrier = Carrier(None, CHUNK)
    found = carrier.bring(given).value
    carrier.close()
    assert found[0] == 0 and torch.equal(found[1:], numbers()["exact"][1:])


def test_views_and_results_have_no_origin_and_come_from_memory(file: TensorFiles) -> None:
    carrier = Carrier(None, CHUNK)
    for given in (file["more"][2:], file["more"].t(), file["more"] * 2):
        assert torch.equal(carrier.bring(given).value, given)
    carrier.close()


def test_packed_weights_come_part_by_part() -> None:
    weight = torch.randn(9, 70)
    packed = Packed(NF4, (9, 70), NF4.pack(weight))
    carrier = Carrier(None, CHUNK)
    found = carrier.bring(packed).value
    carrier.close()
    assert (found.format, found.shape) == (NF4, (9, 70))
    assert all(torch.equal(found.parts[name], part) for name, part in packed.parts.items())


def test_a_file_that_shrinks_is_an_error(file: TensorFiles) -> None:
    given = file["whole"]
    origin = origin_of(given)
    short = origin.path.with_name("short")
    short.write_bytes(origin.path.read_bytes()[: origin.start + 100])
    given.infinite_talk_origin = type(origin)(short, origin.start)
    carrier = Carrier(None, CHUNK)
    with pytest.raises(CheckpointError, match="shorter"):
        carrier.bring(given)
    carrier.close()


class Slow(Mapping[str, Tensor]):
    """Counts how many are asked for; one of them fails."""

    def __init__(self, count: int, bad: int | None = None) -> None:
        self.count, self.bad = count, bad
        self.asked: list[str] = []
        self._lock = threading.Lock()

    def __getitem__(self, name: str) -> Tensor:
        with self._lock:
            self.asked.append(name)
        if self.bad is not None and int(name) == self.bad:
            raise CheckpointError("damaged")
        return torch.full((20,), float(name))

    def __iter__(self) -> Iterator[str]:
        return (str(i) for i in range(self.count))

    def __len__(self) -> int:
        return self.count


def test_weights_come_in_order_and_not_too_many_ahead() -> None:
    weights = Slow(40)
    for i, (name, arrived) in enumerate(_ahead(weights, weights, None)):
        assert name == str(i) and torch.equal(arrived.value, torch.full((20,), float(i)))
        assert len(weights.asked) <= i + 1 + AHEAD
    assert i == 39


def test_an_error_comes_in_its_turn_and_ends_the_threads() -> None:
    weights, before, seen = Slow(40, bad=5), threading.active_count(), []
    with pytest.raises(CheckpointError, match="damaged"):
        seen += [name for name, _ in _ahead(weights, weights, None)]
    assert threading.active_count() == before
    assert len(weights.asked) <= 5 + 1 + AHEAD
    early = _ahead(weights, weights, None)
    next(early)
    early.close()
    assert threading.active_count() == before
    assert THREADS <= AHEAD  # otherwise some would have nothing to do


def test_a_weight_that_is_not_finite_is_refused() -> None:
    weights = nn.Linear(3, 3).state_dict()
    weights["bias"][1] = float("nan")
    with pytest.raises(CheckpointError, match="bias holds NaN"):
        build(lambda: nn.Linear(3, 3), weights)


def test_gathered_weights_lie_in_one_piece_of_memory(file: TensorFiles) -> None:
    def made() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 3), nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3)))

    weights = made().state_dict()
    built = build(made, weights, together=lambda name: "1" if name.startswith("1.") else None)
    assert all(torch.equal(built.state_dict()[name], tensor) for name, tensor in weights.items())
    memory = built[1].host_memory.bytes
    first, end = memory.data_ptr(), memory.data_ptr() + memory.numel()
    inside = {name: first <= tensor.data_ptr() < end for name, tensor in built.state_dict().items()}
    assert inside == {name: name.startswith("1.") for name in weights}
