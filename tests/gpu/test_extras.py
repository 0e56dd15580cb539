"""What is put on a pass, with the fused operations and on a GPU, against the same on a CPU."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from infinite_talk.models.dit import (
    AddedAttention,
    Everywhere,
    Extras,
    KeysValues,
    Nag,
    PromptChunks,
    WanTransformer,
)
from infinite_talk.ops.attention import sdpa
from infinite_talk.ops.attention.radial import RadialAttention
from infinite_talk.ops.attention.ultravico import UltraViCo
from infinite_talk.ops.fused import fused_ops
from infinite_talk.sampling import NormalisedAttention
from tests.unit.tiny_dit import CONFIG, GRID, TIMES, inputs, latent, model, noise

DEVICE = torch.device("cuda")
TOKENS = GRID[0] * GRID[1] * GRID[2] // 4
pytestmark = pytest.mark.gpu


def on(device: torch.device, net: WanTransformer, name: str) -> Extras:
    """The same numbers on either device."""

    def drawn(*shape: int, seed: int) -> torch.Tensor:
        return noise(*shape, seed=seed).to(device)

    def text(seed: int) -> torch.Tensor:
        return net.embed_text(drawn(1, 5, CONFIG.text_dim, seed=seed))

    own = (GRID[0], CONFIG.num_heads, 4, CONFIG.head_dim)
    heard = KeysValues(drawn(*own, seed=40), drawn(*own, seed=41))
    there = (torch.arange(4) <= torch.arange(GRID[0])[:, None]).to(device)
    match name:
        case "added":
            return Extras(
                enhance=4.0,
                speech_scale=1.5,
                tokens=drawn(1, TOKENS, CONFIG.dim, seed=31),
                after=lambda i: drawn(1, TOKENS, CONFIG.dim, seed=50 + i),
                heard=(AddedAttention(of_block=lambda _: heard, scale=0.7, mask=there),),
            )
        case "texts":
            return Extras(
                nag=Nag(text=text(30), numbers=NormalisedAttention(scale=4.0, tau=1.5)),
                chunks=PromptChunks(parts=2, texts=(text(33), text(34)), apart=True),
            )
        case "radial":
            return Extras(attention={0: RadialAttention(0.2, 8), 1: Everywhere(sdpa)})
    return Extras(attention={0: UltraViCo(0.6, 2)}, skip=frozenset({1}))


@pytest.mark.parametrize("people", [1, 2])
@pytest.mark.parametrize("rows", [None, 12])
@pytest.mark.parametrize("name", ["added", "texts", "radial", "ultravico"])
@torch.no_grad()
def test_a_gpu_agrees_with_a_cpu(name: str, rows: int | None, people: int) -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        slow = model()
        fast = WanTransformer(CONFIG, sdpa, fused_ops(DEVICE)[0])
        fast.load_state_dict(slow.state_dict())
        fast.to(DEVICE).rows_at_once = rows
        found = []
        for net, device in ((slow, torch.device("cpu")), (fast, DEVICE)):
            given = {part: tensor.to(device) for part, tensor in inputs(people).items()}
            condition = replace(net.condition(**given), extras=on(device, net, name))
            found.append(net(latent().to(device), TIMES.to(device), condition).cpu())
        torch.testing.assert_close(found[1], found[0], atol=1e-3, rtol=0)
    finally:
        torch.set_float32_matmul_precision(before)
