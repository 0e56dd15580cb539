"""Exported weights: the program's path through them is the one that was trained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from infinite_talk.denoise.denoiser import Plain, Question
from infinite_talk.denoise.guidance import Branch
from infinite_talk.lipsync import expected_opening, load_listener
from infinite_talk.lipsync.voice import FULL
from infinite_talk.models.vae import VAEConfig, VideoVAE
from infinite_talk.presets import Defaults
from infinite_talk.types import Guide
from infinite_talk.weights import bundle
from infinite_talk.weights.bundle import Store, load_bundle
from infinite_talk.weights.manifest import read_manifest
from tests.bundles import CONFIGS
from training import embedded, export, scenes
from training.optim import save
from training.speech import encoder as speech_encoder
from training.towers import Towers, build_towers, picture_to_clip

TEXT = "a person speaks"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes of the embedded model, made small; its VAE keeps the folding of pixels."""
    sizes = {
        "dim": 32,
        "ffn_dim": 48,
        "num_heads": 2,
        "num_layers": 2,
        "intermediate_dim": 16,
        "output_dim": 16,
    }
    monkeypatch.setattr(embedded, "TRANSFORMER", {**embedded.TRANSFORMER, **sizes})
    monkeypatch.setattr(embedded, "VAE", {**embedded.VAE, "dim": 8})
    # Exactly what was trained comes back: the test is about names and paths, not about rounding.
    monkeypatch.setattr(bundle, "stored", lambda trained: {k: v.clone() for k, v in trained.weights.items()})


@pytest.fixture
def trained(small: None, tmp_path: Path) -> tuple[Towers, VideoVAE, Path]:
    torch.manual_seed(0)
    ears = speech_encoder.SpeechTrainer(speech_encoder.tiny_config())
    speech_encoder.save(ears, tmp_path)
    towers = build_towers(ears.encoder.config.num_hidden_layers, ears.encoder.config.hidden_size)
    torch.nn.init.normal_(towers.transformer.head.head.weight, std=0.2)
    vae = VideoVAE(VAEConfig.from_json(embedded.VAE))
    weights = {name: tensor.clone() for name, tensor in towers.state_dict().items()}
    save(tmp_path / "towers.safetensors", weights, torch.float32)
    save(tmp_path / "vae.safetensors", vae.state_dict(), torch.float32)
    (tmp_path / "vae.json").write_text(json.dumps({"latent_mean": [0.1] * 16, "latent_std": [2.0] * 16}))
    files = {"towers": "towers.safetensors", "vae": "vae.safetensors", "vae_report": "vae.json", "speech": ""}
    paths = {name: tmp_path / file for name, file in files.items()}
    export.export(tmp_path / "out", **paths, version="0", defaults=Defaults(negative_prompt=""))
    return towers.eval(), vae.eval(), tmp_path / "out"


@torch.inference_mode()
def test_the_program_computes_what_was_trained(trained: tuple[Towers, VideoVAE, Path]) -> None:
    towers, _, folder = trained
    rooms = load_bundle(folder, torch.device("cpu"), torch.float32)
    normal = torch.randn(2000 * 300, generator=torch.Generator().manual_seed(1))
    latent, reference = normal[: 2 * 16 * 3 * 64].reshape(2, 1, 16, 3, 8, 8)
    picture = normal[: 3 * 64 * 64].reshape(1, 3, 64, 64).tanh()
    config = rooms.transformer.config
    speech = normal[: 9 * 5 * config.audio_blocks * config.audio_channels].reshape(
        1, 1, 9, 5, config.audio_blocks, config.audio_channels
    )
    tokens = scenes.byte_tokens([TEXT], config.text_len)
    time = torch.tensor([400.0])
    mask = torch.zeros(4, 3, 8, 8)
    mask[:, 0] = 1
    (text,) = rooms.text.encode([TEXT])
    guide = Guide(
        text=text,
        negative=text,
        image=rooms.vision(picture)[0],
        reference=torch.cat([mask, reference[0]]),
        speech=speech[0],
        token_masks=torch.ones(2, 8, 8),
        motion=latent[0, :, :1],
    )
    denoiser = Plain(rooms.transformer)
    for branch, heard in ((Branch.COND, speech), (Branch.DROP_AUDIO, torch.zeros_like(speech))):
        expected = towers(latent, time, tokens, picture_to_clip(picture), heard, reference)[0]
        found = denoiser.velocity(latent[0], Question(0, time, branch, denoiser.condition(guide, branch)))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_latents_are_normalised_by_their_measured_statistics(trained: tuple[Towers, VideoVAE, Path]) -> None:
    _, vae, folder = trained
    rooms = load_bundle(folder, torch.device("cpu"), torch.float32)
    video = torch.rand(3, 9, 32, 32, generator=torch.Generator().manual_seed(2)) * 2 - 1
    torch.testing.assert_close(rooms.encode_video(video), (vae.encode(video[None])[0] - 0.1) / 2.0)


def test_the_voice_reader_goes_with_its_encoder(
    trained: tuple[Towers, VideoVAE, Path], tmp_path: Path
) -> None:
    _, _, folder = trained
    voice = tmp_path / "voice.safetensors"
    export.export_voice(voice, speech=tmp_path, manifest=read_manifest(folder))
    listener = load_listener(folder, voice)
    ears = speech_encoder.load(tmp_path)
    sound = np.random.default_rng(3).normal(size=16_000).astype(np.float32)
    expected = ears.estimate(torch.from_numpy(sound)[None], 25).mouth[0, :, 0] * FULL
    # The reader alone is in 8 bits here.
    np.testing.assert_allclose(expected_opening(sound, 25, listener), expected.numpy(), atol=FULL / 100)


def test_the_first_layer_keeps_its_precision() -> None:
    kind = bundle.KINDS["transformer"]
    weights = kind.model(kind.config(CONFIGS["transformer"])).state_dict()
    stored = bundle.stored(bundle.Trained(CONFIGS["transformer"], weights, Store.INT8))
    assert stored["patch_embedding.weight"].dtype is torch.float16
    assert stored["blocks.0.self_attn.q.weight._data"].dtype is torch.int8
    assert stored["blocks.0.self_attn.q.weight._scale"].dtype is torch.float32
