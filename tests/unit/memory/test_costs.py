"""The planner's arithmetic against what models really allocate.

At full size on the meta device, operation by operation; and by the resident memory of a process that runs a
small model on the CPU.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from math import prod

import pytest
import torch

from infinite_talk.memory import Work, full_sizes
from infinite_talk.memory.codec import Pass, decode_pass, encode_pass
from infinite_talk.memory.costs import decode_need, encode_need
from infinite_talk.memory.published import WAN_VAE
from infinite_talk.memory.sizes import GGUF, kept_bytes, transformer_shapes
from infinite_talk.memory.workspace import block_workspace, condition_bytes
from infinite_talk.models.dit import DiTConfig, WanTransformer
from infinite_talk.models.vae import VAEConfig, VideoVAE
from infinite_talk.ops import codec
from infinite_talk.settings import Quantization
from infinite_talk.types import Size
from infinite_talk.weights.precision import FORMATS, is_packed
from tests.meter import LiveBytes, like_query

CLOSE = 0.05
"""How far the arithmetic may be from what is measured."""
FOLDED = VAEConfig(48, 16, (1, 2, 3), 1, (True, True), (0.0,) * 16, (1.0,) * 16, patch=2)
"""The embedded model's codec."""
BF16 = full_sizes(fused=False)
EXACT_CODEC = replace(BF16, vae_base=4)
"""With the codec as a CPU runs it."""


