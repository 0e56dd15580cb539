"""One step of the tiny transformer with what adapters put on it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from infinite_talk.denoise.denoiser import Plain, Question
from infinite_talk.denoise.extras import ExtrasSource, WithExtras
from infinite_talk.denoise.guidance import Branch
from infinite_talk.models.dit import WanTransformer
from infinite_talk.types import Guide
from tests.unit import tiny_dit

TIME = torch.tensor([640.0])
FRAMES, HEIGHT, WIDTH = tiny_dit.GRID


def guide(seed: int = 0) -> Guide:
    given = tiny_dit.inputs(batch=1, seed=seed)
    return Guide(
        text=given["text"][0],
        negative=tiny_dit.noise(4, tiny_dit.CONFIG.text_dim, seed=seed + 20),
        image=given["image"][0],
        reference=given["reference"][0],
        speech=given["speech"][0],
        token_masks=given["token_masks"][0],
        motion=torch.zeros(16, 1, HEIGHT, WIDTH),
    )


def latent(seed: int = 10) -> Tensor:
    return tiny_dit.latent(batch=1, seed=seed)[0]


def model() -> WanTransformer:
    return tiny_dit.model().eval()


@torch.inference_mode()
def answered(
    transformer: WanTransformer,
    sources: Sequence[ExtrasSource] = (),
    *,
    branches: Sequence[Branch] = (Branch.COND,),
    step: int = 0,
    steps: int = 4,
    batched: bool = False,
) -> dict[Branch, Tensor]:
    """Velocities of one step by branch, with the sources of a window."""
    plain = Plain(transformer, batched=batched)
    denoiser = WithExtras(plain, sources, steps)
    asked = [Question(step, TIME, branch, denoiser.condition(guide(), branch)) for branch in branches]
    return dict(denoiser.velocities(latent(), asked))


def one(transformer: WanTransformer, sources: Sequence[ExtrasSource] = (), *, step: int = 0) -> Tensor:
    """Of the full answer alone."""
    return answered(transformer, sources, step=step)[Branch.COND]
