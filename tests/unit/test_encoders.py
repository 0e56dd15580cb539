"""Speech, text and image encoders: long recordings, batches, tokens, names of weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from infinite_talk.errors import Cancelled, CheckpointError, InputError
from infinite_talk.models.keymap import Entry, KeyMap
from infinite_talk.models.speech import SpeechConfig, SpeechEncoder
from infinite_talk.models.speech import keys as speech_keys
from infinite_talk.models.text import FolderTokenizer, TextConfig, TextEncoder
from infinite_talk.models.text import keys as text_keys
from infinite_talk.models.text.tokens import byte_tokenizer, clean, tokenise
from infinite_talk.models.vision import ImageEncoder, VisionConfig
from infinite_talk.models.vision import keys as vision_keys
from infinite_talk.weights.builder import build

SPEECH = SpeechConfig(
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=24,
    conv_dim=(8,) * 7,
    num_conv_pos_embeddings=8,
    num_conv_pos_embedding_groups=2,
)
TEXT = TextConfig(
    vocab_size=384, dim=12, dim_attn=16, dim_ffn=20, num_heads=2, num_layers=2, text_len=24, bytes=True
)
VISION = VisionConfig(
    dim=16, num_heads=2, num_layers=3, used_layers=2, mlp_ratio=2, image_size=32, patch_size=8
)


def close(actual: torch.Tensor, expected: torch.Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(actual, expected, atol=atol, rtol=0)


@pytest.fixture(scope="module")
def speech() -> SpeechEncoder:
    torch.manual_seed(0)
    return SpeechEncoder(SPEECH).eval()


@pytest.fixture(scope="module")
def text() -> TextEncoder:
    torch.manual_seed(0)
    return TextEncoder(TEXT).eval()


@pytest.fixture(scope="module")
def vision() -> ImageEncoder:
    torch.manual_seed(0)
    return ImageEncoder(VISION).eval()


def voice(samples: int, batch: int = 1, seed: int = 0) -> torch.Tensor:
    """Noise whose loudness and offset change, so that statistics of a part are not those of the whole."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(batch, samples, generator=generator)
    return noise * torch.linspace(0.05, 1, samples) + torch.linspace(-0.2, 0.5, samples)


@given(samples=st.integers(400, 20_000), frames=st.integers(1, 40), batch=st.integers(1, 2))
@settings(max_examples=15, deadline=None)
@torch.inference_mode()
def test_one_chunk_equals_the_whole(speech: SpeechEncoder, samples: int, frames: int, batch: int) -> None:
    waveform = voice(samples, batch)
    whole = speech(waveform, frames)
    assert whole.shape == (batch, frames, 2, 16)
    assert torch.equal(speech.encode_long(waveform, frames), whole)
    close(speech.encode_part(waveform, frames, 0, frames, speech.measure(waveform)), whole, 2e-4)


@torch.inference_mode()
def test_chunks_hear_what_the_whole_hears(speech: SpeechEncoder) -> None:
    """All that comes before attention is the same in chunks; attention beyond the context is what differs."""
    seconds = 6
    waveform, frames = voice(seconds * 16_000), seconds * 25
    heard: list[torch.Tensor] = []
    hook = speech.model.encoder.layers[0].register_forward_pre_hook(lambda _, args: heard.append(args[0]))
    whole = speech(waveform, frames)
    parts = list(speech.encode_chunks(waveform, frames, chunk_frames=40, context_frames=10))
    hook.remove()
    assert [part.shape[1] for part in parts] == [40, 40, 40, 30]
    reference, *pieces = heard
    for number, piece in enumerate(pieces):
        start = max(0, 40 * number - 10)
        inner = slice(40 * number - start, 40 * number - start + parts[number].shape[1])
        close(piece[:, inner], reference[:, 40 * number : 40 * number + parts[number].shape[1]], 1e-4)
    joined = torch.cat(parts, dim=1)
    assert torch.equal(joined, speech.encode_long(waveform, frames, chunk_frames=40, context_frames=10))
    likeness = torch.cosine_similarity(joined.flatten(2), whole.flatten(2), dim=-1)
    assert likeness.min() > 0.9
    wide = speech.encode_long(waveform, frames, chunk_frames=40, context_frames=frames)
    close(wide, whole, 2e-4)


@torch.inference_mode()
def test_a_long_recording_can_be_stopped_between_its_chunks(speech: SpeechEncoder) -> None:
    """A cancel is heard while speech is encoded, not after all of it."""
    heard: list[bool] = []

    def stop() -> None:
        heard.append(True)
        if len(heard) == 2:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        speech.encode_long(voice(96_000), 150, chunk_frames=40, context_frames=10, between=stop)
    assert len(heard) == 2


