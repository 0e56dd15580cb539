"""Names of the encoders, the codec and the tiny decoder in published files: every dialect, full size, by shapes."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

from infinite_talk.errors import CheckpointError
from infinite_talk.models.keymap import KeyMap
from infinite_talk.models.speech import keys as speech_keys
from infinite_talk.models.text import keys as text_keys
from infinite_talk.models.tiny_vae import keys as tiny_keys
from infinite_talk.models.vae import VAEConfig
from infinite_talk.models.vae import keys as vae_keys
from infinite_talk.models.vision import keys as vision_keys
from tests.golden import golden_dir
from tests.parts import PARTS, STEPS, WAN_VAE, Part, on_meta, random_weights, surplus

MANIFESTS = golden_dir().parent / "manifests"
CASES = [(name, index) for name, part in PARTS.items() for index in range(len(part.keys.dialects(part.tiny)))]


def shapes_of(tensors: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


@pytest.fixture(scope="module")
def full() -> dict[str, dict[str, Tensor]]:
    """All published sizes, without memory."""
    return {name: on_meta(part, part.full) for name, part in PARTS.items()}


@pytest.mark.parametrize(("name", "index"), CASES)
def test_every_dialect_covers_the_full_size(
    full: dict[str, dict[str, Tensor]], name: str, index: int
) -> None:
    part = PARTS[name]
    mapping = part.keys.dialects(part.full)[index]
    stored = mapping.write(full[name]) | surplus(mapping)
    if name == "vision" and mapping.ignored:  # our own modules lack the last block
        stored |= last_block(stored, part.full.used_layers)
    shapes = shapes_of(stored)
    assert [other for other, kind in PARTS.items() if kind.keys.recognises(shapes)] == [name]
    assert part.keys.config_of(shapes) == part.full
    chosen = next(m for m in part.keys.dialects(part.full) if m.stored <= set(stored))
    assert chosen.read(stored).shapes == shapes_of(full[name])


def last_block(stored: dict[str, Tensor], used: int) -> dict[str, Tensor]:
    """The block of an image tower that is in the file, and not used: as the one before it."""
    before = f".{used - 1}."
    return {n.replace(before, f".{used}."): tensor.clone() for n, tensor in stored.items() if before in n}


@pytest.mark.parametrize(("name", "index"), CASES)
def test_every_dialect_round_trips(name: str, index: int) -> None:
    part = PARTS[name]
    mapping = part.keys.dialects(part.tiny)[index]
    ours = random_weights(part)
    stored = mapping.write(ours)
    again = mapping.read(stored | surplus(mapping))
    assert set(again) == set(ours) and set(stored) == mapping.stored
    assert all(torch.equal(again[key], ours[key]) for key in ours)


@pytest.mark.parametrize("name", PARTS)
def test_dialects_are_told_apart(name: str) -> None:
    part = PARTS[name]
    maps = part.keys.dialects(part.tiny)
    ours = on_meta(part, part.tiny)
    for mapping in maps:
        found = [other for other in maps if other.stored <= set(mapping.write(ours))]
        assert found == [mapping]


@pytest.mark.parametrize("name", [name for name, part in PARTS.items() if part.manifest])
def test_the_official_file(name: str) -> None:
    part = PARTS[name]
    path = MANIFESTS / f"{part.manifest}.json"
    if not path.is_file():
        pytest.skip(f"no {path.name} beside the recorded cases")
    shapes = {key: tuple(shape) for key, shape in json.loads(path.read_text()).items()}
    assert part.keys.recognises(shapes)
    assert part.keys.config_of(shapes) == part.full
    stored = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    read = part.keys.key_map(part.full, stored).read(stored)
    assert read.shapes == shapes_of(on_meta(part, part.full))


def test_names_of_transformers() -> None:
    """The maps against the library's own modules, heads and second towers included."""
    from transformers import (
        CLIPVisionConfig,
        CLIPVisionModelWithProjection,
        UMT5Config,
        UMT5EncoderModel,
        Wav2Vec2Config,
        Wav2Vec2ForPreTraining,
    )

    config = PARTS["speech"].tiny
    sizes = {field: getattr(config, field) for field in config.__dataclass_fields__}
    with torch.device("meta"):
        models: list[tuple[str, nn.Module]] = [
            ("text", UMT5EncoderModel(UMT5Config(
                vocab_size=45, d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2,
                feed_forward_proj="gated-gelu",
            ))),
            ("vision", CLIPVisionModelWithProjection(CLIPVisionConfig(
                hidden_size=80, intermediate_size=160, num_hidden_layers=3, num_attention_heads=1,
                image_size=16, patch_size=8, projection_dim=4,
            ))),
            ("speech", Wav2Vec2ForPreTraining(Wav2Vec2Config(
                **sizes, codevector_dim=8, proj_codevector_dim=8, num_codevectors_per_group=4,
            ))),
        ]  # fmt: skip
    for name, model in models:
        part, stored = PARTS[name], model.state_dict()
        shapes = shapes_of(stored)
        assert part.keys.recognises(shapes)
        assert part.keys.config_of(shapes) == part.tiny
        mapping = part.keys.key_map(part.tiny, stored)
        assert mapping.dialect == "hf"
        assert mapping.read(stored).shapes == shapes_of(on_meta(part, part.tiny))


