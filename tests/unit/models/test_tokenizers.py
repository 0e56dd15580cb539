"""Vocabularies of word pieces from a file of pieces, a GGUF's metadata and folders; and where they are found."""

from __future__ import annotations

import base64
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infinite_talk.errors import CheckpointError
from infinite_talk.models.text import TextConfig
from infinite_talk.models.text.finding import find_tokenizer
from infinite_talk.models.text.pieces import PieceTokenizer, Vocabulary, from_gguf, from_model
from infinite_talk.models.text.tokens import FolderTokenizer

# Made with sentencepiece 0.2.3 from five sentences: 45 pieces, "<cut>" found before all others, no characters
# replaced; padding 0, end 1, unknown 2.
MODEL = zlib.decompress(
    base64.b85decode(
        "c-rIQ<6^ZbNKCO4WdH&RW-eYX790IyI2R;cnwJgbGlBWZr6o{43l|p`^P_2vqAw>h9pK{NVoViXw@?Pm$`Fk(Qa!-M"
        "$;FhIC+Z<=dw`3Ziv_5(MAZ4OJy=Dt=>Ox6U{;A}^ZsBkD^s*-NhFw+B07ITG)z;m=%MdvFixWA^=*Y<H94Xc2TKod"
        "32<=&g_9F=Q;QNsHyf56;Ns`v04YpQ%*+$zG64z*a&dv|PRz;9%u5%&?pg+RSy86wo#$m>qjE*lI%;4x<cj82)q+*z"
        "=ZpIHHG@^;i-w(Ph6v`0e!A8Q7R(d9-P{Fc6^WiQngC{{i(Uwx2xcXTUWT#?;4B@{>rj?2oRth`WkXm%OAhaWFo6O5"
        "WJd#>{dCR>IQzx=xk&6Sa6`&PZ^Cu161@*&@7e`tKV7;R!Un2N6rJil8Ehpmus}>9bp_o}28IUvUyP8r?qFg#z{GTd"
        "=|2oGUSMLp!NefN!^M%AlA2eNSyCy)003tgydV"
    )
)
SENTENCES = {
    "": [1],
    "a woman talking": [14, 4, 39, 24, 7, 18, 1],
    "the man smiles again": [8, 6, 5, 21, 7, 13, 20, 11, 15, 5, 9, 17, 1],
    "müde 女人": [21, 34, 12, 5, 4, 42, 41, 1],
    "x<cut>y <cut>": [4, 2, 3, 2, 4, 3, 1],
    "say </s> and <unk>": [13, 43, 2, 4, 2, 9, 2, 4, 7, 12, 4, 2, 25, 33, 2, 1],
    "Ω room": [4, 2, 4, 26, 22, 20, 1],
    "talking, talking": [18, 30, 18, 1],
}
"""What sentencepiece itself makes of them, with the end mark."""
CUT = from_model(MODEL, "a test")
CONFIG = TextConfig(vocab_size=45, dim=8, dim_attn=8, dim_ffn=8, num_heads=1, num_layers=1)
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))


@pytest.mark.parametrize("text", SENTENCES)
def test_pieces_are_those_of_sentencepiece(text: str) -> None:
    assert list(CUT(text)) == SENTENCES[text]


@given(st.text(max_size=30))
@settings(deadline=None, max_examples=60)
def test_every_text_ends_once(text: str) -> None:
    ids = CUT(text)
    assert ids[-1] == 1 and 1 not in ids[:-1] and 0 not in ids


def test_what_is_no_piece_is_spelled_in_bytes() -> None:
    pieces = ("<pad>", "</s>", "<unk>", *BYTES, "\u2581a", "b")
    kinds = (3, 3, 2, *(6,) * 256, 1, 1)
    scores = (*(0.0,) * 259, -1.0, -2.0)
    cut = PieceTokenizer(
        Vocabulary(pieces, scores, kinds, 2, 1, byte_fallback=True, add_space=True, charsmap=b"")
    )
    assert list(cut("ab")) == [259, 260, 1]
    assert list(cut("aé")) == [259, 3 + 0xC3, 3 + 0xA9, 1]


def test_the_vocabulary_of_a_gguf() -> None:
    """As llama.cpp writes it for an encoder of the T5 kind."""
    metadata = {
        "general.architecture": "t5encoder",
        "tokenizer.ggml.model": "t5",
        "tokenizer.ggml.tokens": ["<pad>", "</s>", "<unk>", *BYTES, "\u2581a", "b"],
        "tokenizer.ggml.scores": [0.0] * 259 + [-1.0, -2.0],
        "tokenizer.ggml.token_type": [3, 3, 2] + [6] * 256 + [1, 1],
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.ggml.unknown_token_id": 2,
        "tokenizer.ggml.add_space_prefix": True,
    }
    cut = from_gguf(metadata, "a test")
    assert cut is not None and list(cut("abé")) == [259, 260, 3 + 0xC3, 3 + 0xA9, 1]
    assert from_gguf({"general.architecture": "wan"}, "a test") is None
    with pytest.raises(CheckpointError, match="2 scores"):
        from_gguf({**metadata, "tokenizer.ggml.scores": [0.0, 1.0]}, "a test")


