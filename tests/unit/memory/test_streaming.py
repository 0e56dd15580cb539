"""Block streaming gives the numbers of a model that is all there, whatever streams and however far ahead."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from infinite_talk.memory.parcel import Parcel, tensors_of
from infinite_talk.memory.streaming import BlockStream, spread, stream_blocks, together
from infinite_talk.models.dit import WanTransformer
from infinite_talk.models.text import TextConfig, TextEncoder
from infinite_talk.models.text.tokens import byte_tokenizer
from infinite_talk.ops.host import ALIGNMENT
from infinite_talk.ops.linear import PackedLinear
from infinite_talk.settings import Quantization
from infinite_talk.weights.builder import build
from infinite_talk.weights.precision import FORMATS, Policy
from tests.unit.tiny_dit import CONFIG, TIMES, inputs, latent, model

CPU = torch.device("cpu")
CONFIG_5 = replace(CONFIG, num_layers=5)


@pytest.fixture(scope="module")
def whole() -> WanTransformer:
    return model(config=CONFIG_5)


def answers(net: WanTransformer, steps: int = 2) -> list[Tensor]:
    """What a window's steps give."""
    with torch.inference_mode():
        condition = net.condition(**inputs())
        return [net(latent(seed=i), TIMES - i, condition) for i in range(steps)]


@pytest.mark.parametrize("prefetch", [0, 1, 2, 7])
@pytest.mark.parametrize("swap", [0, 1, 2, 3, 5])
def test_the_numbers_are_those_of_the_whole_model(whole: WanTransformer, swap: int, prefetch: int) -> None:
    streamed = copy.deepcopy(whole)
    stream = stream_blocks(streamed, swap, prefetch, CPU)
    assert len(stream.swapped) == swap
    assert all(torch.equal(a, b) for a, b in zip(answers(whole), answers(streamed), strict=True))
    assert stream.slots == min(swap, prefetch + 1)


@pytest.mark.parametrize("kind", [kind for kind in Quantization if FORMATS[kind] is not None])
def test_every_packed_format_streams(whole: WanTransformer, kind: Quantization) -> None:
    def built() -> WanTransformer:
        policy = Policy(kind, FORMATS[kind])
        return build(
            lambda: WanTransformer(CONFIG_5), whole.state_dict(), dtype=torch.bfloat16, policy=policy
        )

    streamed = built()
    stream = stream_blocks(streamed, 3, 1, CPU)
    assert any(isinstance(part, PackedLinear) for part in stream[4].modules())
    assert all(torch.equal(a, b) for a, b in zip(answers(built()), answers(streamed), strict=True))


class WithLoRA(nn.Module):
    """A layer with an adapter beside it; ``strength`` is one tensor for all layers and changes between steps."""

    def __init__(self, base: nn.Module, strength: Tensor) -> None:
        super().__init__()
        self.base = base
        self.register_buffer("down", torch.full((2, 48), 0.02))
        self.register_buffer("up", torch.full((64, 2), 0.03))
        self.register_buffer("strength", strength)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.base(x) + (x @ self.down.t()) @ self.up.t() * self.strength
        return out


def test_a_lora_travels_with_its_block_and_a_shared_strength_stays(whole: WanTransformer) -> None:
    def run(net: WanTransformer, strength: Tensor) -> list[Tensor]:
        with torch.inference_mode():
            condition = net.condition(**inputs())
            found = []
            for i in range(3):
                strength.fill_(float(i))
                found.append(net(latent(seed=i), TIMES, condition))
        return found

    results = []
    for swap in (0, 4):
        net, strength = copy.deepcopy(whole), torch.zeros(())
        for block in net.blocks.children():
            block.ffn[0] = WithLoRA(block.ffn[0], strength)
        stream_blocks(net, swap, 1, CPU)
        results.append(run(net, strength))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert not torch.equal(results[0][0], answers(whole, 3)[0] + 1)  # the last strength is not the first


