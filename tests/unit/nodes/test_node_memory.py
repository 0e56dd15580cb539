"""What a run of the nodes needs beside the model: counted by the planner."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from infinite_talk.denoise.adapters import Poses
from infinite_talk.denoise.denoiser import Plain
from infinite_talk.denoise.guidance import Branch
from infinite_talk.memory import MemoryPlan, Work, full_sizes
from infinite_talk.memory.costs import denoise_need, kept_bytes
from infinite_talk.models.adapters import UniAnimate, UniAnimateConfig, uni_animate
from infinite_talk.nodes.handles import Vae
from infinite_talk.types import Size
from tests.live import LiveBytes, peak_bytes
from tests.unit import tiny
from tests.unit.adapters import nets
from tests.unit.denoise.test_loop import some_guide, tiny_transformer
from tests.unit.nodes import scenes

WORK = Work(size=Size(480, 832))
MODEL = full_sizes()
STREAM = 2.0 * 32_760 * 5120
"""Bytes of the tokens of a window, bfloat16."""


def needed(work: Work = WORK, *, joined: bool = False, rows: int | None = None) -> float:
    return denoise_need(replace(MODEL, joined=joined), work, rows, kept=True).bytes


@pytest.mark.parametrize(
    ("found", "more"),
    [
        (needed(joined=True), 2 * STREAM),  # queries and keys stay beside the values until they are rotated
        (needed(joined=True, rows=4096) - needed(rows=4096) + needed(), 2 * 2 * 4096 * 5120),
        (needed(replace(WORK, put=2.0)), 2 * STREAM),
        (needed(replace(WORK, beside=3e9)), 3e9),
    ],
    ids=["fused QKV", "fused QKV in pieces", "what extras hold", "weights of adapters"],
)
def test_what_stands_beside_the_model_is_counted(found: float, more: float) -> None:
    assert found - needed() == pytest.approx(more)


class Noted(scenes.TinyModel):
    """Keeps what it was asked to plan for."""

    def plan(self, work: Work, vae: Vae | None = None) -> MemoryPlan:
        self.plans.append(work)  # type: ignore[arg-type]
        return super().plan(work, vae)


def planned(model: Noted, **asked: Any) -> Work:
    """What a run over one latent tells the planner."""
    shape = {"target_shape": (16, 5, scenes.SIDE // 8, scenes.SIDE // 8)}
    scenes.latent(model.rooms, model=model, image_embeds=shape, **asked)
    found: Any = model.plans[0]
    return found


@pytest.mark.parametrize("drift_steps", [0, 1])
def test_an_edit_keeps_the_conditions_of_both_its_sides(drift_steps: int) -> None:
    """Against the bytes of two denoisers, which share nothing; the plain steps at the end ask what is there."""
    edit = {"source_embeds": scenes.text_embeds(2), "skip_steps": 0, "drift_steps": drift_steps}
    samples = {"samples": scenes.noise(1, 16, 5, scenes.SIDE // 8, scenes.SIDE // 8)}
    work = planned(Noted(tiny.tiny_rooms()), samples=samples, flowedit_args=edit)
    assert (work.branches, work.source_branches) == (1 + drift_steps, 2)

    transformer, guide = tiny_transformer(), some_guide()
    sides = [(Branch.COND, Branch.DROP_TEXT)[: work.branches], (Branch.COND, Branch.DROP_TEXT)]
    with LiveBytes() as live, torch.inference_mode():
        denoisers = [Plain(transformer) for _ in sides]
        found = [
            one.condition(guide, branch)
            for one, asked in zip(denoisers, sides, strict=True)
            for branch in asked
        ]
        held = live.now
    frames, height, width = found[0].grid
    model = replace(MODEL, transformer=transformer.config, base=4)
    asked = replace(work, size=Size(16 * height, 16 * width), frames=4 * frames - 3)
    assert kept_bytes(model, asked, kept=True) == pytest.approx(held, rel=0.01)


def test_an_edit_of_a_step_cache_remembers_both_sides() -> None:
    edit = {"source_embeds": scenes.text_embeds(), "skip_steps": 0}
    samples = {"samples": scenes.noise(1, 16, 5, scenes.SIDE // 8, scenes.SIDE // 8)}
    cache = {"rel_l1_thresh": 0.1, "use_coefficients": False}
    work = planned(Noted(tiny.tiny_rooms()), samples=samples, flowedit_args=edit, cache_args=cache)
    assert work.remembered == work.branches + work.source_branches == 3


@pytest.mark.parametrize("reference", [False, True])
def test_the_pose_network_is_counted(tmp_path: Path, reference: bool) -> None:
    """Its weights, and what it takes to embed a window's poses: against the bytes of a small one."""
    network = nets.random(UniAnimate(UniAnimateConfig(dim=scenes.CONFIG.dim, channels=4)))
    model = Noted(tiny.tiny_rooms(), loras=(nets.saved(network, tmp_path / "poses.safetensors"),))
    pictures = scenes.noise(1, 3, 17, scenes.SIDE, scenes.SIDE).sigmoid()
    poses = {"pose": pictures, "ref": pictures[:, :, 0] if reference else None}
    work = planned(model, unianimate_poses=poses)
    assert work.beside == sum(parameter.nbytes for parameter in network.parameters())

    patches = model.rooms.transformer.patch_embedding.weight
    made = Poses(
        *(network, pictures), patches=patches, size=(scenes.SIDE, scenes.SIDE), reference=poses["ref"]
    )
    found = peak_bytes(lambda: made.for_window(0, 5))
    size = (scenes.SIDE, scenes.SIDE)
    assert (
        found <= work.before == uni_animate.embedding_bytes(network.config, size, 5, 4, reference=reference)
    )


@pytest.mark.parametrize(
    "config", [UniAnimateConfig(dim=8, channels=8), UniAnimateConfig(dim=3000, channels=1)]
)
@pytest.mark.parametrize("reference", [False, True])
def test_the_bytes_of_embedding_poses_follow_their_formula(config: UniAnimateConfig, reference: bool) -> None:
    """Wide maps and few tokens, or the other way round: either may be the most. A window in the middle of a video."""
    network, latents, size = UniAnimate(config).eval(), 12, (32, 32)
    pictures, patches = torch.rand(1, 3, 4 * 24, *size), torch.zeros(config.dim, 36, 1, 2, 2)
    shown = pictures[:, :, 0] if reference else None
    made = Poses(network, pictures, patches=patches, size=size, reference=shown)
    found = peak_bytes(lambda: made.for_window(6, latents))
    counted = uni_animate.embedding_bytes(config, size, latents, 4, reference=reference)
    assert found <= 1.02 * counted < 1.3 * found


def test_each_view_has_conditions_of_its_own() -> None:
    """1.4 GiB and more for each stretch of a context; the plan then keeps no keys and values."""
    one, two, three = (needed(replace(WORK, views=count)) for count in (1, 2, 3))
    assert three - two == pytest.approx(two - one) and two - one > 1e9
