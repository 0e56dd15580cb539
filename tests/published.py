"""A complete tiny model in the layout of the published files: what somebody has after downloading it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor, nn

from infinite_talk.models.speech import SpeechConfig
from infinite_talk.models.text import TextConfig
from infinite_talk.models.vision import VisionConfig
from tests import dialects
from tests.parts import PARTS, Part

VISION = VisionConfig(
    dim=80, num_heads=1, num_layers=3, used_layers=2, mlp_ratio=1, image_size=224, patch_size=14
)
TEXT = TextConfig(vocab_size=40, dim=64, dim_attn=64, dim_ffn=64, num_heads=2, num_layers=2, text_len=512)
SPEECH = SpeechConfig(
    hidden_size=768,
    num_hidden_layers=2,
    intermediate_size=32,
    conv_dim=(8,) * 7,
    num_conv_pos_embeddings=8,
    num_conv_pos_embedding_groups=16,
)
TRANSFORMER = replace(
    dialects.TINY, text_dim=TEXT.dim, clip_dim=VISION.dim, audio_blocks=SPEECH.num_hidden_layers
)
SIZES = {"text": TEXT, "vision": VISION, "speech": SPEECH, "vae": PARTS["vae"].tiny}


def transformer(seed: int = 0) -> dict[str, Tensor]:
    """Weights of the transformer with its speech branch, small enough that nothing grows without bound."""
    return {
        name: 0.1 * t if t.dim() > 1 else t for name, t in dialects.transformer(TRANSFORMER, seed).items()
    }


def encoder(name: str, seed: int = 0) -> dict[str, Tensor]:
    """Weights of another part under its official names."""
    part: Part = PARTS[name]
    config = SIZES[name]
    torch.manual_seed(seed)
    model = part.model(config)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            # With smaller ones the codec paints the same picture whatever it decodes.
            nn.init.normal_(parameter, std=0.3 if name == "vae" else 0.1)
    return dict(part.keys.dialects(config)[0].write(model.state_dict()))


def write_tokenizer(folder: Path) -> None:
    """Words of one letter, unknown ones as one token, and the end mark."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = "abcdefghijklmnopqrstuvwxyz ,.!?'-:;|01"[: TEXT.vocab_size - 3]
    words = {"<pad>": 0, "</s>": 1, "<unk>": 2, **{letter: 3 + i for i, letter in enumerate(letters)}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))


def write_official(
    root: Path, transformer_writer: Callable[[Path, dict[str, Tensor]], object] | None = None
) -> Path:
    """The folders of Wan-AI, MeiGen-AI and TencentGameMate below ``root``.

    Args:
        transformer_writer: writes the whole transformer instead of shards and adapter, into a folder.
    """
    wan, weights = root / "Wan2.1-I2V-14B-480P", transformer()
    if transformer_writer is None:
        dialects.write_shards(wan, dialects.base_of(weights))
        adapter = root / "InfiniteTalk" / "single" / "infinitetalk.safetensors"
        adapter.parent.mkdir(parents=True)
        dialects.write_plain(adapter, dialects.adapter_of(weights))
        names = ("dim", "num_heads", "num_layers", "ffn_dim", "in_dim", "text_dim")
        config = {"model_type": "i2v", **{name: getattr(TRANSFORMER, name) for name in names}}
        (wan / "config.json").write_text(json.dumps(config))
    else:
        wan.mkdir(parents=True)
        transformer_writer(wan, weights)
    dialects.write_pth(wan / "Wan2.1_VAE.pth", encoder("vae"))
    dialects.write_pth(wan / "models_t5_umt5-xxl-enc-bf16.pth", encoder("text"))
    dialects.write_pth(wan / "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth", encoder("vision"))
    write_tokenizer(wan / "google" / "umt5-xxl")
    speech = root / "chinese-wav2vec2-base"
    speech.mkdir()
    dialects.write_plain(speech / "model.safetensors", encoder("speech"), torch.float32)
    return root
