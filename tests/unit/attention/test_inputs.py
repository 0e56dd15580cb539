"""No tensor reaches a kernel that cannot take it, and none is copied, or changed, without need."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from infinite_talk.models.dit import WanTransformer
from infinite_talk.ops.attention import KERNELS, AttentionCallable, eager, resolve, sdpa
from infinite_talk.ops.attention.base import GPUs, HeadSizes, Layout, Source
from infinite_talk.ops.attention.guarded import Guarded, exact, guard, with_aligned_inputs
from infinite_talk.ops.attention.inputs import aligned, is_aligned
from infinite_talk.ops.attention.machine import here
from infinite_talk.ops.attention.registry import Unusable, ready
from infinite_talk.settings import Attention
from tests.attention import Case, errors, strided
from tests.unit.attention.packages import BLACKWELL, FLASH_ATTN_3, HOPPER, SAGE, SAGE_3, Machine
from tests.unit.tiny_dit import TIMES, inputs, latent, model, noise

CPU, BF16 = torch.device("cpu"), torch.bfloat16
PLACES = st.fixed_dictionaries(
    {"offset": st.integers(0, 17), "gap": st.integers(0, 19), "innermost": st.integers(1, 3)}
)
ORDERS = st.sampled_from([(0, 1, 2, 3), (0, 2, 1, 3), (2, 1, 0, 3), (0, 1, 3, 2), (3, 2, 1, 0)])


def displaced(x: Tensor, place: dict[str, int], order: tuple[int, ...]) -> Tensor:
    """The same values, laid out in another order of dimensions, at odd places."""
    back = [order.index(i) for i in range(4)]
    return strided(x.permute(order), **place).permute(back)


def picky(dtype: torch.dtype, layout: Layout, *, dense: bool) -> AttentionCallable:
    """A kernel that insists on what a real one takes for granted, and overwrites its keys."""

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        for x in (q, k, v):
            assert x.dtype == dtype and x.stride(-1) == 1 and x.data_ptr() % 16 == 0
            assert all(s > 0 and s * x.itemsize % 16 == 0 for s in x.stride()[:-1]), x.stride()
            assert x.is_contiguous() or not dense
        length = 1 if layout is Layout.TOKENS_FIRST else 2
        k -= k.mean(dim=length, keepdim=True)
        if layout is Layout.HEADS_FIRST:
            return eager(q, k, v)
        return eager(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2)

    return attend


def source(layout: Layout, *, dense: bool = False) -> Source:
    return Source(
        "p", "m", GPUs("", ()), HeadSizes(128), lambda: eager, layout=layout, dense=dense, writes_keys=True
    )


@settings(max_examples=60)
@given(
    places=st.tuples(PLACES, PLACES, PLACES),
    orders=st.tuples(ORDERS, ORDERS, ORDERS),
    layout=st.sampled_from(Layout),
    dense=st.booleans(),
    dtype=st.sampled_from([BF16, torch.float16, torch.float32]),
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
)
def test_a_picky_kernel_gets_what_it_needs(
    places: tuple[dict[str, int], ...], orders: tuple[tuple[int, ...], ...], layout: Layout, dense: bool,
    dtype: torch.dtype, sizes: tuple[int, int, int, int],
) -> None:  # fmt: skip
    batch, heads, queries, keys = sizes
    plain = Case("", batch, heads, queries, keys, 16).tensors(dtype, CPU)
    q, k, v = (displaced(x, *how) for x, *how in zip(plain, places, orders, strict=True))
    before = k.clone()
    attend = with_aligned_inputs(picky(dtype, layout, dense=dense), source(layout, dense=dense))
    assert errors(attend, q, k, v).relative < 0.02
    assert torch.equal(k, before), "the model's keys were changed"


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(places=st.tuples(PLACES, PLACES, PLACES), orders=st.tuples(ORDERS, ORDERS, ORDERS))
@pytest.mark.parametrize("name", KERNELS)
def test_every_kernel_that_is_here_takes_odd_tensors(
    name: str, places: tuple[dict[str, int], ...], orders: tuple[tuple[int, ...], ...]
) -> None:
    found = ready(KERNELS[name], here(CPU), BF16, 16)
    if isinstance(found, Unusable):
        pytest.skip(f"{name} {found.why}")
    plain = Case("", 1, 2, 9, 5, 16).tensors(BF16, CPU)
    q, k, v = (displaced(x, *how) for x, *how in zip(plain, places, orders, strict=True))
    assert errors(found.attend, q, k, v).relative < KERNELS[name].bound


@given(place=PLACES, order=ORDERS, dense=st.booleans())
@example({"offset": 0, "gap": 0, "innermost": 1}, (0, 2, 1, 3), False)
def test_copies_are_made_only_if_needed(place: dict[str, int], order: tuple[int, ...], dense: bool) -> None:
    x = displaced(noise(2, 3, 4, 16, seed=0).bfloat16(), place, order)
    found = aligned(x, dense=dense)
    assert torch.equal(found, x) and is_aligned(found, dense=dense)
    assert (found is x) is is_aligned(x, dense=dense)


def test_the_models_own_tensors_are_not_copied() -> None:
    """Heads split off a row, a part of the heads, a part of the keys, frames folded into the batch."""
    tokens = noise(2, 24, 4, 16, seed=0).bfloat16()
    heads = tokens.transpose(1, 2)
    frames = tokens.unflatten(1, (3, 8)).flatten(0, 1).transpose(1, 2)
    for x in (heads, heads[:, :2], heads[:, :, :7], frames):
        assert (aligned(x) is x and aligned(x.transpose(1, 2)) is x.transpose(1, 2)) or is_aligned(x)


@pytest.mark.parametrize(
    "x",
    [
        torch.zeros(64).bfloat16()[1:49].view(1, 1, 3, 16),  # two bytes off
        torch.zeros(1, 1, 16).bfloat16().expand(2, 3, 16)[None],  # repeated by strides of 0
        torch.zeros(3, 20).bfloat16()[None, None, :, :16],  # rows 40 bytes apart
        torch.as_strided(
            torch.zeros(64).bfloat16(), (1, 1, 3, 16), (3, 5, 16, 1)
        ),  # strides of single entries
    ],
)
def test_what_looks_fine_and_is_not_is_copied(x: Tensor) -> None:
    assert not is_aligned(x) and is_aligned(aligned(x))


# What a kernel is not asked to do


def guarded(machine: Machine, name: str) -> Guarded:
    """A resolved kernel whose package a test wrote."""
    machine.gpu(*(BLACKWELL if name == "sageattn_3_fp4" else HOPPER))
    machine.install("fa3-fwd", "fa3_fwd_interface", FLASH_ATTN_3)
    machine.install("sageattention", "sageattention", SAGE, "2.2.0")
    machine.install("sageattn3", "sageattn3", SAGE_3)
    found = resolve(Attention(name), CPU, BF16, strict=True, head_dim=64).kernel
    assert isinstance(found, Guarded)
    return found


@pytest.mark.parametrize("name", ["flash_attn_3", "sageattn", "sageattn_3_fp4"])
def test_calls_outside_the_description_go_to_sdpa(machine: Machine, name: str) -> None:
    attend = guarded(machine, name)
    q, k, v = Case("", 1, 2, 8, 1024, 64).tensors(BF16, CPU)
    assert attend.takes(q, k, v)
    assert attend.takes(q, k[:, :, :512], v[:, :, :512]) is attend.kernel.exact, "the text"
    outside = {
        "float32": (q.float(), k.float(), v.float()),
        "mixed": (q, k, v.half()),
        "odd heads": (q[..., :36], k[..., :36], v[..., :36]),
        "narrow values": (q, k, v[..., :8]),
        "gradients": (q.clone().requires_grad_(), k, v),
    }
    for what, call in outside.items():
        assert not attend.takes(*call), what
        if what != "mixed":
            torch.testing.assert_close(attend(*call), sdpa(*call), atol=0, rtol=0)


def test_gradients_flow_around_a_package(machine: Machine) -> None:
    attend = guarded(machine, "flash_attn_3")
    q, k, v = (x.requires_grad_() for x in Case("", 1, 2, 8, 8, 64).tensors(BF16, CPU))
    attend(q, k, v).sum().backward()
    assert q.grad is not None and v.grad is not None


def test_who_is_who_is_never_decided_by_an_approximate_kernel() -> None:
    """With two people: a kernel that rounds draws, and the class maps come from an exact one."""
    calls = []

    def rounding(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        calls.append(v)
        return eager(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2)

    kernel = KERNELS["sageattn"]
    anything = Source("p", "m", GPUs("", ()), HeadSizes(128), lambda: eager)
    with torch.no_grad():
        attend = Guarded(
            replace(kernel, fewest_keys=1, dtypes=frozenset({torch.float32})), anything,
            with_aligned_inputs(rounding, anything), eager,
        )  # fmt: skip
        assert exact(attend) is sdpa and exact(sdpa) is sdpa and exact(eager) is eager
        made: WanTransformer = model(attend)
        given_ = inputs(people=2)
        made(latent(), TIMES, made.condition(**given_))
        expected = model()(latent(), TIMES, model().condition(**given_))
    # Two blocks of self, text and image, and no class maps: those have more zeros than numbers. Speech with few
    # keys is no kernel's matter (``grouped_attention``).
    assert len(calls) == 2 * 3 and all((x == 0).float().mean() < 0.5 for x in calls)
    torch.testing.assert_close(
        made(latent(), TIMES, made.condition(**given_)), expected, atol=1e-4, rtol=1e-4
    )


def test_a_guarded_kernel_is_one_operator_to_a_compiler() -> None:
    """Traced in one piece, without asking for addresses; the same bits, the layout that was promised."""
    place = Source("p", "m", GPUs("", ()), HeadSizes(128), lambda: eager, writes_keys=True)
    attend = guard(
        replace(KERNELS["flash_attn_3"], name="compiled_in_a_test"),
        place,
        picky(BF16, Layout.TOKENS_FIRST, dense=False),
    )

    def block(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend(q * 2, k, v).transpose(1, 2).flatten(2) + 1

    compiled = torch.compile(block, backend="eager", fullgraph=True)
    q, k, v = Case("", 1, 2, 9, 7, 16).tensors(BF16, CPU)
    with torch.no_grad():
        assert torch.equal(compiled(q, k, v), block(q, k, v))
    with FakeTensorMode() as fakes:
        promised = attend.compiled(*(fakes.from_tensor(x) for x in (q, k, v)))
    real = attend.compiled(q, k, v)
    assert (promised.shape, promised.stride(), promised.dtype) == (real.shape, real.stride(), real.dtype)
