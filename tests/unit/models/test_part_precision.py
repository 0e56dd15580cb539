"""The encoders and the codec in less than float32, and with packed layers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from infinite_talk.models.speech import keys as speech_keys
from infinite_talk.models.text import TextEncoder
from infinite_talk.models.text import keys as text_keys
from infinite_talk.models.vae import VideoVAE
from infinite_talk.models.vae import keys as vae_keys
from infinite_talk.models.vision import ImageEncoder
from infinite_talk.models.vision import keys as vision_keys
from infinite_talk.ops.linear import Packed, PackedLinear
from infinite_talk.ops.linear.scaled import FP8_E4M3FN, INT8, Scaled
from infinite_talk.weights.builder import build
from infinite_talk.weights.checkpoint import Checkpoint, Part
from infinite_talk.weights.sizes import dtype_of
from tests.parts import PARTS, packed, random_weights

IDS = torch.tensor([[5, 9, 3, 1], [7, 1, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])


def relative(actual: Tensor, expected: Tensor) -> float:
    return float((actual.float() - expected).norm() / expected.norm())


def text_of(weights: dict[str, Tensor | Packed], dtype: torch.dtype = torch.float32) -> TextEncoder:
    return build(lambda: TextEncoder(PARTS["text"].tiny), weights, dtype=dtype)


@pytest.mark.parametrize("kind", [INT8, FP8_E4M3FN], ids=lambda kind: kind.name)
@torch.inference_mode()
def test_a_packed_text_encoder_is_one_with_the_unpacked_weights(kind: Scaled) -> None:
    weights = packed(random_weights(PARTS["text"]), kind)
    plain = {name: w.unpack() if isinstance(w, Packed) else w for name, w in weights.items()}
    encoder = text_of(weights)
    layers = [layer for layer in encoder.modules() if isinstance(layer, PackedLinear)]
    assert len(layers) == 2 * 7
    assert isinstance(encoder.model.embed_tokens, nn.Embedding)
    expected = text_of(plain)(IDS, MASK)
    torch.testing.assert_close(encoder(IDS, MASK), expected, atol=1e-5, rtol=0)
    bf16 = text_of(weights, torch.bfloat16)
    assert bf16(IDS, MASK).dtype == torch.bfloat16 == bf16.model.embed_tokens.weight.dtype
    assert relative(bf16(IDS, MASK), expected) < 0.08


@torch.inference_mode()
def test_encoding_never_unpacks_a_weight_to_look_at_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """``PackedLinear.weight`` computes the whole matrix; the library's own feed-forward asks for its dtype."""
    encoder = text_of(packed(random_weights(PARTS["text"]), INT8))

    def looked(_: PackedLinear) -> Tensor:
        raise AssertionError("a packed weight was unpacked as a whole")

    monkeypatch.setattr(PackedLinear, "weight", property(looked))
    assert encoder(IDS, MASK).isfinite().all()


@torch.inference_mode()
def test_the_feed_forward_is_that_of_transformers() -> None:
    from transformers import UMT5EncoderModel

    encoder = text_of(random_weights(PARTS["text"]))
    theirs = UMT5EncoderModel(encoder.model.config).eval()
    stored = text_keys.transformers(PARTS["text"].tiny).write(encoder.state_dict())
    theirs.load_state_dict(stored | {"encoder.embed_tokens.weight": stored["shared.weight"]})
    expected = theirs(input_ids=IDS, attention_mask=MASK).last_hidden_state
    assert torch.equal(encoder(IDS, MASK), expected)


@torch.inference_mode()
def test_the_codec_in_half_its_size() -> None:
    part = PARTS["vae"]
    weights = random_weights(part)
    whole = build(lambda: VideoVAE(part.tiny), weights, dtype=torch.float32)
    small = build(lambda: VideoVAE(part.tiny), weights, dtype=vae_keys.DTYPE)
    video = torch.rand(1, 3, 5, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    latent = whole.encode(video)
    for actual, expected in (
        (small.encode(video), latent),
        (torch.cat(list(small.encode_chunks(video)), dim=2), latent),
        (small.decode_raw(latent), whole.decode_raw(latent)),
        (torch.cat(list(small.decode_chunks(latent)), dim=2), whole.decode(latent)),
    ):
        assert actual.dtype == torch.float32
        # A random network spreads a rounding more than a trained one.
        assert relative(actual, expected) < 0.05


@torch.inference_mode()
def test_the_image_encoder_in_its_published_precision() -> None:
    part = PARTS["vision"]
    weights = random_weights(part)
    whole = build(lambda: ImageEncoder(part.tiny), weights)
    half = build(lambda: ImageEncoder(part.tiny), weights, dtype=vision_keys.DTYPE)
    picture = torch.rand(1, 3, 20, 24, generator=torch.Generator().manual_seed(1)) * 2 - 1
    assert half(picture).dtype == torch.float16
    assert relative(half(picture), whole(picture)) < 0.01


def test_what_each_part_runs_in() -> None:
    """What the planner counts on: bytes for a number of each part."""
    kinds = (text_keys.DTYPE, vision_keys.DTYPE, speech_keys.DTYPE, vae_keys.DTYPE)
    assert [kind.itemsize for kind in kinds] == [2, 2, 4, 2]


@pytest.mark.parametrize(
    ("device", "base", "expected"),
    [
        ("cuda", torch.bfloat16, torch.float16),
        ("cuda", torch.float32, torch.float32),
        ("cpu", torch.bfloat16, torch.float32),
    ],
)
def test_who_asks_for_float32_gets_it_in_the_codec(
    device: str, base: torch.dtype, expected: torch.dtype
) -> None:
    opened = Checkpoint(
        part=Part.VAE, dialect="official", precision="fp32", files=(), config=PARTS["vae"].tiny, weights={}
    )
    assert dtype_of(Part.VAE, opened, torch.device(device), base) is expected
