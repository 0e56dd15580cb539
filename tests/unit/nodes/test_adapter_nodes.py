"""Nodes of adapters: files by name, dictionaries with the pack's keys, and honest refusals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from infinite_talk.errors import CapabilityError, CheckpointError, InputError, UsageError
from infinite_talk.models.adapters import FantasyTalking
from infinite_talk.models.adapters.fantasy_portrait import FACE
from infinite_talk.nodes import (
    FantasyPortraitFaceDetector,
    FantasyPortraitModelLoader,
    FantasyTalkingModelLoader,
    FantasyTalkingWav2VecEmbeds,
    WanVideoAddFantasyPortrait,
    WanVideoUni3C_ControlnetLoader,
    WanVideoUni3C_embeds,
    WanVideoUniAnimatePoseInput,
    Wav2VecModelLoader,
)
from infinite_talk.nodes.host import Host, ModelFolders, hosted
from infinite_talk.nodes.networks import AdapterModel
from tests.unit.adapters import nets


@pytest.fixture
def models(tmp_path: Path) -> Iterator[Path]:
    """A folder laid out like ComfyUI's ``models``, with tiny adapters."""
    for kind in ("diffusion_models", "controlnet"):
        (tmp_path / kind).mkdir()
    nets.saved(nets.talking(), tmp_path / "diffusion_models" / "talking.safetensors")
    nets.saved(nets.portrait(), tmp_path / "diffusion_models" / "portrait.safetensors")
    nets.saved(nets.uni3c(), tmp_path / "controlnet" / "uni3c.safetensors")
    with hosted(Host(places=ModelFolders((tmp_path,)))):
        yield tmp_path


def test_loaders_find_their_files_by_name(models: Path):
    (talking,) = FantasyTalkingModelLoader().loadmodel("talking.safetensors", "fp32")
    (portrait,) = FantasyPortraitModelLoader().loadmodel("portrait.safetensors", "fp32")
    (guide,) = WanVideoUni3C_ControlnetLoader().loadmodel("uni3c.safetensors", "bf16", "fp8_e4m3fn")
    assert talking.network.config == nets.TALKING
    assert portrait.network.config == nets.PORTRAIT
    assert guide.network.config == nets.UNI3C
    assert guide.network.dtype is torch.bfloat16
    assert guide.title == "uni3c.safetensors"


def test_half_precision_becomes_single_on_a_cpu(models: Path):
    (talking,) = FantasyTalkingModelLoader().loadmodel("talking.safetensors")
    wanted = torch.float32 if not torch.cuda.is_available() else torch.float16
    assert talking.network.proj_model.proj.weight.dtype is wanted


def test_lists_of_files_are_those_of_the_folder(models: Path):
    choices, options = FantasyTalkingModelLoader.INPUT_TYPES()["required"]["model"]
    assert list(choices) == ["portrait.safetensors", "talking.safetensors"]
    assert options["default"] == "portrait.safetensors"


def test_the_embedded_model_and_empty_folders_have_no_adapters(models: Path, tmp_path: Path):
    with pytest.raises(CapabilityError, match="embedded model has no Uni3C"):
        WanVideoUni3C_ControlnetLoader().loadmodel("embedded")
    with hosted(Host(embedded=True)), pytest.raises(CapabilityError, match="no FantasyTalking"):
        FantasyTalkingModelLoader().loadmodel("talking.safetensors")
    with hosted(Host()), pytest.raises(CheckpointError, match="no file for FantasyPortrait"):
        FantasyPortraitModelLoader().loadmodel("none")
    with pytest.raises(CheckpointError, match=r"talking\.safetensors is not FantasyPortrait"):
        FantasyPortraitModelLoader().loadmodel("talking.safetensors")


def test_poses_travel_channel_first():
    images = torch.rand(5, 32, 48, 4)
    (found,) = WanVideoUniAnimatePoseInput().process(images, 0.5, 0.1, 0.9, images[:2])
    assert torch.equal(found["pose"], images[..., :3].permute(3, 0, 1, 2)[None])
    assert torch.equal(found["ref"], images[:1, ..., :3].permute(0, 3, 1, 2))
    assert (found["strength"], found["start_percent"], found["end_percent"]) == (0.5, 0.1, 0.9)
    assert WanVideoUniAnimatePoseInput().process(images)[0]["ref"] is None
    with pytest.raises(InputError, match="expected pictures"):
        WanVideoUniAnimatePoseInput().process(torch.rand(3, 5, 32, 48))