@torch.inference_mode()
def test_recordings_of_a_batch_do_not_hear_each_other(speech: SpeechEncoder) -> None:
    both = torch.cat([voice(9_000, seed=1), 3 * voice(9_000, seed=2) - 1])
    close(speech(both, 14), torch.cat([speech(row[None], 14) for row in both]), 2e-5)
    chunked = speech.encode_long(both, 14, chunk_frames=5, context_frames=3)
    close(chunked, torch.cat([speech.encode_long(row[None], 14, 5, 3) for row in both]), 2e-5)


@torch.inference_mode()
def test_loudness_and_offset_do_not_matter(speech: SpeechEncoder) -> None:
    waveform = voice(8_000)
    close(speech(20 * waveform + 3, 12), speech(waveform, 12), 1e-3)


@torch.inference_mode()
def test_silence_gives_finite_features(speech: SpeechEncoder) -> None:
    silence = torch.zeros(1, 32_000)
    assert speech(silence, 50).isfinite().all()
    assert speech.encode_long(silence, 50, chunk_frames=20, context_frames=5).isfinite().all()


def test_speech_of_no_feature_is_refused(speech: SpeechEncoder) -> None:
    assert SPEECH.reach == 400
    for samples, frames in ((399, 1), (16_000, 0)):
        with pytest.raises(InputError, match="samples") as caught:
            speech(voice(samples), frames)
        assert caught.value.code == "audio_too_short"


@given(samples=st.integers(0, 5000))
@settings(max_examples=30, deadline=None)
def test_count_of_convolutional_features(speech: SpeechEncoder, samples: int) -> None:
    with torch.inference_mode():
        if samples < SPEECH.reach:
            assert SPEECH.features(samples) == 0
        else:
            heard = speech.model.feature_extractor(torch.zeros(1, samples))
            assert SPEECH.features(samples) == heard.shape[-1]


@pytest.mark.parametrize("name", ["do_stable_layer_norm", "add_adapter"])
def test_another_kind_of_speech_encoder_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        SpeechConfig.from_json({name: True})


@torch.inference_mode()
def test_texts_together_equal_texts_alone(text: TextEncoder) -> None:
    texts = ["", "a woman speaks", "Ein Mann, müde."]
    together = text.encode(texts)
    assert [len(row) for row in together] == [1, 15, len("Ein Mann, müde.".encode()) + 1]
    for row, own in zip(together, texts, strict=True):
        close(row, text.encode([own])[0])
    assert text.encode([]) == []


@torch.inference_mode()
def test_long_texts_are_cut_and_noted(text: TextEncoder) -> None:
    short, long = "a face", "word " * 20
    assert [len(row) for row in text.encode([short, long])] == [7, 24]
    (note,) = text.notes([short, long])
    assert "word word" in note and "76 of 100 tokens" in note
    kept = tokenise(long, byte_tokenizer, 24)
    assert kept.ids[-1] == 1 and kept.ids[:-1] == tuple(byte_tokenizer(long)[:23])


@given(st.text(max_size=40))
@settings(deadline=None)
def test_bytes_are_those_of_byt5(words: str) -> None:
    from transformers import ByT5Tokenizer

    if not words.isascii() or "<" in words:  # elsewhere ByT5Tokenizer looks for special tokens in the text
        assert byte_tokenizer(words)[-1] == 1
        return
    assert byte_tokenizer(words) == ByT5Tokenizer()(words).input_ids


def test_special_tokens_cannot_be_spelled() -> None:
    assert byte_tokenizer("</s>").count(1) == 1


@pytest.mark.parametrize(
    ("given_text", "expected"),
    [
        ("  a \n\t b ", "a b"),
        ("Tom &amp;amp; Ann", "Tom & Ann"),
        ("schÃ¶n", "schön"),
        ("一个女人", "一个女人"),
        ("", ""),
    ],
)
def test_cleaning(given_text: str, expected: str) -> None:
    assert clean(given_text) == expected


@given(st.text(max_size=60))
@settings(deadline=None)
def test_clean_text_has_single_spaces(words: str) -> None:
    cleaned = clean(words)
    assert cleaned == " ".join(cleaned.split())


def test_tokenizer_from_a_folder(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(
        models.WordLevel({"<pad>": 0, "</s>": 1, "<unk>": 2, "hello": 3, "there": 4}, unk_token="<unk>")
    )
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="</s>", pad_token="<pad>").save_pretrained(
        tmp_path
    )
    pieces = FolderTokenizer(tmp_path)
    assert list(pieces("hello  there you")) == [3, 4, 2, 1]
    encoder = TextEncoder(replace(TEXT, bytes=False, vocab_size=5, text_len=3), pieces)
    assert encoder.tokenise(["hello &amp; there"])[0].ids == (3, 2, 1)


