"""Files of the encoders, the codec and the tiny decoder in every dialect give the outputs of the original module."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from infinite_talk.errors import CheckpointError
from infinite_talk.models.text import keys as text_keys
from infinite_talk.models.text.pieces import PieceTokenizer
from infinite_talk.ops.linear import PackedLinear
from infinite_talk.weights.builder import build
from infinite_talk.weights.checkpoint import Part, open_checkpoint
from infinite_talk.weights.precision import AsStored
from infinite_talk.weights.tokenizer import carries_tokenizer, tokenizer_of
from tests.dialects import (
    write_gguf,
    write_lightx2v,
    write_plain,
    write_pth,
    write_quanto,
    write_scaled_fp8,
    write_shards,
)
from tests.parts import PARTS, random_weights, surplus
from tests.unit.models.test_part_keys import last_block
from tests.unit.models.test_tokenizers import MODEL, SENTENCES

IDS = torch.tensor([[5, 9, 3, 1], [7, 1, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


RUN: dict[str, Callable[[Any], Tensor]] = {
    "text": lambda model: model(IDS, MASK)[MASK.bool()],
    "vision": lambda model: model(noise(1, 3, 20, 18)),
    "vae": lambda model: model.decode_raw(model.encode(noise(1, 3, 5, 16, 16))),
    "tiny_vae": lambda model: model.decode(noise(1, 16, 2, 2, 3)),
    "speech": lambda model: model(noise(1, 3000), 4),
}


def stored(name: str, index: int = 0) -> dict[str, Tensor]:
    """The weights of a tiny part in one of its namings, as whole as the published files."""
    part = PARTS[name]
    tensors = part.keys.dialects(part.tiny)[index].write(random_weights(part))
    return tensors | (last_block(tensors, part.tiny.used_layers) if name == "vision" else {})


def matrix(name: str, tensor: Tensor) -> bool:
    """What is packed in files of text encoders: the matrices of the layers."""
    return (
        tensor.dim() == 2
        and name.endswith(".weight")
        and ("block" in name or ".blk." in name)
        and not ("relative" in name or "pos_embedding" in name or "attn_rel_b" in name)
    )


def expected_from(name: str, index: int, found: dict[str, Tensor]) -> Tensor:
    """The output of a module with the numbers that are in the file."""
    part = PARTS[name]
    mapping = part.keys.dialects(part.tiny)[index]
    with torch.inference_mode():
        return RUN[name](build(lambda: part.model(part.tiny), dict(mapping.read(found))))


def opened(name: str, path: Path) -> nn.Module:
    part = PARTS[name]
    checkpoint = open_checkpoint(path, part=Part(name))
    assert checkpoint.config == part.tiny
    return build(
        lambda: part.model(checkpoint.config), checkpoint.weights, dtype=torch.float32, policy=AsStored()
    )


PUBLISHED = {"text": 4, "vision": 3, "vae": 3, "tiny_vae": 1, "speech": 4}
"""How many namings of each part are stored in plain files."""
PLAIN = [
    (name, index, container)
    for name, count in PUBLISHED.items()
    for index in range(count)
    for container in ("bf16", ("fp32", "pth", "fp16", "shards")[index])
]
"""Each naming in bfloat16 and in one other container."""


@pytest.mark.parametrize(("name", "index", "container"), PLAIN)
@torch.inference_mode()
def test_plain_files(tmp_path: Path, name: str, index: int, container: str) -> None:
    weights, path = stored(name, index), tmp_path / "file"
    if container == "pth":
        found = write_pth(path, weights)
    elif container == "shards":
        found = write_shards(path, weights, 2)
    else:
        dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
        found = write_plain(path, weights, dtypes[container])
    assert torch.equal(RUN[name](opened(name, path)), expected_from(name, index, found))


OFFICIAL, HF, GGUF = 0, 1, 4
PACKED: dict[str, tuple[int, Callable[[Path, dict[str, Tensor]], dict[str, Tensor]], str, str]] = {
    "comfy": (HF, lambda p, w: write_scaled_fp8(p, w, select=matrix), "comfy", "fp8_e4m3fn scaled"),
    "kijai": (OFFICIAL, lambda p, w: write_plain(p, w, torch.float8_e4m3fn), "official", "fp8_e4m3fn"),
    "quanto int8": (OFFICIAL, lambda p, w: write_quanto(p, w, select=matrix), "quanto", "int8"),
    "quanto fp8": (
        OFFICIAL,
        lambda p, w: write_quanto(p, w, torch.float8_e4m3fn, select=matrix),
        "quanto",
        "fp8_e4m3fn scaled",
    ),
    "lightx2v": (OFFICIAL, lambda p, w: write_lightx2v(p, w, select=matrix), "lightx2v", "int8"),
    "gguf": (
        GGUF,
        lambda p, w: write_gguf(p, w, architecture="t5encoder", select=matrix),
        "gguf",
        "gguf Q8_0",
    ),
    "gguf f16": (
        GGUF,
        lambda p, w: write_gguf(p, w, architecture="t5encoder", select=lambda *_: False),
        "gguf",
        "gguf fp16",
    ),
}
"""Text encoders in fewer bits: naming, writer, and what they are said to be."""


@pytest.mark.parametrize("kind", PACKED)
@torch.inference_mode()
def test_text_encoders_in_fewer_bits(tmp_path: Path, kind: str) -> None:
    index, write, dialect, precision = PACKED[kind]
    path = tmp_path / "umt5.safetensors"
    found = write(path, stored("text", index))
    checkpoint = open_checkpoint(path)
    assert (checkpoint.part, checkpoint.dialect, checkpoint.precision) == (Part.TEXT, dialect, precision)
    encoder = opened("text", path)
    packed = [layer for layer in encoder.modules() if isinstance(layer, PackedLinear)]
    assert len(packed) == (0 if kind == "gguf f16" else 2 * 7)
    torch.testing.assert_close(RUN["text"](encoder), expected_from("text", index, found), atol=1e-5, rtol=0)


@torch.inference_mode()
def test_a_vocabulary_inside_the_weights(tmp_path: Path) -> None:
    """As in ``umt5_xxl_fp8_e4m3fn_scaled`` of ComfyUI: bytes among tensors, and a marker."""
    path = tmp_path / "umt5.safetensors"
    tensors = {**stored("text", HF), "scaled_fp8": torch.zeros(0, dtype=torch.float8_e4m3fn)}
    tensors["spiece_model"] = torch.frombuffer(bytearray(MODEL), dtype=torch.uint8)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    checkpoint = open_checkpoint(path)
    assert any("spiece_model" in note for note in checkpoint.notes)
    tokenizer = tokenizer_of(checkpoint)
    assert isinstance(tokenizer, PieceTokenizer) and carries_tokenizer(path)
    assert list(tokenizer("the man smiles again")) == SENTENCES["the man smiles again"]
    assert RUN["text"](opened("text", path)).isfinite().all()


def test_a_vocabulary_inside_a_gguf(tmp_path: Path) -> None:
    path = tmp_path / "umt5.gguf"
    writer = gguf.GGUFWriter(path, "t5encoder")
    writer.add_tokenizer_model("t5")
    writer.add_token_list(["<pad>", "</s>", "<unk>", "\u2581a", "b", *(f"[{i}]" for i in range(40))])
    writer.add_token_scores([0.0] * 3 + [-1.0, -2.0] + [0.0] * 40)
    writer.add_token_types([3, 3, 2, 1, 1] + [5] * 40)
    writer.add_eos_token_id(1)
    writer.add_unk_token_id(2)
    for name, tensor in stored("text", GGUF).items():
        writer.add_tensor(name, tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert carries_tokenizer(path)
    tokenizer = tokenizer_of(open_checkpoint(path))
    assert tokenizer is not None and list(tokenizer("ab [7]")) == [3, 4, 2, 1]


def test_no_vocabulary_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "umt5.safetensors"
    write_plain(path, stored("text"))
    assert not carries_tokenizer(path)
    with pytest.raises(CheckpointError, match=r"umt5\.safetensors .*tokenizer was not found"):
        tokenizer_of(open_checkpoint(path))


@torch.inference_mode()
def test_a_tiny_decoder_is_light_by_its_name(tmp_path: Path) -> None:
    for name, light in (("taew2_1.pth", False), ("lighttaew2_1.pth", True)):
        path = tmp_path / name
        write_pth(path, stored("tiny_vae") | {"encoder.0.weight": torch.zeros(4, 3, 3, 3)})
        assert open_checkpoint(path).config.denormalise is light


@pytest.mark.parametrize("name", PARTS)
def test_a_wrong_part_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / "file.safetensors"
    write_plain(path, stored(name))
    other = next(part for part in PARTS if part != name)
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(path, part=Part(other))
    assert caught.value.code == "checkpoint_mismatch" and "expected" in caught.value.message


def test_the_embedding_twice(tmp_path: Path) -> None:
    """Both copies of the embedding may be in a file of ``transformers``; the second is passed over."""
    path = tmp_path / "model.safetensors"
    tensors = stored("text", HF)
    write_plain(path, {**tensors, "encoder.embed_tokens.weight": tensors["shared.weight"].clone()})
    weights = open_checkpoint(path).weights
    assert torch.equal(weights["model.embed_tokens.weight"], tensors["shared.weight"].bfloat16())
    assert text_keys.key_map(PARTS["text"].tiny, tensors).dialect == "hf"


@pytest.mark.parametrize("file", ["pytorch_model.bin", "model.safetensors"])
@torch.inference_mode()
def test_a_folder_of_transformers(tmp_path: Path, file: str) -> None:
    """``TencentGameMate/chinese-wav2vec2-base``: heads of pretraining in the file, other files beside it."""
    mapping = PARTS["speech"].keys.dialects(PARTS["speech"].tiny)[3]
    tensors = {**stored("speech", 3), **surplus(mapping)}
    found = (
        write_pth(tmp_path / file, tensors) if file.endswith("bin") else write_plain(tmp_path / file, tensors)
    )
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "wav2vec2", "hidden_size": 64}))
    (tmp_path / "preprocessor_config.json").write_text("{}")
    checkpoint = open_checkpoint(tmp_path)
    assert (checkpoint.part, checkpoint.dialect) == (Part.SPEECH, "hf")
    assert any("quantizer." in note for note in checkpoint.notes)
    assert torch.equal(RUN["speech"](opened("speech", tmp_path)), expected_from("speech", 3, found))