def test_guides_travel_with_the_packs_keys():
    model, latent = AdapterModel(nets.uni3c(), "u"), torch.zeros(1, 16, 3, 6, 8)
    (found,) = WanVideoUni3C_embeds().process(model, 0.5, 0.0, 0.7, {"samples": latent}, None, False)
    assert found["render_latent"] is latent
    assert {key: found[key] for key in ("controlnet_weight", "start", "end", "offload")} == {
        "controlnet_weight": 0.5,
        "start": 0.0,
        "end": 0.7,
        "offload": False,
    }
    assert found["render_mask"] is None
    assert found["camera_embedding"] is None
    with pytest.raises(CapabilityError, match="masks"):
        WanVideoUni3C_embeds().process(model, render_mask=torch.zeros(1, 6, 8))
    with pytest.raises(UsageError, match="WanVideoUni3C_ControlnetLoader"):
        WanVideoUni3C_embeds().process(AdapterModel(nets.talking(), "t"))


def test_a_face_is_added_to_a_copy_of_the_embeds():
    embeds, features = {"target_h": 480}, torch.zeros(1, 3, 5, 10)
    (found,) = WanVideoAddFantasyPortrait().add(embeds, features, 2.0, 0.1, 0.8, [1.0, 3.0])
    assert embeds == {"target_h": 480}
    assert found["portrait_embeds"] == {
        "adapter_proj": features,
        "strength": 2.0,
        "start_percent": 0.1,
        "end_percent": 0.8,
        "cfg_scale": [1.0, 3.0],
    }


def test_no_face_is_found_in_pictures_but_its_numbers_are_taken():
    """What is missing is named; numbers computed elsewhere are embedded, cut to 4 n + 1 frames."""
    model = AdapterModel(nets.portrait(), "p")
    with pytest.raises(CapabilityError, match=r"face_det\.onnx.*face_landmark\.onnx.*motion encoder"):
        FantasyPortraitFaceDetector().detect(model, torch.rand(5, 32, 32, 3))
    face = torch.randn(1, 11, sum(FACE), generator=torch.Generator().manual_seed(1))
    features, _, _ = FantasyPortraitFaceDetector().detect(model, face, 2.0, 0.5, 1.5)
    wanted = model.network.watch(face[:, :9], whole=2.0, mouth=0.5, mood=1.5).features
    assert torch.equal(features, wanted)


class TestSpeech:
    """FantasyTalkingWav2VecEmbeds on the embedded speech encoder."""

    @pytest.fixture
    def speech(self):
        (model,) = Wav2VecModelLoader().loadmodel("embedded", "fp32")
        return replace(model, kind="facebook")

    @pytest.fixture
    def network(self, speech) -> AdapterModel[FantasyTalking]:
        config = replace(nets.TALKING, speech_dim=speech.model.opened.config.hidden_size)
        return AdapterModel(nets.random(FantasyTalking(config)), "t")

    def test_frames_hear_the_last_layer_of_the_encoder(self, speech, network):
        """50 features in a second, the mean of all channels, silence where the audio has ended."""
        waveform = torch.randn(1, 2, 6000, generator=torch.Generator().manual_seed(2)) * 0.1
        audio = {"waveform": waveform, "sample_rate": 16000}
        (found,) = FantasyTalkingWav2VecEmbeds().process(speech, network, audio, 9, 20.0, 1.5, 2.0)
        heard = torch.zeros(1, 7200)
        heard[:, :6000] = waveform[0].mean(dim=0)
        with speech.model.at_hand() as encoder, torch.inference_mode():
            count = encoder.config.features(7200)
            assert count == encoder.model.feature_extractor(heard).shape[-1]
            wanted = network.network.listen(encoder(heard, count)[:, :, -1], 9)
        assert torch.equal(found["audio_proj"], wanted.features)
        assert torch.equal(found["audio_context_lens"], wanted.lengths)
        assert (found["audio_scale"], found["audio_cfg_scale"]) == (1.5, 2.0)
        assert found["audio_proj"].shape[:2] == (1, 3)

    def test_another_encoder_is_refused(self, speech, network):
        audio = {"waveform": torch.zeros(1, 1, 6000), "sample_rate": 16000}
        with pytest.raises(UsageError, match="facebook/wav2vec2-base-960h"):
            FantasyTalkingWav2VecEmbeds().process(replace(speech, kind="tencent"), network, audio)
        with pytest.raises(UsageError, match="connect Wav2VecModelLoader"):
            FantasyTalkingWav2VecEmbeds().process(SimpleNamespace(), network, audio)