class Watched(nn.Module):
    """A block that notes where its weight lies when it computes."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((100,), float(number)))
        self.seen: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(self.weight.data_ptr())
        return x * 2 + self.weight


def watched(count: int, swap: int, prefetch: int) -> tuple[nn.Module, BlockStream]:
    owner = nn.Module()
    owner.blocks = nn.ModuleList(Watched(i) for i in range(count))
    return owner, stream_blocks(owner, swap, prefetch, CPU)


def test_slots_are_allocated_once_and_hold_the_block_only_in_its_turn() -> None:
    _, stream = watched(6, 6, 1)
    for _ in range(3):
        x = torch.zeros(100)
        for i, block in enumerate(stream):
            assert block.weight[0].item() == i
            x = block(x)
    places = {place for block in stream.children() for place in block.seen}
    assert len(places) == 2  # two slots, the same in every pass
    assert places.isdisjoint({block.weight.data_ptr() for block in stream.children()})  # back at home


def test_the_next_pass_finds_its_first_blocks_already_there() -> None:
    _, stream = watched(5, 5, 1)
    for block in stream:
        block(torch.zeros(100))
    assert {slot.holds for slot in stream._slots} == {0, 1}


def test_blocks_that_fit_into_the_slots_are_copied_once() -> None:
    _, stream = watched(4, 2, 1)
    for _ in stream:
        pass
    held = {slot.holds: slot.memory.data_ptr() for slot in stream._slots}
    for _ in stream:
        pass
    assert {slot.holds: slot.memory.data_ptr() for slot in stream._slots} == held


@pytest.mark.parametrize("stop_at", [0, 2, 4])
def test_a_pass_that_breaks_off_leaves_the_stream_usable(stop_at: int) -> None:
    _, stream = watched(5, 4, 1)

    def run(until: int) -> Tensor:
        x = torch.zeros(100)
        for i, block in enumerate(stream):
            x = block(x)
            if i == until:
                raise KeyboardInterrupt
        return x

    expected = run(99)
    with pytest.raises(KeyboardInterrupt):
        run(stop_at)
    assert torch.equal(run(99), expected)


def test_a_second_pass_ends_the_first() -> None:
    _, stream = watched(4, 4, 1)
    first = iter(stream)
    next(first)
    assert [block.weight[0].item() for block in stream] == [0, 1, 2, 3]
    with pytest.raises(RuntimeError, match="another pass"):
        next(first)


def test_the_state_is_complete_at_any_time(whole: WanTransformer) -> None:
    streamed = copy.deepcopy(whole)
    stream = stream_blocks(streamed, 3, 1, CPU)
    answers(streamed, 1)
    state = streamed.state_dict()
    assert list(state) == list(whole.state_dict())
    assert all(torch.equal(state[name], tensor) for name, tensor in whole.state_dict().items())
    assert len(stream) == 5
    assert [type(block) for block in stream[1:3]] == [type(whole.blocks[0])] * 2


def test_more_or_fewer_blocks_stream_without_loading_again(whole: WanTransformer) -> None:
    streamed = copy.deepcopy(whole)
    stream, expected = stream_blocks(streamed, 1, 1, CPU), answers(whole)
    for count, prefetch in ((4, None), (2, 0), (5, 2), (0, None), (3, 1)):
        stream.swap(count, prefetch)
        assert stream.swapped == spread(5, count)
        assert all(torch.equal(a, b) for a, b in zip(answers(streamed), expected, strict=True))
        assert stream.host_bytes == sum(
            Parcel(copy.deepcopy(whole.blocks[i]), CPU).nbytes for i in stream.swapped
        )


def test_a_conversion_reaches_streamed_blocks(whole: WanTransformer) -> None:
    streamed = copy.deepcopy(whole)
    stream = stream_blocks(streamed, 3, 1, CPU)
    before = stream.host_bytes
    answers(streamed, 1)
    streamed.to(torch.bfloat16)
    assert {p.dtype for p in streamed.parameters()} == {torch.bfloat16}
    assert stream.host_bytes < 0.6 * before
    places = [tensor.data_ptr() for tensor in tensors_of(stream[4])]
    streamed.to(CPU)
    assert [tensor.data_ptr() for tensor in tensors_of(stream[4])] == places  # nothing to convert
    expected = answers(copy.deepcopy(whole).to(torch.bfloat16))
    assert all(torch.equal(a, b) for a, b in zip(answers(streamed), expected, strict=True))


def test_releasing_and_closing(whole: WanTransformer) -> None:
    streamed = copy.deepcopy(whole)
    stream, expected = stream_blocks(streamed, 5, 1, CPU), answers(whole)
    answers(streamed)
    stream.release()
    assert not stream._slots
    assert torch.equal(answers(streamed)[0], expected[0])
    stream.close()
    assert (stream.swapped, stream.host_bytes, stream.device_bytes) == ((), 0, 0)
    assert torch.equal(answers(streamed)[0], expected[0])


def test_layers_of_a_text_encoder_stream_too() -> None:
    torch.manual_seed(0)
    config = TextConfig(
        vocab_size=384, dim=16, dim_attn=16, dim_ffn=24, num_heads=2, num_layers=3, text_len=12
    )
    encoder = TextEncoder(config, byte_tokenizer).eval()
    with torch.inference_mode():
        expected = encoder.encode(["a man talks"])[0]
        stream_blocks(encoder, 2, 1, CPU, name="model.block")
        assert torch.equal(encoder.encode(["a man talks"])[0], expected)


def test_streamed_blocks_are_evenly_spread() -> None:
    for total, count in [(40, n) for n in range(41)] + [(5, 3), (1, 1)]:
        places = spread(total, count)
        assert len(set(places)) == count
        assert all(0 <= place < total for place in places)
        if count:
            ahead = [(b - a - 1) % total + 1 for a, b in zip(places, (*places[1:], places[0]), strict=True)]
            assert max(ahead) - min(ahead) <= 1 and sum(ahead) == total


def test_a_parcel_keeps_layouts_and_aligns_everything() -> None:
    module = nn.Module()
    module.columns = nn.Parameter(torch.randn(6, 5).t())
    module.register_buffer("odd", torch.arange(3, dtype=torch.uint8))
    module.register_buffer("wide", torch.ones(2, 3).expand(4, 2, 3))
    module.register_buffer("one", torch.tensor(3.5, dtype=torch.float64))
    module.register_buffer("none", torch.empty(0))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    parcel = Parcel(module, CPU)
    slot = torch.empty(parcel.nbytes, dtype=torch.uint8)
    slot.copy_(parcel.bytes)
    parcel.to_slot(slot)
    assert module.columns.stride() == (1, 5)
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name]) and tensor.dtype == before[name].dtype, name
        assert not tensor.numel() or (tensor.data_ptr() - slot.data_ptr()) % ALIGNMENT == 0


@pytest.mark.parametrize("inside", [True, False])
def test_a_parcel_takes_what_was_made_in_inference_mode_wherever_it_is_packed(inside: bool) -> None:
    """A run leaves such tensors behind; the next one may keep another number of blocks in host memory."""
    with torch.inference_mode():
        module = nn.Linear(4, 3)
    before = module.weight.tolist()
    with torch.inference_mode(inside):
        parcel = Parcel(module, CPU)
        parcel.leave(CPU)
        again = Parcel(module, CPU)
    assert module.weight.tolist() == before and again.nbytes == parcel.nbytes


@pytest.mark.parametrize("kind", [Quantization.DISABLED, Quantization.NF4])
def test_blocks_gathered_by_loading_are_taken_over(whole: WanTransformer, kind: Quantization) -> None:
    def built(group: Callable[[str], str | None] | None = None) -> WanTransformer:
        policy = Policy(kind, FORMATS[kind])
        return build(lambda: WanTransformer(CONFIG_5), whole.state_dict(), policy=policy, together=group)

    streamed = built(together(5, 3))
    before = {id(tensor): tensor.data_ptr() for tensor in tensors_of(streamed.blocks)}
    stream = stream_blocks(streamed, 3, 1, CPU)
    assert {id(tensor): tensor.data_ptr() for tensor in tensors_of(stream)} == before
    assert all(torch.equal(a, b) for a, b in zip(answers(built()), answers(streamed), strict=True))


def test_which_weights_are_gathered() -> None:
    group = together(4, 2, name="model.block")
    assert [group(f"model.block.{i}.layer.0.weight") for i in range(4)] == [
        None, "model.block.1", None, "model.block.3",
    ]  # fmt: skip
    assert group("model.embed_tokens.weight") is None and group("blocks.1.weight") is None


def test_a_gathered_block_that_has_got_a_lora_since_is_copied(whole: WanTransformer) -> None:
    streamed = build(lambda: WanTransformer(CONFIG_5), whole.state_dict(), together=together(5, 5))
    streamed.blocks[2].register_buffer("later", torch.ones(3))
    stream_blocks(streamed, 5, 1, CPU)
    assert torch.equal(streamed.blocks[2].later, torch.ones(3))
    assert torch.equal(answers(streamed)[0], answers(whole)[0])


def test_what_cannot_be_streamed_is_refused() -> None:
    owner, stream = watched(3, 1, 1)
    with pytest.raises(ValueError, match="4 of 3"):
        stream.swap(4)
    with pytest.raises(TypeError, match="copied"):
        copy.deepcopy(owner)
