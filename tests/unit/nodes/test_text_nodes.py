"""Prompts: their syntax, the engine's own features, and what is kept on the disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from infinite_talk.errors import CapabilityError, InputError, UsageError
from infinite_talk.nodes import (
    LoadWanVideoT5TextEncoder,
    WanVideoTextEmbedBridge,
    WanVideoTextEncode,
    WanVideoTextEncodeCached,
    WanVideoTextEncodeSingle,
)
from infinite_talk.nodes.host import host, hosted
from infinite_talk.nodes.text import split_prompts, weighted
from infinite_talk.rooms import Rooms


@pytest.fixture
def t5(tiny_bundle: Path):
    return LoadWanVideoT5TextEncoder().loadmodel(str(tiny_bundle))[0]


def test_prompts_of_windows_are_the_engines_features(t5, engine_rooms: Rooms) -> None:
    (embeds,) = WanVideoTextEncode().process("a cat | a dog", "blurry", t5)
    cat, dog, blurry = engine_rooms.text.encode(["a cat", "a dog", "blurry"])
    torch.testing.assert_close(embeds["prompt_embeds"], [cat, dog], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(embeds["negative_prompt_embeds"], [blurry], atol=1e-5, rtol=1e-4)
    assert embeds["echoshot"] is False
    (single,) = WanVideoTextEncodeSingle().process("a cat", t5)
    assert torch.equal(single["prompt_embeds"][0], embeds["prompt_embeds"][0])


def test_weights_lose_their_brackets_and_multiply_the_whole_prompt(t5) -> None:
    (plain,) = WanVideoTextEncode().process("a red cat (really)", "", t5)
    (strong,) = WanVideoTextEncode().process("a (red:1.5) (cat: 2) (really)", "", t5)
    torch.testing.assert_close(strong["prompt_embeds"][0], 3 * plain["prompt_embeds"][0])
    assert weighted("(a:0.5) b") == ("a b", 0.5)


def test_shots_are_told_from_windows(t5, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    (embeds,) = WanVideoTextEncode().process("[1] a face [2] a hand", "", t5)
    assert embeds["echoshot"] is True
    assert len(embeds["prompt_embeds"]) == 2
    assert "Shots become prompts of successive windows" in caplog.text
    assert split_prompts("[1] a face [2] a hand") == (["a face", "a hand"], True)
    assert split_prompts("a [1] b | c") == (["a [1] b", "c"], False)
    with pytest.raises(InputError, match="7 shots"):
        split_prompts("".join(f"[{i}] x " for i in range(1, 8)))


def test_a_text_on_the_disk_needs_no_model_but_the_same_one(
    tiny_bundle: Path, t5, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = WanVideoTextEncodeCached()
    first, negative, prompt = node.process(str(tiny_bundle), "bf16", "a cat", "blurry")
    assert prompt == "a cat"
    assert torch.equal(negative["prompt_embeds"][0], first["negative_prompt_embeds"][0])
    (folder,) = {path.parent for path in host().text_cache.iterdir()}
    assert len(list(folder.iterdir())) == 2
    asked: list[str] = []
    encode = type(t5).at_hand
    monkeypatch.setattr(type(t5), "at_hand", lambda self: (asked.append("read"), encode(self))[1])
    again, _, _ = node.process(str(tiny_bundle), "bf16", "a cat", "blurry")
    assert torch.equal(again["prompt_embeds"][0], first["prompt_embeds"][0])
    assert not asked
    changed = replace(t5, kept="fp8_e4m3fn")  # another form of the weights is another model
    WanVideoTextEncode().process("a cat", "blurry", changed, use_disk_cache=True)
    assert len(list(folder.iterdir())) == 4
    for path in folder.iterdir():
        path.write_bytes(b"damaged")
    repaired, _, _ = node.process(str(tiny_bundle), "bf16", "a cat", "blurry")
    assert torch.equal(repaired["prompt_embeds"][0], first["prompt_embeds"][0])


def test_without_a_folder_texts_are_encoded_all_the_same(
    tiny_bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with hosted(replace(host(), text_cache=None)):
        embeds, _, _ = WanVideoTextEncodeCached().process(str(tiny_bundle), "bf16", "a", "b")
    assert len(embeds["prompt_embeds"]) == 1
    assert "no folder" in caplog.text


def test_the_encoder_leaves_when_it_is_to_and_stays_otherwise(t5) -> None:
    WanVideoTextEncode().process("a", "b", t5, force_offload=False)
    assert t5.resident.there
    WanVideoTextEncode().process("a", "b", t5)
    assert not t5.resident.there


def test_what_is_not_there_is_said(tiny_bundle: Path) -> None:
    with pytest.raises(UsageError, match="no text encoder is connected"):
        WanVideoTextEncode().process("a", "b")
    with pytest.raises(CapabilityError, match="rewritten"):
        WanVideoTextEncodeCached().process(str(tiny_bundle), "bf16", "a", "b", extender_args={})


def test_conditioning_of_comfyui_comes_over() -> None:
    positive, negative = torch.rand(2, 3, 8), torch.rand(1, 4, 8)
    (embeds,) = WanVideoTextEmbedBridge().process([[positive, {}]], [[negative, {}]])
    torch.testing.assert_close(embeds["prompt_embeds"], list(positive))
    torch.testing.assert_close(embeds["negative_prompt_embeds"], [negative[0]])
    with pytest.raises(InputError, match="no CONDITIONING"):
        WanVideoTextEmbedBridge().process({"a": 1})  # type: ignore[arg-type]
