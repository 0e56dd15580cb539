"""The encoders, the codec and the tiny decoder on a GPU, in the precision that each runs in there."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from infinite_talk.models.text import TextEncoder
from infinite_talk.ops.linear.scaled import FP8_E4M3FN, INT8, Scaled
from infinite_talk.weights.builder import build
from tests.parts import PARTS, Part, packed, random_weights

DEVICE = torch.device("cuda")
pytestmark = pytest.mark.gpu
IDS = torch.tensor([[5, 9, 3, 1], [7, 1, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


def output(name: str, model: torch.nn.Module, device: torch.device) -> Tensor:
    run = {
        "text": lambda m: m(IDS.to(device), MASK.to(device))[MASK.bool().to(device)],
        "vision": lambda m: m(noise(1, 3, 20, 18).to(device)),
        "vae": lambda m: m.decode_raw(m.encode(noise(1, 3, 5, 16, 16).to(device))),
        "tiny_vae": lambda m: m.decode(noise(1, 16, 2, 2, 3).to(device)),
        "speech": lambda m: m(noise(1, 3000).to(device), 4),
    }[name]
    result: Tensor = run(model)
    return result.float().cpu()


def relative(actual: Tensor, expected: Tensor) -> float:
    return float((actual - expected).norm() / expected.norm())


def on(part: Part, device: torch.device, dtype: torch.dtype) -> torch.nn.Module:
    return build(lambda: part.model(part.tiny), random_weights(part), device=device, dtype=dtype)


@pytest.mark.parametrize("name", PARTS)
@torch.inference_mode()
def test_close_to_the_cpu(name: str) -> None:
    """In its own precision; a random network spreads a rounding more than a trained one."""
    part = PARTS[name]
    expected = output(name, on(part, torch.device("cpu"), torch.float32), torch.device("cpu"))
    actual = output(name, on(part, DEVICE, part.keys.DTYPE), DEVICE)
    limit = {"text": 0.1, "vision": 0.02, "tiny_vae": 0.1, "vae": 0.05, "speech": 0.02}[name]
    assert relative(actual, expected) < limit


@pytest.mark.parametrize("kind", [INT8, FP8_E4M3FN], ids=lambda kind: kind.name)
@torch.inference_mode()
def test_a_packed_text_encoder(kind: Scaled) -> None:
    part = PARTS["text"]
    weights = packed(random_weights(part), kind)
    cpu, gpu = (
        build(lambda: TextEncoder(part.tiny), weights, device=device, dtype=dtype)
        for device, dtype in ((torch.device("cpu"), torch.float32), (DEVICE, torch.bfloat16))
    )
    assert relative(output("text", gpu, DEVICE), output("text", cpu, torch.device("cpu"))) < 0.1
