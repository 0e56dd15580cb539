"""The random checkpoint of the measurements: what it writes opens as the published layout, and runs."""

from __future__ import annotations

import pytest
import torch

from bench.official import SHARDS, Sizes, bytes_of, write_official
from infinite_talk.models.dit import DiTConfig
from infinite_talk.models.speech import SpeechConfig
from infinite_talk.models.text import TextConfig
from infinite_talk.models.vae import VAEConfig
from infinite_talk.models.vision import VisionConfig
from infinite_talk.settings import Quantization, Settings
from infinite_talk.weights.checkpoint import Part
from infinite_talk.weights.model import open_model
from infinite_talk.weights.precision import Policy
from infinite_talk.weights.sizes import sizes_of

SMALL = Sizes(
    transformer=DiTConfig(dim=128, ffn_dim=192, num_heads=1, num_layers=2, text_dim=64, clip_dim=80),
    vae=VAEConfig.from_json(
        {"dim": 8, "z_dim": 16, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2,
         "temporal_downsample": [False, True, True]}
    ),
    text=TextConfig(100, 64, 64, 96, 1, 1),
    vision=VisionConfig(dim=80, num_heads=1, num_layers=2, used_layers=1),
    speech=SpeechConfig(),
)  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory):
    return write_official(tmp_path_factory.mktemp("official"), SMALL, workers=1)


def test_it_opens_as_published(files):
    model = open_model(Settings(files=files))
    assert {part: one.dialect for part, one in model.parts.items()}[Part.TRANSFORMER].startswith("official")
    assert model.parts[Part.TRANSFORMER].config.num_layers == 2
    assert len(list(files.transformer[0].glob("*.safetensors"))) == SHARDS
    assert model.size <= bytes_of([files.transformer[0].parent])


def test_its_sizes_are_planned_from_its_headers(files):
    model = open_model(Settings(files=files))
    policy = Policy(Quantization.DISABLED, None)
    sizes = sizes_of(model, policy, torch.bfloat16, torch.device("cpu"), fused=False)
    numbers = sum(
        torch.Size(shape).numel() for shape in model.parts[Part.TRANSFORMER].weights.shapes.values()
    )
    assert sizes.blocks + sizes.rest == 2 * numbers


def test_writing_again_changes_nothing(files):
    before = files.adapter.stat().st_mtime_ns
    assert write_official(files.transformer[0].parent, SMALL) == files
    assert files.adapter.stat().st_mtime_ns == before
