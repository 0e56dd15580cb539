"""Every attention kernel that runs on this GPU, against the definition, at the sizes of the 14B model.

Kernels that cannot run here are skipped with the reason. Errors are printed (``-s``) and kept in the report.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infinite_talk.ops.attention import KERNELS, AttentionCallable, eager, native, resolve, sdpa
from infinite_talk.ops.attention.choices import Choices
from infinite_talk.ops.attention.machine import here
from infinite_talk.ops.attention.registry import Unusable, ready
from infinite_talk.settings import Attention
from tests.attention import Case, errors, model_cases, strided

CUDA = torch.device("cuda")
pytestmark = pytest.mark.gpu
EXACT = {torch.float16: 2e-3, torch.bfloat16: 6e-3}
CASES = [
    *model_cases(tokens_per_frame=1560, frames=3, heads=40, head_dim=128),
    Case("the speech of a whole window", 21, 40, 1560, 32, 128),
    Case("odd lengths", 1, 40, 1237, 1025, 128),
]


def kernel_here(name: str, dtype: torch.dtype = torch.bfloat16, head_dim: int = 128) -> AttentionCallable:
    found = ready(KERNELS[name], here(CUDA), dtype, head_dim)
    if isinstance(found, Unusable):
        pytest.skip(f"{name} {found.why}")
    return found.attend


@pytest.mark.parametrize("dtype", EXACT, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("name", KERNELS)
@torch.no_grad()
def test_a_kernel_agrees_with_the_definition(
    name: str, case: Case, dtype: torch.dtype, record_property: Callable[[str, object], None]
) -> None:
    attend = kernel_here(name, dtype)
    apart = errors(attend, *case.tensors(dtype, CUDA))
    record_property("errors", str(apart))
    print(f"{name}, {case}, {dtype}: {apart}")
    bound = EXACT[dtype] if KERNELS[name].exact else KERNELS[name].bound
    assert apart.relative < bound, f"{name}, {case}, {dtype}: {apart}"


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    offset=st.integers(0, 17), gap=st.integers(0, 19), innermost=st.integers(1, 2), swapped=st.booleans(),
    which=st.sampled_from(["q", "k", "v", "all"]), keys=st.sampled_from([32, 257, 1024, 1100]),
)  # fmt: skip
@pytest.mark.parametrize("name", KERNELS)
@torch.no_grad()
def test_odd_strides_and_offsets_are_harmless(
    name: str, offset: int, gap: int, innermost: int, swapped: bool, which: str, keys: int
) -> None:
    """A kernel that read such a tensor as it is would end the process with a misaligned address."""
    attend = kernel_here(name)
    plain = dict(zip("qkv", Case("", 1, 4, 1024, keys, 128).tensors(torch.bfloat16, CUDA), strict=True))

    def laid_out(part: str) -> torch.Tensor:
        x = plain[part]
        if which not in (part, "all"):
            return x
        y = x.transpose(1, 2) if swapped else x
        z = strided(y, offset=offset, gap=gap, innermost=innermost)
        return z.transpose(1, 2) if swapped else z

    before = plain["k"].clone()
    assert errors(attend, *map(laid_out, "qkv")).relative < KERNELS[name].bound
    torch.cuda.synchronize()
    assert torch.equal(plain["k"], before), "the model's keys were changed"


@pytest.mark.parametrize("name", KERNELS)
@torch.no_grad()
def test_a_kernel_keeps_its_answer_in_a_compiled_program(name: str) -> None:
    attend = kernel_here(name)

    def block(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return attend(q * 1.5, k, v).transpose(1, 2).flatten(2) + 1

    q, k, v = Case("", 1, 4, 1024, 1024, 128).tensors(torch.bfloat16, CUDA)
    torch._dynamo.reset()
    found, expected = torch.compile(block, fullgraph=True)(q, k, v), block(q, k, v)
    assert float((found - expected).float().norm() / expected.float().norm()) < 0.01


@torch.no_grad()
def test_torchs_best_is_found_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """How much faster it is, ``bench/attention.py`` says."""
    monkeypatch.setattr(native, "_CHOSEN", Choices(8))
    tried: list[object] = []
    seconds = native._seconds
    monkeypatch.setattr(native, "_seconds", lambda one, *x: tried.append(one) or seconds(one, *x))
    q, k, v = Case("", 1, 40, 4096, 4096, 128).tensors(torch.bfloat16, CUDA)
    for _ in range(3):
        sdpa(q, k, v)
    assert len(tried) == len(native.BACKENDS)
    chosen = native._CHOSEN.get(native.kind_of(q, k, v))
    assert chosen in native.BACKENDS
    print("torch's best for 4096 tokens:", chosen)


@torch.no_grad()
def test_sdpa_is_recorded_into_a_graph() -> None:
    """A CUDA graph of a shape that was never measured: nothing is timed while it is recorded."""
    q, k, v = Case("", 1, 4, 777, 333, 128).tensors(torch.bfloat16, CUDA)
    torch.nn.functional.scaled_dot_product_attention(q, k, v)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = sdpa(q, k, v)
    graph.replay()
    torch.testing.assert_close(out, eager(q, k, v), atol=0.02, rtol=0.02)


@pytest.mark.parametrize("asked", Attention)
@torch.no_grad()
def test_whatever_is_resolved_runs(asked: Attention) -> None:
    """Under its own name or, with one line, under a lesser one."""
    try:
        found = resolve(asked, CUDA, torch.bfloat16, strict=False, head_dim=128)
    except Exception as error:
        pytest.skip(str(error))
    assert asked in (found.name, "auto") or (found.note and "\n" not in found.note)
    q, k, v = Case("", 1, 40, 2048, 2048, 128).tensors(torch.bfloat16, CUDA)
    assert errors(found.kernel, q, k, v).relative < KERNELS[found.name].bound
    print(f"{asked}: {found.name} ({found.version}) {found.note or ''}")


def test_fp32_is_left_to_torch() -> None:
    found = resolve(Attention.AUTO, CUDA, torch.float32, strict=True)
    q, k, v = Case("", 1, 2, 300, 200, 128).tensors(torch.float32, CUDA)
    assert found.name == "sdpa" and errors(found.kernel, q, k, v).relative < 1e-3