@pytest.mark.parametrize("folder", ["missing", "."])
def test_folder_without_tokenizer_is_named(tmp_path: Path, folder: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        FolderTokenizer(tmp_path / folder)
    assert caught.value.code == "tokenizer_missing"
    assert str(tmp_path) in caught.value.message


def test_pieces_without_tokenizer_are_refused() -> None:
    with pytest.raises(CheckpointError, match="tokenizer"):
        TextEncoder(replace(TEXT, bytes=False)).encode(["a"])


@given(height=st.integers(1, 50), width=st.integers(1, 50), batch=st.integers(1, 3))
@settings(max_examples=10, deadline=None)
@torch.inference_mode()
def test_pictures_of_any_size(vision: ImageEncoder, height: int, width: int, batch: int) -> None:
    pictures = torch.rand(batch, 3, height, width) * 2 - 1
    features = vision(pictures)
    assert features.shape == (batch, VISION.tokens, 16) == (batch, 17, 16)
    close(features, torch.cat([vision(picture[None]) for picture in pictures]))


@torch.inference_mode()
def test_feature_is_the_block_before_the_last(vision: ImageEncoder) -> None:
    """The slow way: a tower with all blocks and the final norm, asked for its second last state."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    whole = CLIPVisionModel(
        CLIPVisionConfig(
            hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=32,
            patch_size=8, layer_norm_eps=1e-5, hidden_act="gelu",
        )
    ).eval()  # fmt: skip
    weights = whole.state_dict()
    ours = build(lambda: ImageEncoder(VISION), vision_keys.key_map(VISION, weights).read(weights))
    picture = torch.rand(1, 3, 20, 30)
    states = whole(pixel_values=ours.prepare(picture), output_hidden_states=True).hidden_states
    close(ours(picture), states[-2])


def test_every_dialect_round_trips(speech: SpeechEncoder, text: TextEncoder, vision: ImageEncoder) -> None:
    pairs = [
        *(
            (speech, speech_keys._dialect(SPEECH, prefix, old))
            for prefix in ("", "wav2vec2.")
            for old in (0, 1)
        ),
        *((text, dialect(TEXT)) for dialect in (text_keys.wan, text_keys.transformers)),
        (vision, vision_keys.wan(VISION)),
        *((vision, vision_keys.transformers(VISION, prefix)) for prefix in ("", "vision_model.")),
    ]
    for module, mapping in pairs:
        ours = module.state_dict()
        stored = mapping.write(ours)
        again = mapping.read(stored)
        assert set(again) == set(ours) and set(stored) == mapping.stored
        assert all(torch.equal(again[name], ours[name]) for name in ours)
        assert again.shapes == {name: tuple(tensor.shape) for name, tensor in ours.items()}


def test_a_dialect_is_recognised(vision: ImageEncoder) -> None:
    for mapping in (vision_keys.wan(VISION), vision_keys.transformers(VISION, "vision_model.")):
        stored = mapping.write(vision.state_dict())
        assert vision_keys.key_map(VISION, stored) == mapping


@pytest.mark.parametrize(
    ("kind", "config", "keys"),
    [
        (SpeechEncoder, SPEECH, speech_keys),
        (TextEncoder, TEXT, text_keys),
        (ImageEncoder, VISION, vision_keys),
    ],
)
def test_a_saved_module_loads_again(kind: type, config: object, keys: ModuleType) -> None:
    saved = kind(config).state_dict()
    again = build(lambda: kind(config), keys.key_map(config, saved).read(saved)).state_dict()
    assert all(torch.equal(again[name], saved[name]) for name in saved)


def test_keys_missing_and_left_over_are_named(text: TextEncoder) -> None:
    stored = text_keys.wan(TEXT).write(text.state_dict())
    stored["surplus.weight"] = stored.pop("norm.weight")
    with pytest.raises(CheckpointError, match=r"1 missing \(norm.weight\); 1 unexpected \(surplus.weight\)"):
        text_keys.key_map(TEXT, stored).read(stored)


def test_a_stored_tensor_that_cannot_hold_ours_has_no_shape() -> None:
    mapping = KeyMap("test", {"q": Entry("qkv", 0, parts=3), "c": Entry("class", dropped=1)})
    shapes = mapping.read({"qkv": torch.empty(7, 2), "class": torch.empty(2, 4)}).shapes
    assert shapes == {"q": (), "c": ()}