DIFFUSERS = {
    "encoder.conv1.weight": "encoder.conv_in.weight",
    "encoder.downsamples.0.residual.0.gamma": "encoder.down_blocks.0.norm1.gamma",
    "encoder.downsamples.5.time_conv.bias": "encoder.down_blocks.5.time_conv.bias",
    "encoder.downsamples.5.resample.1.weight": "encoder.down_blocks.5.resample.1.weight",
    "encoder.downsamples.3.shortcut.bias": "encoder.down_blocks.3.conv_shortcut.bias",
    "encoder.middle.1.to_qkv.weight": "encoder.mid_block.attentions.0.to_qkv.weight",
    "encoder.middle.2.residual.6.bias": "encoder.mid_block.resnets.1.conv2.bias",
    "decoder.head.0.gamma": "decoder.norm_out.gamma",
    "decoder.head.2.weight": "decoder.conv_out.weight",
    "decoder.middle.1.norm.gamma": "decoder.mid_block.attentions.0.norm.gamma",
    "decoder.upsamples.2.residual.3.gamma": "decoder.up_blocks.0.resnets.2.norm2.gamma",
    "decoder.upsamples.3.time_conv.weight": "decoder.up_blocks.0.upsamplers.0.time_conv.weight",
    "decoder.upsamples.4.shortcut.weight": "decoder.up_blocks.1.resnets.0.conv_shortcut.weight",
    "decoder.upsamples.11.resample.1.bias": "decoder.up_blocks.2.upsamplers.0.resample.1.bias",
    "decoder.upsamples.14.residual.2.weight": "decoder.up_blocks.3.resnets.2.conv1.weight",
    "conv1.weight": "quant_conv.weight",
    "conv2.bias": "post_quant_conv.bias",
}
"""Some of the names in ``Wan-AI/Wan2.1-I2V-14B-480P-Diffusers/vae``, one of each kind."""


def test_names_of_diffusers() -> None:
    mapping = vae_keys.dialects(PARTS["vae"].full)[-1]
    assert {ours: mapping.entries[ours].stored for ours in DIFFUSERS} == DIFFUSERS


def test_sizes_in_the_config_of_diffusers() -> None:
    official: VAEConfig = PARTS["vae"].full
    assert official == VAEConfig.from_json(
        {
            "_class_name": "AutoencoderKLWan",
            "attn_scales": [],
            "base_dim": 96,
            "dim_mult": [1, 2, 4, 4],
            "latents_mean": list(official.mean),
            "latents_std": list(official.std),
            "num_res_blocks": 2,
            "temperal_downsample": [False, True, True],
            "z_dim": 16,
        }
    )


def test_names_of_llama_cpp() -> None:
    mapping = text_keys.dialects(PARTS["text"].tiny)[-2]
    theirs = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.final_layer_norm.weight": "enc.output_norm.weight",
        "model.block.1.layer.0.layer_norm.weight": "enc.blk.1.attn_norm.weight",
        "model.block.1.layer.0.SelfAttention.o.weight": "enc.blk.1.attn_o.weight",
        "model.block.1.layer.0.SelfAttention.relative_attention_bias.weight": "enc.blk.1.attn_rel_b.weight",
        "model.block.1.layer.1.layer_norm.weight": "enc.blk.1.ffn_norm.weight",
        "model.block.1.layer.1.DenseReluDense.wi_0.weight": "enc.blk.1.ffn_gate.weight",
        "model.block.1.layer.1.DenseReluDense.wi_1.weight": "enc.blk.1.ffn_up.weight",
        "model.block.1.layer.1.DenseReluDense.wo.weight": "enc.blk.1.ffn_down.weight",
    }
    assert {ours: mapping.entries[ours].stored for ours in theirs} == theirs


