"""Settings of matrix products: TF32, the GPU's library, fused QKV, dense inputs."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from infinite_talk.effective import effective
from infinite_talk.errors import CapabilityError
from infinite_talk.models.dit.fusing import fuse_qkv
from infinite_talk.ops.attention import Dense, exact, sdpa
from infinite_talk.ops.joined import join, together
from infinite_talk.ops.linear import Packed, PackedLinear
from infinite_talk.ops.linear.scaled import INT8
from infinite_talk.ops.products import Products, products_for
from infinite_talk.settings import Device, Gemm, Settings
from tests.unit.tiny_dit import CONFIG, TIMES, inputs, latent, model, noise

HOPPER, TURING = (9, 0), (7, 5)


def widths_of_products(net: torch.nn.Module, monkeypatch: pytest.MonkeyPatch, run) -> list[int]:
    """Rows of the weights that are multiplied while ``run`` runs."""
    seen: list[int] = []
    linear = F.linear

    def spy(x, weight, bias=None):
        seen.append(len(weight))
        return linear(x, weight, bias)

    monkeypatch.setattr(F, "linear", spy)
    run()
    monkeypatch.setattr(F, "linear", linear)
    return seen


@pytest.mark.parametrize("rows", [None, 12], ids=["whole", "pieces"])
@pytest.mark.parametrize("people", [1, 2])
@torch.no_grad()
def test_fused_qkv_gives_the_same_answer_with_fewer_products(people, rows, monkeypatch):
    net, given = model(), inputs(people)
    net.rows_at_once = rows
    condition = net.condition(**given)
    before = net(latent(), TIMES, condition)
    apart = widths_of_products(net, monkeypatch, lambda: net(latent(), TIMES, condition))
    assert fuse_qkv(net) is None
    fused = widths_of_products(net, monkeypatch, lambda: net(latent(), TIMES, condition))
    torch.testing.assert_close(net(latent(), TIMES, condition), before, atol=1e-5, rtol=0)
    joint = (3 if rows is None else 2) * CONFIG.dim
    assert fused.count(joint) == len(net.blocks) * (1 if rows is None else 3)
    assert len(fused) < len(apart)


@torch.no_grad()
def test_joined_layers_keep_their_names_and_weights():
    net = model()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    fuse_qkv(net)
    after = net.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


@torch.no_grad()
def test_layers_that_were_moved_are_multiplied_one_by_one():
    layers = [torch.nn.Linear(6, 4), torch.nn.Linear(6, 8)]
    x = noise(3, 6, seed=1)
    assert together(layers, x) is None
    assert join(layers)
    for found, layer in zip(together(layers, x), layers, strict=True):
        torch.testing.assert_close(found, layer(x))
    layers[1].weight.data = layers[1].weight.data.clone()
    assert together(layers, x) is None


@torch.no_grad()
def test_packed_blocks_keep_three_products_and_say_so():
    net, given = model(), inputs()
    own = net.blocks[0].self_attn
    for name in ("q", "k", "v"):
        plain = getattr(own, name)
        packed = Packed(INT8, (CONFIG.dim, CONFIG.dim), INT8.pack(plain.weight))
        setattr(own, name, PackedLinear(packed, plain.bias, torch.float32))
    before = net(latent(), TIMES, net.condition(**given))
    assert "1 of 2 blocks keep three products" in fuse_qkv(net)
    torch.testing.assert_close(net(latent(), TIMES, net.condition(**given)), before, atol=1e-5, rtol=0)


@torch.no_grad()
def test_dense_inputs_reach_the_kernel_and_change_nothing():
    seen: list[bool] = []

    def kernel(q, k, v):
        seen.append(all(x.is_contiguous() for x in (q, k, v)))
        return sdpa(q, k, v)

    given = inputs()
    plain, dense = model(kernel), model(Dense(kernel))
    dense.load_state_dict(plain.state_dict())
    expected = plain(latent(), TIMES, plain.condition(**given))
    assert not all(seen)  # views, as a block makes them
    seen.clear()
    torch.testing.assert_close(dense(latent(), TIMES, dense.condition(**given)), expected, atol=2e-6, rtol=0)
    assert seen
    assert all(seen)
    assert isinstance(exact(Dense(kernel)), Dense)


def test_wishes_that_a_machine_can_follow_are_followed():
    wishes = Settings(tf32=True, gemm=Gemm.CUBLASLT, fuse_qkv=True, contiguous=True)
    products, notes = products_for(wishes, HOPPER)
    assert (products, notes) == (Products(True, Gemm.CUBLASLT, True, True), ())
    assert str(products) == "tf32, gemm cublaslt, fused qkv, contiguous inputs"
    assert str(Products()) == ""


@pytest.mark.parametrize(
    ("wish", "capability", "says"),
    [
        (Settings(tf32=True), None, "tf32 needs .* this runs on the CPU"),
        (Settings(tf32=True), TURING, "tf32 needs .* this one has 7.5"),
        (Settings(gemm=Gemm.CUBLAS), None, "gemm cublas is a library for NVIDIA GPUs"),
    ],
)
def test_other_wishes_get_a_line_and_are_not_recorded(wish, capability, says):
    import dataclasses
    import re

    products, notes = products_for(wish, capability)
    assert len(notes) == 1
    assert re.search(says, notes[0])
    assert str(products) == ""
    with pytest.raises(CapabilityError, match=says):
        products_for(dataclasses.replace(wish, strict=True), capability)


def test_no_tf32_where_there_is_none_needs_no_line():
    assert products_for(Settings(tf32=False, strict=True), None) == (Products(), ())


def test_the_choices_of_an_engine_tell_of_them():
    how = effective(
        Settings(device=Device.CPU, fuse_qkv=True, contiguous=True, tf32=True), gguf=False, head_dim=16
    )
    assert isinstance(how.attention.kernel, Dense)
    assert str(how) == "cpu, fp32, attention sdpa, fused qkv, contiguous inputs"
    assert sum("tf32" in note for note in how.notes) == 1


def test_torch_is_told(monkeypatch):
    told: list[str] = []
    monkeypatch.setattr(torch, "set_float32_matmul_precision", told.append)
    monkeypatch.setattr(torch.backends.cuda, "preferred_blas_library", told.append)
    Products().apply()
    assert told == []
    Products(tf32=True, gemm=Gemm.CUBLASLT).apply()
    Products(tf32=False, gemm=Gemm.CUBLAS).apply()
    assert told == ["high", "cublaslt", "highest", "cublas"]
