"""Adapters on a GPU: what they put on a pass is that of the CPU, wherever their networks are kept."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from infinite_talk.denoise.adapters import GuideVideo, Heard, Poses
from infinite_talk.denoise.denoiser import Plain, Question
from infinite_talk.denoise.extras import WithExtras
from infinite_talk.denoise.guidance import Branch
from tests.guides import moved
from tests.unit import tiny_dit
from tests.unit.adapters import nets, run

DEVICE = torch.device("cuda")
pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def without_tensorfloat32() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


@torch.inference_mode()
def answered(device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """One step with all of them; the networks begin on the host."""
    model = run.model().to(device, dtype)
    guide, patches = moved(run.guide(), device), model.patch_embedding.weight
    height, width = 8 * run.HEIGHT, 8 * run.WIDTH
    poses = Poses(
        nets.uni_animate().to(device, dtype),
        tiny_dit.noise(1, 3, 9, height, width, seed=3).sigmoid(),
        patches=patches,
        size=(height, width),
    )
    features = tiny_dit.noise(1, 3, 5, nets.TALKING.context_dim, seed=4)
    lengths = torch.tensor([2, 5, 4])
    heads = tiny_dit.CONFIG.num_heads
    heard = Heard(nets.talking(), features, heads=heads, like=patches, lengths=lengths)
    followed = GuideVideo(nets.uni3c(), embed_time=lambda times: model.embed_time(times)[0])
    shown = tiny_dit.noise(16, *tiny_dit.GRID, seed=12).to(device)
    sources = [
        poses.for_window(0, 3),
        heard.for_window(0, 3),
        followed.for_window(shown, guide.reference[:4]),
    ]
    denoiser = WithExtras(Plain(model), sources, 4)
    condition = denoiser.condition(guide, Branch.COND)
    question = Question(0, run.TIME.to(device), Branch.COND, condition)
    return denoiser.velocity(run.latent().to(device), question).float().cpu()


def test_a_step_is_that_of_the_cpu():
    with torch.backends.cudnn.flags(allow_tf32=False):  # its convolutions would round to ten bits
        found = answered(DEVICE, torch.float32)
    wanted = answered(torch.device("cpu"), torch.float32)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


def test_half_precision_is_near():
    found = answered(DEVICE, torch.bfloat16)
    wanted = answered(torch.device("cpu"), torch.float32)
    assert found.isfinite().all()
    assert float((found - wanted).norm() / wanted.norm()) < 0.1
