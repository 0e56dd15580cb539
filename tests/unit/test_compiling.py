"""Blocks that are compiled: they are, they keep their names, and the numbers stay."""

from __future__ import annotations

import pytest
import torch

from infinite_talk.ops.accumulation import float16_sums, why_not_float16_sums
from infinite_talk.ops.compiling import (
    Compilation,
    compile_blocks,
    constant,
    for_moving_weights,
    why_not_compiled,
)
from tests.unit.tiny_dit import inputs, latent, model

CPU = torch.device("cpu")


def test_compiled_blocks_are_compiled_and_give_the_same_numbers() -> None:
    from torch._dynamo.utils import counters

    made = model().eval()
    names = list(made.state_dict())
    with torch.inference_mode():
        condition = made.condition(**inputs(batch=1))
        expected = made(latent(batch=1), torch.tensor([500.0]), condition)
        counters.clear()
        compile_blocks(made.blocks, Compilation(backend="eager"))
        found = made(latent(batch=1), torch.tensor([500.0]), condition)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert counters["stats"]["unique_graphs"] > 0
    assert list(made.state_dict()) == names


def test_the_mark_of_a_constant_is_torchs_own() -> None:
    def ours() -> bool:
        return True

    def theirs() -> bool:
        return True

    assert vars(constant(ours)) == vars(torch.compiler.assume_constant_result(theirs)) != {}


@pytest.mark.parametrize(
    ("backend", "mode", "kept"),
    [
        ("cudagraphs", "default", ("inductor", "default")),
        ("inductor", "reduce-overhead", ("inductor", "default")),
        ("inductor", "max-autotune", ("inductor", "max-autotune-no-cudagraphs")),
        ("inductor", "default", ("inductor", "default")),
    ],
)
def test_streamed_blocks_are_compiled_without_recorded_graphs(
    backend: str, mode: str, kept: tuple[str, str]
) -> None:
    found = for_moving_weights(Compilation(backend=backend, mode=mode, dynamic=True))
    assert (found.backend, found.mode, found.dynamic) == (*kept, True)


def test_a_cpu_neither_compiles_nor_sums_in_float16() -> None:
    assert "CPU" in (why_not_compiled(CPU) or "")
    assert "CPU" in (why_not_float16_sums(CPU) or "")
    before = getattr(torch.backends.cuda.matmul, "allow_fp16_accumulation", None)
    with float16_sums(True, CPU):
        assert getattr(torch.backends.cuda.matmul, "allow_fp16_accumulation", None) == before
