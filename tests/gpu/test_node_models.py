"""Models of nodes on a GPU: compiled, streamed and with float16 sums they say what they say plainly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from infinite_talk.memory import Work
from infinite_talk.memory.streaming import BlockStream
from infinite_talk.nodes import (
    WanVideoBlockSwap,
    WanVideoModelLoader,
    WanVideoTextEncode,
    WanVideoTorchCompileSettings,
    WanVideoVAELoader,
)
from infinite_talk.nodes.encoders import LoadWanVideoT5TextEncoder
from infinite_talk.nodes.handles import WanModel
from infinite_talk.nodes.host import Host, hosted
from infinite_talk.settings import Device, Settings
from infinite_talk.types import Size

pytestmark = pytest.mark.gpu
WORK = Work(size=Size(64, 64), frames=17, motion=5, steps=2)


@pytest.fixture(autouse=True)
def host() -> Iterator[Host]:
    with hosted(Host(settings=Settings(device=Device.CUDA))) as given:
        yield given


def load(*args: str, **more: object) -> WanModel:
    return WanVideoModelLoader().loadmodel("embedded", *args, **more)[0]  # type: ignore[arg-type]


def velocity(model: WanModel) -> torch.Tensor:
    """What the transformer says of a fixed question."""
    config = model.opened.config
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).cuda()

    with torch.inference_mode(), model.at_hand(WORK) as transformer:
        condition = transformer.condition(
            noise(1, 5, config.text_dim),
            noise(1, config.clip_tokens, config.clip_dim),
            noise(1, 1, 17, config.audio_window, config.audio_blocks, config.audio_channels),
            None,
            noise(1, config.reference_dim, 5, 8, 8),
        )
        found: torch.Tensor = transformer(noise(1, 16, 5, 8, 8), torch.tensor([500.0]).cuda(), condition)
        return found.float().cpu()


def test_compiled_blocks_say_the_same() -> None:
    from torch._dynamo.utils import counters

    expected = velocity(load("fp32"))
    counters.clear()
    (asked,) = WanVideoTorchCompileSettings().set_args()
    torch.testing.assert_close(velocity(load("fp32", compile_args=asked)), expected, atol=5e-3, rtol=5e-3)
    assert counters["stats"]["unique_graphs"] > 0


def test_swapped_blocks_say_the_same_and_a_change_reads_nothing_again() -> None:
    expected = velocity(plain := load("fp32"))
    (swap,) = WanVideoBlockSwap().setargs(4, prefetch_blocks=1)
    swapped = load("fp32", block_swap_args=swap)
    torch.testing.assert_close(velocity(swapped), expected)
    with swapped.at_hand(WORK) as transformer:
        assert isinstance(transformer.blocks, BlockStream)
        assert len(transformer.blocks.swapped) == 4
        there = transformer
    fewer = swapped.with_memory(replace(swapped.settings.memory, blocks_to_swap=3))
    with fewer.at_hand(WORK) as transformer:
        assert transformer is there
        assert len(transformer.blocks.swapped) == 3
    plain.release()


def test_float16_sums_are_on_while_the_model_is_at_hand_and_not_after() -> None:
    matmul = torch.backends.cuda.matmul
    if not hasattr(matmul, "allow_fp16_accumulation"):
        pytest.skip("torch before 2.7")
    model = load("fp16_fast")
    with model.at_hand(WORK):
        assert matmul.allow_fp16_accumulation
    assert not matmul.allow_fp16_accumulation
    found, exact = velocity(model), velocity(load("fp32"))
    assert torch.nn.functional.cosine_similarity(found.flatten(), exact.flatten(), dim=0) > 0.99


def test_encoders_leave_the_gpu_when_they_are_to() -> None:
    (t5,) = LoadWanVideoT5TextEncoder().loadmodel("embedded", "fp32")
    (embeds,) = WanVideoTextEncode().process("a", "b", t5)
    (on_cpu,) = WanVideoTextEncode().process("a", "b", t5, device="cpu")
    torch.testing.assert_close(on_cpu["prompt_embeds"], embeds["prompt_embeds"], atol=1e-3, rtol=1e-3)
    assert not t5.resident.there
    assert embeds["prompt_embeds"][0].device.type == "cpu"
    (vae,) = WanVideoVAELoader().loadmodel("embedded", "fp32")
    assert vae.codec().device.type == "cuda"


def test_weights_are_gone_after_release(tmp_path: Path) -> None:
    model = load("fp32")
    velocity(model)
    held = torch.cuda.memory_allocated()
    model.release()
    assert torch.cuda.memory_allocated() < held - 10_000_000