def test_the_pruned_codec_is_a_narrow_one() -> None:
    """LightVAE: every width a quarter, so that its decoder begins with 96 channels."""
    part = PARTS["vae"]
    narrow = VAEConfig.from_json(WAN_VAE | STEPS | {"dim": 24})
    shapes = shapes_of(on_meta(part, narrow))
    assert shapes["decoder.conv1.bias"] == (96,)
    assert vae_keys.config_of(shapes) == narrow


def wrong(name: str) -> dict[str, tuple[int, ...]]:
    """The shapes of a tiny part in its first dialect, to be made another model's."""
    part = PARTS[name]
    mapping: KeyMap = part.keys.dialects(part.tiny)[0]
    stored = mapping.write(on_meta(part, part.tiny))
    return shapes_of(stored | (last_block(stored, part.tiny.used_layers) if name == "vision" else {}))


def test_the_codec_of_wan22_is_named() -> None:
    shapes = wrong("vae") | {"conv2.weight": (48, 48, 1, 1, 1), "encoder.conv1.weight": (160, 12, 3, 3, 3)}
    assert vae_keys.recognises(shapes)
    with pytest.raises(CheckpointError, match=r"Wan2.2 with 48 latent channels.*16 of Wan2.1"):
        vae_keys.config_of(shapes)


def test_a_tiny_decoder_for_other_latents_is_named() -> None:
    with pytest.raises(CheckpointError, match=r"48 channels.*taew2_1"):
        tiny_keys.config_of(wrong("tiny_vae") | {"decoder.1.weight": (8, 48, 3, 3)})
    with pytest.raises(CheckpointError, match="4 frames of a latent frame"):
        tiny_keys.config_of(wrong("tiny_vae") | {"decoder.13.conv.weight": (6, 6, 1, 1)})


def test_a_t5_that_shares_its_positions_is_named() -> None:
    shapes = wrong("text")
    del shapes["blocks.1.pos_embedding.embedding.weight"]
    with pytest.raises(CheckpointError, match="umt5-xxl file instead of t5-xxl"):
        text_keys.config_of(shapes)


def test_another_image_tower_is_named() -> None:
    """ViT-L has a width of 1024 with heads of 64."""
    shapes = wrong("vision") | {"visual.patch_embedding.weight": (1024, 3, 14, 14)}
    with pytest.raises(CheckpointError, match=r"3 blocks of width 1024.*ViT-H/14"):
        vision_keys.config_of(shapes)


def test_another_speech_encoder_is_named() -> None:
    shapes = wrong("speech") | {"feature_extractor.conv_layers.1.layer_norm.weight": (8,)}
    with pytest.raises(CheckpointError, match=r"with a norm each.*chinese-wav2vec2-base"):
        speech_keys.config_of(shapes)


@pytest.mark.parametrize("name", PARTS)
def test_a_file_that_lacks_a_tensor_is_an_error_not_a_crash(name: str) -> None:
    """Whatever is missing: the file is not recognised, or the sizes cannot be told, or the map names the tensor."""
    part: Part = PARTS[name]
    whole, maps = wrong(name), {}
    needed = part.keys.dialects(part.tiny)[0].stored
    for missing in needed:
        shapes = {key: shape for key, shape in whole.items() if key != missing}
        if not part.keys.recognises(shapes):
            continue
        try:
            config = part.keys.config_of(shapes)
        except CheckpointError:
            continue
        maps[config] = maps.get(config) or part.keys.dialects(config)[0]
        with pytest.raises(CheckpointError, match="missing"):
            maps[config].read(dict.fromkeys(shapes, torch.empty(0)))


@pytest.mark.parametrize("name", PARTS)
def test_sizes_of_quantised_files(name: str) -> None:
    """optimum-quanto stores a matrix as its numbers and scales under longer names."""
    shapes = wrong(name)
    matrices = [key for key, shape in shapes.items() if len(shape) == 2 and key.startswith("blocks.")]
    for key in matrices:
        shapes[f"{key}._data"] = shapes.pop(key)
        shapes[f"{key}._scale"] = (shapes[f"{key}._data"][0], 1)
    if name == "text":
        assert len(matrices) == 16
    assert PARTS[name].keys.config_of(shapes) == PARTS[name].tiny