@given(data=st.binary(max_size=200))
@settings(deadline=None, max_examples=60)
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with pytest.raises(CheckpointError) as caught:
        from_model(data, "umt5.safetensors")
    assert caught.value.code == "tokenizer_corrupt" and "umt5.safetensors" in caught.value.message


@given(place=st.integers(0, len(MODEL) - 1), length=st.integers(0, len(MODEL)))
@settings(deadline=None, max_examples=60)
def test_a_damaged_model_never_crashes(place: int, length: int) -> None:
    flipped = MODEL[:place] + bytes([MODEL[place] ^ 0xFF]) + MODEL[place + 1 :]
    for data in (MODEL[:length], flipped):
        try:
            from_model(data, "a test")("a woman")
        except CheckpointError as error:
            assert error.code == "tokenizer_corrupt"


def folder_with_pieces(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "spiece.model").write_bytes(MODEL)
    return folder


@pytest.mark.parametrize(
    ("weights", "tokenizer"),
    [
        ("models_t5_umt5-xxl-enc-bf16.pth", "google/umt5-xxl"),
        ("umt5.safetensors", "."),
        ("text_encoder/model.safetensors", "tokenizer"),
        ("text_encoders/umt5.gguf", "google/umt5-xxl"),
        ("text_encoder", "tokenizer"),
    ],
)
def test_beside_the_weights(tmp_path: Path, weights: str, tokenizer: str) -> None:
    home = tmp_path / "model"
    folder_with_pieces(home / tokenizer)
    file = home / weights
    if file.suffix:
        file.parent.mkdir(exist_ok=True)
    else:
        file.mkdir()
    found = find_tokenizer(CONFIG, [file])
    assert found is not None and list(found("talking, talking")) == SENTENCES["talking, talking"]


def test_the_chosen_folder_comes_first_then_the_file_then_its_folder(tmp_path: Path) -> None:
    file = tmp_path / "umt5.safetensors"
    assert isinstance(find_tokenizer(CONFIG, [file], embedded=MODEL), PieceTokenizer)
    (tmp_path / "spiece.model").write_bytes(b"damaged")
    assert isinstance(find_tokenizer(CONFIG, [file], embedded=MODEL), PieceTokenizer)
    with pytest.raises(CheckpointError, match=r"spiece\.model cannot be read"):
        find_tokenizer(CONFIG, [file])
    chosen = folder_with_pieces(tmp_path / "chosen")
    assert isinstance(find_tokenizer(CONFIG, [file], folder=chosen, embedded=b"damaged"), FolderTokenizer)
    with pytest.raises(CheckpointError, match=r"No tokenizer in .*nowhere"):
        find_tokenizer(CONFIG, [file], folder=tmp_path / "nowhere", embedded=MODEL)


def test_in_the_cache_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The layout of the cache is the hub library's own."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(tmp_path / "cache"), raising=False)
    home = tmp_path / "cache" / "models--Wan-AI--Wan2.1-I2V-14B-480P"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text("0123abc")
    file = tmp_path / "models" / "umt5.safetensors"
    with pytest.raises(CheckpointError, match="Hugging Face cache"):
        find_tokenizer(CONFIG, [file])
    folder_with_pieces(home / "snapshots" / "0123abc" / "google" / "umt5-xxl")
    assert isinstance(find_tokenizer(CONFIG, [file]), FolderTokenizer)


def test_another_models_tokenizer_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong numbers would be wrong prompts, or reach beyond the embedding."""
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    folder_with_pieces(tmp_path / "google" / "umt5-xxl")
    for size, fitting in ((44, False), (45, True), (50, True), (51, False)):
        config = replace(CONFIG, vocab_size=size)
        if fitting:
            assert find_tokenizer(config, [tmp_path / "umt5.safetensors"]) is not None
            continue
        with pytest.raises(CheckpointError, match="tokenizer was not found"):
            find_tokenizer(config, [tmp_path / "umt5.safetensors"])
        with pytest.raises(CheckpointError, match="45 pieces and is not that of this text encoder"):
            find_tokenizer(config, embedded=MODEL)


def test_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    with pytest.raises(CheckpointError) as caught:
        find_tokenizer(CONFIG, [tmp_path / "umt5.safetensors"])
    assert caught.value.code == "tokenizer_missing"
    for said in ("umt5.safetensors", str(tmp_path), "tokenizer.json or spiece.model"):
        assert said in caught.value.message
    assert find_tokenizer(replace(CONFIG, bytes=True), [tmp_path / "umt5.safetensors"]) is None


def test_a_damaged_tokenizer_json(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("<html>")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json cannot be read"):
        FolderTokenizer(tmp_path)
