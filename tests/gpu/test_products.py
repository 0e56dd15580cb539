"""TF32, the library of products, and fused QKV on a GPU."""

from __future__ import annotations

import pytest
import torch

from infinite_talk.models.dit.fusing import fuse_qkv
from infinite_talk.ops.fused import fused_ops
from infinite_talk.ops.products import Products
from infinite_talk.settings import Gemm
from tests.unit.tiny_dit import TIMES, inputs, latent, model

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def as_before():
    precision, library = torch.get_float32_matmul_precision(), torch.backends.cuda.preferred_blas_library()
    yield
    torch.set_float32_matmul_precision(precision)
    torch.backends.cuda.preferred_blas_library(library)


def test_tf32_rounds_the_inputs_of_products():
    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("no TF32 before Ampere")
    x = torch.randn(512, 512, device="cuda", generator=torch.Generator("cuda").manual_seed(1))
    exact = (x.double() @ x.double()).float()
    errors = []
    for tf32 in (False, True):
        Products(tf32=tf32).apply()
        errors.append(float((x @ x - exact).abs().max()))
    assert errors[0] < 1e-3 < errors[1] < 0.5


@pytest.mark.parametrize("gemm", [Gemm.CUBLAS, Gemm.CUBLASLT])
def test_each_library_multiplies(gemm):
    x = torch.randn(256, 256, device="cuda", dtype=torch.bfloat16)
    Products(gemm=gemm).apply()
    expected = (x.double() @ x.double()).to(torch.bfloat16)
    torch.testing.assert_close(x @ x, expected, atol=0.25, rtol=0.02)


@pytest.mark.parametrize("people", [1, 2])
@torch.no_grad()
def test_fused_qkv_with_the_kernels_between_products(people):
    device = torch.device("cuda")
    ops, _ = fused_ops(device)
    net = model().to(device)
    for block in net.blocks:
        block.ops = block.self_attn.ops = block.cross_attn.ops = ops
    given = {name: value.to(device) for name, value in inputs(people).items()}
    x, t = latent().to(device), TIMES.to(device)
    before = net(x, t, net.condition(**given))
    assert fuse_qkv(net) is None
    torch.testing.assert_close(net(x, t, net.condition(**given)), before, atol=2e-4, rtol=0)