@pytest.fixture
def _autocast_on_meta(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch has no autocast for the meta device; the model only ever turns it off."""
    monkeypatch.setattr(torch, "autocast", lambda *_args, **_kwargs: contextlib.nullcontext())


def measured(run: Callable[[], object], known: Iterable[torch.Tensor] = ()) -> int:
    """The most bytes that live while ``run`` runs, beyond ``known``."""
    with LiveBytes() as meter:
        meter.know(known)
        before = meter.live
        run()
    return meter.peak - before


@pytest.mark.usefixtures("_autocast_on_meta")
@pytest.mark.parametrize(
    ("people", "kept_keys", "rows"), [(1, True, None), (2, True, None), (1, False, None), (2, False, 4096)]
)
@torch.no_grad()
def test_a_pass_of_the_14b_transformer_at_480p(people: int, kept_keys: bool, rows: int | None) -> None:
    """Conditions and workspace of one branch, with two of the 40 blocks: the others take no more."""
    config, work = (
        replace(DiTConfig(), num_layers=2),
        Work(size=Size(480, 832), branches=1, silent=0, people=people),
    )
    with torch.device("meta"):
        model = WanTransformer(config, like_query).bfloat16()
        model.rows_at_once, model.keep_keys_values = rows, kept_keys
        inputs = {
            "text": torch.empty(1, 512, config.text_dim),
            "image": torch.empty(1, config.clip_tokens, config.clip_dim),
            "speech": torch.empty(1, people, 81, 5, 12, 768),
            "token_masks": torch.empty(people + 1, 60, 104),
            "reference": torch.empty(1, 20, 21, 60, 104),
        }
        latent, time = torch.empty(1, 16, 21, 60, 104), torch.empty(1)
    known = [*inputs.values(), latent, time, *model.parameters()]
    with LiveBytes() as meter:
        meter.know(known)
        before = meter.live
        condition = model.condition(**inputs)
        kept = meter.live - before
        meter.reset()
        model(latent, time, condition)
    tokens = work.tokens()
    planned = condition_bytes(config, tokens, work.latents, 2, people=people, kept=kept_keys)
    assert kept == pytest.approx(planned, rel=CLOSE)
    needed = 2 * tokens * config.dim + block_workspace(config, tokens, 2, rows, people=people)
    assert meter.peak - before - kept == pytest.approx(needed, rel=CLOSE)


@pytest.mark.parametrize("config", [WAN_VAE, FOLDED], ids=["wan", "folded"])
@pytest.mark.parametrize("latents", [1, 2])
@torch.no_grad()
def test_pieces_of_the_codec(config: VAEConfig, latents: int) -> None:
    """Each piece's work, and what is remembered between pieces."""
    stride, height, width = config.spatial_stride, 30, 52
    with torch.device("meta"):
        vae, latent = VideoVAE(config).eval(), torch.empty(1, 16, 3 * latents, height, width)
        video = torch.empty(1, 3, 13, height * stride, width * stride)
    check(vae.decode_chunks(latent, latents), latent, decode_pass(config, height * width, latents, 4))
    if latents == 1:
        check(vae.encode_chunks(video), video, encode_pass(config, height * width * stride**2, 4, 4))


def check(pieces: Iterable[torch.Tensor], known: torch.Tensor, expected: Pass) -> None:
    """Look at the third piece: the first is shorter, the second remembers for the first time."""
    with LiveBytes() as meter:
        meter.know([known])
        before = meter.live
        walk = iter(pieces)
        next(walk)
        next(walk)
        meter.reset()
        state = meter.live - before
        next(walk)
    assert state == pytest.approx(expected.state, rel=0.01)
    assert meter.peak - before == pytest.approx(expected.state + expected.work, rel=CLOSE)


@pytest.mark.parametrize("latents", [2, 3])
@torch.no_grad()
def test_pieces_of_the_codec_by_its_kernels(monkeypatch: pytest.MonkeyPatch, latents: int) -> None:
    """What the kernels allocate, at full size, with plain stand-ins that compute nothing."""

    def padded(x: torch.Tensor, _gamma: torch.Tensor, _past: torch.Tensor | None) -> torch.Tensor:
        B, C, F, H, W = x.shape
        return x.new_empty(B, C, codec.PAST + F, H + 2, W + 2)

    monkeypatch.setattr(codec, "fused", lambda _x: True)
    monkeypatch.setattr(codec, "norm_silu_pad", padded)
    with torch.device("meta"):
        vae, latent = VideoVAE(WAN_VAE).half().eval(), torch.empty(1, 16, 3 * latents, 60, 104)
        video = torch.empty(1, 3, 1 + 4 * 3 * latents, 480, 832)
    expected = decode_pass(WAN_VAE, 60 * 104, latents, 2, fused=True)
    check(vae.decode_chunks(latent, latents), latent, expected)
    expected = encode_pass(WAN_VAE, 480 * 832, 4 * latents, 2, fused=True)
    check(vae.encode_chunks(video, latents), video, expected)


@torch.no_grad()
def test_the_codec_at_once() -> None:
    with torch.device("meta"):
        vae, latent = VideoVAE(WAN_VAE).eval(), torch.empty(1, 16, 3, 30, 52)
        video = torch.empty(1, 3, 9, 240, 416)
    assert measured(lambda: vae.decode(latent), [latent]) == pytest.approx(
        decode_pass(WAN_VAE, 30 * 52, 3, 4, whole=True).work, rel=CLOSE
    )
    assert measured(lambda: vae.encode(video), [video]) == pytest.approx(
        encode_pass(WAN_VAE, 240 * 416, 9, 4, whole=True).work, rel=CLOSE
    )


@pytest.mark.parametrize("tile", [None, 416])
@torch.no_grad()
def test_a_window_through_the_codec(tile: int | None) -> None:
    """The stages as the planner has them: the video, features for tiles, and the pieces."""
    work = Work(size=Size(64, 832), frames=9)
    with torch.device("meta"):
        vae, latent = VideoVAE(WAN_VAE).eval(), torch.empty(1, 16, 3, 8, 104)
        video = torch.empty(1, 3, 9, 64, 832)
    found = measured(lambda: vae.decode_pieces(latent, 1, tile)) + latent.nbytes
    assert found == pytest.approx(decode_need(EXACT_CODEC, work, 4, tile).bytes, rel=CLOSE)
    for frames, encode in ((4, partial(vae.encode_pieces, tile=tile)), (12, vae.encode)):
        if tile is None or frames == 4:
            found = measured(lambda encode=encode: encode(video), [video]) + video.nbytes
            assert found == pytest.approx(encode_need(EXACT_CODEC, work, frames, tile).bytes, rel=CLOSE)


@pytest.mark.parametrize("quantization", [q for q in Quantization if FORMATS[q] is not None])
def test_bytes_of_a_block_are_those_of_the_packed_weights(quantization: Quantization) -> None:
    kept = FORMATS[quantization]
    assert kept is not None
    for shape in ((48, 64), (33, 80)):
        parts = kept.pack(torch.randn(shape) / 8)
        assert kept_bytes(shape, kept, 2) == sum(part.nbytes for part in parts.values())


def test_numbers_of_the_published_files() -> None:
    """The lists of keys of the real files have these many numbers."""
    assert 40 * (BF16.block / 2) + BF16.rest / 2 == 18_882_046_784
    assert BF16.codec / 2 == 126_892_531
    assert BF16.text.weights / 2 == 5_680_910_336


def test_what_is_kept_plain_is_what_the_policies_keep() -> None:
    """The planner packs the matrices of blocks; so do the policies."""
    for name, shape in transformer_shapes(DiTConfig()).items():
        packed = kept_bytes(shape, "Q8_0" if name.startswith("blocks.") else None, 2) < 2 * prod(shape)
        assert packed == is_packed(name, shape)


def test_types_of_gguf_are_in_order() -> None:
    """Bits per number, from the type's name: never less than it says, at most one more for scales."""
    for name, (numbers, size) in GGUF.items():
        bits = int("".join(c for c in name.split("_")[0] if c.isdigit()))
        assert bits <= 8 * size / numbers <= bits + 1


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of resident memory from Linux")
def test_against_the_memory_of_a_process() -> None:
    """A model of 140 MB runs a pass; what the process took beyond its imports is what was planned."""
    done = subprocess.run(
        [sys.executable, "-c", PROCESS], capture_output=True, text=True, timeout=120, check=True
    )
    taken, planned = json.loads(done.stdout)
    assert planned > 150e6
    assert 0.8 < taken / planned < 1.3  # allocators keep some of what was freed


PROCESS = """
import json, torch
from dataclasses import replace
from infinite_talk.memory import Work, full_sizes
from infinite_talk.memory.costs import denoise_need
from infinite_talk.memory.sizes import kept_bytes, transformer_bytes, transformer_shapes
from infinite_talk.models.dit import DiTConfig, WanTransformer
from infinite_talk.types import Size

def peak():
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith("VmHWM"))

def run(config, size):
    height, width = size.latent
    with torch.no_grad():
        model = WanTransformer(config)
        condition = model.condition(
            text=torch.zeros(1, 8, 64), image=torch.zeros(1, 9, 64), speech=torch.zeros(1, 1, 17, 5, 2, 32),
            token_masks=None, reference=torch.zeros(1, 20, 5, height, width),
        )
        model(torch.zeros(1, 16, 5, height, width), torch.zeros(1), condition)

small = dict(text_dim=64, text_len=16, clip_dim=64, clip_tokens=9, audio_blocks=2, audio_channels=32,
    intermediate_dim=32, context_tokens=4, output_dim=64)
config = DiTConfig(dim=640, ffn_dim=1728, num_heads=5, num_layers=5, **small)
work = Work(size=Size(192, 256), frames=17, branches=1, silent=0)
torch.set_num_threads(1)
run(replace(config, dim=128, ffn_dim=256, num_heads=1), Size(64, 64))  # libraries are loaded page by page
block, rest = transformer_bytes(transformer_shapes(config), lambda name, shape: kept_bytes(shape, None, 4))
sizes = replace(full_sizes(fused=False), transformer=config, block=block, rest=rest, base=4)
before = peak()
run(config, work.size)
planned = rest + config.num_layers * block + denoise_need(sizes, work, None, kept=True).bytes
print(json.dumps([peak() - before, planned]))
"""
