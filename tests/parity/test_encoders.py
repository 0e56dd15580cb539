"""Speech, text and image encoders against recorded cases of the reference, and against published names."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import nn

from infinite_talk.models.speech import SpeechConfig, SpeechEncoder
from infinite_talk.models.speech import keys as speech_keys
from infinite_talk.models.speech.model import normalise
from infinite_talk.models.text import TextConfig, TextEncoder
from infinite_talk.models.text import keys as text_keys
from infinite_talk.models.vae import VAEConfig, VideoVAE
from infinite_talk.models.vision import ImageEncoder, VisionConfig
from infinite_talk.models.vision import keys as vision_keys
from infinite_talk.weights.builder import build
from tests.golden import GoldenFile, cases, golden_dir

TOLERANCE = 2e-5
MANIFESTS = golden_dir().parent / "manifests"


def check(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, atol=TOLERANCE, rtol=0)


def with_manifest(name: str) -> tuple[dict[str, Any], dict[str, list[int]]]:
    path = MANIFESTS / f"{name}.json"
    if not path.is_file():
        pytest.skip(f"no {path.name} beside the recorded cases")
    return json.loads(path.with_suffix(".config.json").read_text()), json.loads(path.read_text())


@pytest.mark.parametrize("case", cases("wav2vec2"), ids=lambda case: case.name)
@torch.inference_mode()
def test_speech(case: GoldenFile) -> None:
    config = SpeechConfig.from_json(case.config)
    weights = case.tensors("w/")
    encoder = build(lambda: SpeechEncoder(config), speech_keys.key_map(config, weights).read(weights))
    recordings = case.tensors("in/audio_")
    assert recordings
    for name, recording in recordings.items():
        waveform, frames = recording[None], len(case[f"out/embedding_{name}"])
        check(normalise(waveform)[0], case[f"mid/input_values_{name}"])
        heard = encoder.model.feature_extractor(normalise(waveform))
        check(heard[0], case[f"mid/conv_features_{name}"])
        features = encoder(waveform, frames)
        check(features[0], case[f"out/embedding_{name}"])
        check(encoder.encode_long(waveform, frames)[0], case[f"out/embedding_{name}"])
        part = encoder.encode_part(waveform, frames, 0, frames, encoder.measure(waveform))
        torch.testing.assert_close(part, features, atol=1e-4, rtol=0)


@pytest.mark.parametrize("case", cases("wav2vec2"), ids=lambda case: case.name)
@torch.inference_mode()
def test_speech_before_the_layers(case: GoldenFile) -> None:
    config = SpeechConfig.from_json(case.config)
    weights = case.tensors("w/")
    encoder = build(lambda: SpeechEncoder(config), speech_keys.key_map(config, weights).read(weights))
    seen: dict[str, torch.Tensor] = {}
    encoder.model.feature_projection.register_forward_pre_hook(
        lambda _, args: seen.update(interpolated=args[0])
    )
    encoder.model.encoder.layers[0].register_forward_pre_hook(lambda _, args: seen.update(hidden0=args[0]))
    for name, recording in case.tensors("in/audio_").items():
        encoder(recording[None], len(case[f"out/embedding_{name}"]))
        check(seen["interpolated"][0], case[f"mid/interpolated_{name}"])
        check(seen["hidden0"][0], case[f"mid/hidden0_{name}"])


@pytest.mark.parametrize("case", cases("umt5"), ids=lambda case: case.name)
@torch.inference_mode()
def test_text(case: GoldenFile) -> None:
    config = TextConfig.from_json(case.config)
    weights = case.tensors("w/")
    encoder = build(lambda: TextEncoder(config), text_keys.key_map(config, weights).read(weights))
    ids, mask = case["in/ids"], case["in/mask"]
    hidden = encoder(ids, mask)
    real = mask.bool()
    check(hidden[real], case["out/hidden"][real])
    lengths = mask.sum(1)
    for row, length in enumerate(lengths):
        check(hidden[row, :length], case[f"out/context_{row}"])
        check(
            encoder(ids[row : row + 1, :length], mask[row : row + 1, :length])[0], case[f"out/context_{row}"]
        )
    attention = encoder.model.block[0].layer[0].SelfAttention
    distance = torch.arange(len(case["mid/bucket"]))
    assert torch.equal(attention._relative_position_bucket(distance), case["mid/bucket"])
    assert torch.equal(attention._relative_position_bucket(distance - distance[-1]), case["mid/bucket_rev"])


@pytest.mark.parametrize("case", cases("clip_visual"), ids=lambda case: case.name)
@torch.inference_mode()
def test_vision(case: GoldenFile) -> None:
    config = VisionConfig.from_json(case.config)
    weights = case.tensors("w/")
    encoder = build(lambda: ImageEncoder(config), vision_keys.key_map(config, weights).read(weights))
    image = case["in/image"][:, :, 0]
    check(encoder.prepare(image), case["mid/pixels"])
    blocks: list[torch.Tensor] = []
    for layer in encoder.model.encoder.layers:
        layer.register_forward_hook(
            lambda _, args, output: blocks.append(output[0] if isinstance(output, tuple) else output)
        )
    check(encoder(image), case["out/clip_fea"])
    for number, block in enumerate(blocks):
        check(block, case[f"mid/block{number}"])
    assert encoder.config.tokens == case["out/clip_fea"].shape[1]


def shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def on_meta(shape: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    return {name: torch.empty(size, device="meta") for name, size in shape.items()}


def test_published_vae_names() -> None:
    config, stored = with_manifest("wan_vae")
    with torch.device("meta"):
        vae = VideoVAE(VAEConfig.from_json(config))
    assert shapes(vae) == {name: tuple(shape) for name, shape in stored.items()}
    assert (vae.config.spatial_stride, vae.config.temporal_stride) == (8, 4)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("prefix", ["", "wav2vec2."])
def test_published_speech_names(old: bool, prefix: str) -> None:
    values, stored = with_manifest("wav2vec2_base")
    if old:
        place = "encoder.pos_conv_embed.conv."
        for number, name in enumerate(("weight_g", "weight_v")):
            stored[place + name] = stored.pop(f"{place}parametrizations.weight.original{number}")
    stored = {prefix + name: shape for name, shape in stored.items()}
    if prefix:
        stored["quantizer.codevectors"] = [1, 640, 128]
    config = SpeechConfig.from_json(values)
    tensors = on_meta(stored)
    mapped = speech_keys.key_map(config, stored).read(tensors)
    with torch.device("meta"):
        encoder = SpeechEncoder(config)
    assert mapped.shapes == shapes(encoder)
    back = speech_keys.key_map(config, stored).write(encoder.state_dict())
    unused = {f"{prefix}masked_spec_embed", "quantizer.codevectors"}
    assert {name: list(tensor.shape) for name, tensor in back.items()} == {
        name: shape for name, shape in stored.items() if name not in unused
    }


def test_published_text_names() -> None:
    values, stored = with_manifest("umt5_xxl_encoder")
    config = TextConfig.from_json(values)
    assert not config.bytes
    mapping = text_keys.key_map(config, stored)
    with torch.device("meta"):
        encoder = TextEncoder(config)
    assert mapping.read(on_meta(stored)).shapes == shapes(encoder)
    back = mapping.write(encoder.state_dict())
    assert {name: list(tensor.shape) for name, tensor in back.items()} == stored


def test_published_vision_names() -> None:
    values, stored = with_manifest("clip_vit_h_xlm_roberta")
    config = VisionConfig.from_json(values)
    mapping = vision_keys.key_map(config, stored)
    with torch.device("meta"):
        encoder = ImageEncoder(config)
    assert mapping.read(on_meta(stored)).shapes == shapes(encoder)
    back = mapping.write(encoder.state_dict())
    unused = ("textual.", "log_scale", "visual.head", "visual.post_norm.", "visual.transformer.31.")
    assert {name: list(tensor.shape) for name, tensor in back.items()} == {
        name: shape for name, shape in stored.items() if not name.startswith(unused)
    }
