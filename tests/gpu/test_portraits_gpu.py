"""Portraits drawn on a GPU are those drawn on the CPU."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from training.portraits import babble, identities, poses, render

pytestmark = pytest.mark.gpu


def test_seeds_give_the_same_people_and_pictures_on_both_devices():
    seeds = torch.tensor([1, 1_000_001, 2**41])
    here, there = identities(seeds), identities(seeds.cuda())
    for field in fields(here):
        value = getattr(there, field.name).cpu()
        torch.testing.assert_close(value, getattr(here, field.name), rtol=0, atol=1e-6)
    pose, mouth = poses(seeds, 3, start_frame=500), babble(seeds, 3, 500)
    far = render(there, poses(seeds.cuda(), 3, start_frame=500), babble(seeds.cuda(), 3, 500), 96).cpu()
    assert float((far - render(here, pose, mouth, 96)).abs().mean()) < 1e-4
