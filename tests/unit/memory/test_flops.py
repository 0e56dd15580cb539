"""The cost model counts what the published model does, and what our modules really compute."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from infinite_talk.memory.flops import (
    Kind,
    block_parts,
    condition_parts,
    decode_flops,
    encode_flops,
    forward_parts,
    step_flops,
    total,
    total_bytes,
)
from infinite_talk.memory.work import Work
from infinite_talk.models.dit import DiTConfig, WanTransformer
from infinite_talk.models.vae import VAEConfig, VideoVAE
from infinite_talk.ops import causal_conv
from infinite_talk.ops.attention.registry import eager
from infinite_talk.types import Size
from tests.bundles import CONFIGS, QUICK_VAE

FULL = DiTConfig()
# Latents are 1/8 of the pixels: 60 x 104, 80 x 80 and 90 x 160, in 21 frames.
ANCHORS = {
    (480, 832): (32_760, 1825.1, 900.7, 924.4),
    (640, 640): (33_600, 1894.9, 946.9, 948.0),
    (720, 1280): (75_600, 6860.0, 4731.6, 2128.4),
}
"""Tokens, then 1e12 operations of the published formulation: all, attention, matrices."""
PARTS_480P = {
    ("self qkv", "self o"): 274.8,
    ("self attention",): 879.2,
    ("cross q", "cross o"): 137.4,
    ("cross attention",): 20.6,
    ("speech q", "speech o"): 137.4,
    ("speech attention",): 0.9,
    ("feed-forward up", "feed-forward down"): 371.0,
    ("cross keys and values",): 3.2,
    ("speech keys and values",): 0.4,
}


@pytest.mark.parametrize(("size", "expected"), ANCHORS.items())
def test_the_published_model_has_the_published_counts(size, expected):
    work = Work(size=Size(*size))
    parts = forward_parts(FULL, work, official=True)
    counts = (total(parts), total(parts, Kind.ATTENTION), total(parts, Kind.GEMM))
    assert (work.tokens(), *(round(count / 1e12, 1) for count in counts)) == expected


@pytest.mark.parametrize(("names", "expected"), PARTS_480P.items())
def test_its_parts_have_the_published_counts(names, expected):
    parts = forward_parts(FULL, Work(size=Size(480, 832)), official=True)
    assert round(total(part for part in parts if part.name in names) / 1e12, 1) == expected


def tiny(people: int):
    """A transformer of three layers, its condition's arguments, and what it works on."""
    config = DiTConfig(**{**CONFIGS["transformer"], "num_layers": 3})
    work = Work(size=Size(64, 96), frames=9, people=people)
    model = WanTransformer(config, attention=eager).eval()
    model.init_weights()
    height, width = work.size.latent
    speech = (1, people, 9, config.audio_window, config.audio_blocks, config.audio_channels)
    inputs = {
        "text": torch.randn(1, config.text_len, config.text_dim),
        "image": torch.randn(1, config.clip_tokens, config.clip_dim),
        "speech": torch.randn(speech),
        "token_masks": torch.ones(people + 1, height, width),
        "reference": torch.randn(1, config.reference_dim, work.latents, height, width),
    }
    latent = torch.randn(1, config.out_dim, work.latents, height, width)
    return config, work, model, inputs, latent


def counted(call) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call()
    return counter.get_total_flops()


@pytest.mark.parametrize("people", [1, 2])
def test_a_forward_and_its_condition_compute_what_is_counted(people):
    config, work, model, inputs, latent = tiny(people)
    condition = model.condition(**inputs)
    at = torch.tensor([500.0])
    time = counted(
        lambda: model.embed_time(at)
    )  # a row of a few thousand numbers, which the model leaves out
    # The definition of attention, written out, is counted as two products.
    found = counted(lambda: model(latent, at, condition)) - time
    assert found == total(forward_parts(config, work))
    assert counted(lambda: model.condition(**inputs)) == total(condition_parts(config, work))


def test_carrying_the_speech_keys_saves_what_it_says():
    work = Work(size=Size(480, 832))
    tokens, narrow, keys = work.tokens(), FULL.num_heads * FULL.context_tokens, 21 * 32

    def of_speech(parts):
        once = ("speech embedding", "speech keys and values")
        return total(part for part in parts if part.name.startswith("speech") and part.name not in once)

    published = of_speech(forward_parts(FULL, work, official=True))
    assert published == 40 * (4 * tokens * 5120**2 + 4 * tokens * 32 * 5120)
    # Two products of 1280 columns instead of two of 5120 and the attention itself, and the keys' own way.
    assert of_speech(forward_parts(FULL, work)) == 40 * (4 * tokens * 5120 * narrow + 4 * keys * 5120**2)
    # Where a frame has few tokens nothing is saved, and nothing carried.
    small = block_parts(FULL, 21 * 40, latents=21)
    assert "speech attention" in {part.name for part in small}


def test_branches_share_the_first_self_attention_only():
    work = Work(size=Size(480, 832), branches=3)
    apart, shared = (step_flops(FULL, work, shared=one) for one in (False, True))
    parts = forward_parts(FULL, work)
    one_layer = total(part for part in parts if part.name.startswith("self")) / FULL.num_layers
    assert apart == pytest.approx(3 * total(parts)) and apart - shared == pytest.approx(2 * one_layer)


def test_the_floor_of_bytes_is_near_the_measured_one():
    """96 ms at 4.26 TB/s were read from the kernels of a fused prototype (480p, bf16)."""
    moved = total_bytes(forward_parts(FULL, Work(size=Size(480, 832))), Kind.ELEMENTWISE)
    assert moved / 4.26e12 == pytest.approx(0.096, rel=0.05)


@pytest.mark.parametrize("sizes", [CONFIGS["vae"], QUICK_VAE, {**QUICK_VAE, "dim_mult": [1, 2, 3]}])
def test_the_codec_computes_what_is_counted(sizes, monkeypatch):
    """By the definition; some ways of computing it take fewer operations."""
    monkeypatch.setattr(causal_conv, "suits", lambda _: False)
    config = VAEConfig.from_json(sizes)
    vae = VideoVAE(config).eval()
    work = Work(size=Size(32, 48), frames=9)
    video, latent = (
        torch.zeros(1, 3, 9, 32, 48),
        torch.zeros(1, config.z_dim, work.latents, *work.size.latent),
    )
    assert counted(lambda: vae.decode(latent)) == decode_flops(config, work)
    assert counted(lambda: vae.encode(video)) == encode_flops(config, work)
