"""LoRA strengths per step act at their step, on everything, and from the start again in the next window."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from infinite_talk.denoise.denoiser import Plain, Question
from infinite_talk.denoise.guidance import Branch
from infinite_talk.denoise.strengths import WithStrengths, varying_strengths
from infinite_talk.models.dit import WanTransformer
from infinite_talk.types import Guide
from infinite_talk.weights.lora import attach, read_adapter
from tests.unit import tiny

LAYERS = ("blocks.0.self_attn.q", "blocks.0.cross_attn.k", "blocks.0.audio_cross_attn.kv_linear")
STEPS = (1.0, 0.25, 0.0)


def adapted(strength: float | tuple[float, ...]) -> WanTransformer:
    model = tiny.tiny_rooms().transformer
    assert isinstance(model, WanTransformer)
    torch.manual_seed(5)
    tensors = {}
    for name in LAYERS:
        out, width = model.get_submodule(name).weight.shape
        tensors |= {
            f"{name}.lora_A.weight": torch.randn(2, width),
            f"{name}.lora_B.weight": torch.randn(out, 2),
        }
    attach(model, [read_adapter(tensors, source="a LoRA", strength=strength)])
    return model


@pytest.fixture(scope="module")
def guide() -> Guide:
    torch.manual_seed(6)
    return Guide(
        text=torch.randn(4, 8),
        negative=torch.randn(3, 8),
        image=torch.randn(5, 8),
        reference=torch.randn(20, 2, 4, 4),
        speech=torch.randn(1, 5, 5, 2, 4),
        token_masks=torch.ones(2, 4, 4),
        motion=torch.randn(16, 1, 4, 4),
    )


@torch.inference_mode()
def test_each_step_has_its_own_strength_everywhere(guide: Guide) -> None:
    latent, branches = torch.randn(16, 2, 4, 4), [Branch.COND, Branch.DROP_TEXT]
    model = adapted(STEPS)
    strengths = varying_strengths(model)
    assert strengths is not None
    denoiser = WithStrengths(Plain(model), strengths)
    for _window in range(2):
        conditions = {branch: denoiser.condition(guide, branch) for branch in branches}
        for step, strength in enumerate(STEPS):
            constant = Plain(adapted(strength))
            for branch in branches:
                question = Question(step, torch.tensor([700.0]), branch, conditions[branch])
                expected = constant.velocity(
                    latent, replace(question, condition=constant.condition(guide, branch))
                )
                torch.testing.assert_close(denoiser.velocity(latent, question), expected)


def test_one_strength_for_all_steps_needs_nothing(guide: Guide) -> None:
    assert varying_strengths(adapted(0.5)) is None
    assert varying_strengths(adapted((0.5, 0.5))) is None
