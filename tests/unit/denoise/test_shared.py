"""What branches, windows and steps have in common is computed once, and is the same to the last bit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from infinite_talk.denoise.denoiser import Plain
from infinite_talk.denoise.guidance import Branch
from infinite_talk.denoise.loop import denoise
from infinite_talk.generate import generate
from infinite_talk.models.dit import ConditionCache
from infinite_talk.models.dit import model as dit
from infinite_talk.types import Guide
from tests.unit import tiny
from tests.unit.denoise.test_loop import sampler, some_guide, tiny_transformer
from tests.unit.test_generate import request


class Unshared(Plain):
    """The slow twin: every branch, window and step computes all of its own."""

    def condition(self, guide: Guide, branch: Branch):
        self.forget()
        return super().condition(guide, branch)

    def velocity(self, latent, question):
        return self.transformer(latent[None], question.time, question.condition)[0]

    def velocities(self, latent, questions):
        return {question.branch: self.velocity(latent, question) for question in questions}


def windows(people: int) -> list[Guide]:
    """Two windows of one shot: the speech and what is continued from differ, prompt and picture do not."""
    first, other = some_guide(people), some_guide(people, seed=1)
    return [first, replace(first, speech=other.speech, motion=other.motion)]


@pytest.mark.parametrize("people", [1, 2])
@pytest.mark.parametrize("kept", [True, False])
def test_sharing_changes_no_bit(people: int, kept: bool) -> None:
    transformer, asked = tiny_transformer(), sampler(2)
    transformer.keep_keys_values = kept
    shared = Plain(transformer)
    for guide in windows(people):
        noise = torch.randn(guide.latent_shape, generator=torch.Generator().manual_seed(4))
        found = denoise(shared, asked, guide, noise)
        assert torch.equal(found, denoise(Unshared(transformer), asked, guide, noise))


@pytest.mark.parametrize("people", [1, 2])
def test_branches_as_a_batch_are_close_to_one_after_another(people: int) -> None:
    transformer, asked = tiny_transformer(), sampler(2)
    batched, plain = Plain(transformer, batched=True), Plain(transformer)
    passes: list[int] = []
    transformer.register_forward_pre_hook(lambda _, inputs: passes.append(len(inputs[0])))
    for guide in windows(people):
        noise = torch.randn(guide.latent_shape, generator=torch.Generator().manual_seed(4))
        passes.clear()
        found = denoise(batched, asked, guide, noise)
        # The branch without speech has one person, and so a batch of its own if there are two.
        assert passes == ([3] if people == 1 else [2, 1]) * asked.steps
        torch.testing.assert_close(found, denoise(plain, asked, guide, noise), atol=2e-5, rtol=1e-5)


def count_calls(monkeypatch: pytest.MonkeyPatch, transformer: torch.nn.Module) -> Counter[str]:
    """How often each part of the condition is computed from now on."""
    calls: Counter[str] = Counter()
    block = transformer.blocks[0]
    for name, module in {
        "text": transformer.text_embedding,
        "image": transformer.img_emb,
        "speech": transformer.audio_proj,
        "text keys": block.cross_attn.k,
        "text values": block.cross_attn.v,
        "image keys": block.cross_attn.k_img,
        "image values": block.cross_attn.v_img,
        "speech keys and values": block.audio_cross_attn.kv_linear,
    }.items():
        module.register_forward_hook(lambda *_, name=name: calls.update([name]))

    def counted(name: str, function: Callable) -> Callable:
        def call(*args):
            calls.update([name])
            return function(*args)

        return call

    monkeypatch.setattr(transformer, "_embed_reference", counted("reference", transformer._embed_reference))
    monkeypatch.setattr(transformer, "embed_time", counted("time", transformer.embed_time))
    for name in ("grid_rotation", "voice_rotation", "class_weights"):
        monkeypatch.setattr(dit, name, counted(name, getattr(dit, name)))
    return calls


@pytest.mark.parametrize("people", [2])
def test_nothing_constant_is_computed_twice_in_a_run(monkeypatch: pytest.MonkeyPatch, people: int) -> None:
    """Three branches, four windows, two steps."""
    rooms = tiny.tiny_rooms()
    calls = count_calls(monkeypatch, rooms.transformer)
    clips = list(generate(request(), tiny.source(50, people), rooms))
    assert len(clips) == 4
    heard = 4 + 1  # each window's speech, and silence
    expected = {"text": 2, "image": 1, "speech": heard, "reference": 1, "time": 2, "grid_rotation": 1}
    expected |= {"text keys": 2, "text values": 2, "image keys": 1, "image values": 1}
    expected |= {"speech keys and values": heard}
    if people > 1:
        expected |= {"voice_rotation": 1, "class_weights": 1}
    assert calls == expected


def test_another_picture_and_another_prompt_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A film: each window has a picture of its own; and the second of two prompts holds from the second window."""
    rooms = tiny.tiny_rooms()
    calls = count_calls(monkeypatch, rooms.transformer)
    list(generate(request(prompt="a | b"), tiny.source(50, pictures=tiny.Moving()), rooms))
    assert (calls["reference"], calls["image keys"], calls["text keys"]) == (4, 4, 3)


def test_a_run_keeps_what_one_window_needs() -> None:
    denoiser = Plain(tiny_transformer())
    sizes = []
    for seed in range(4):
        guide = replace(some_guide(2, seed=seed), negative=some_guide().negative)
        for branch in (Branch.COND, Branch.DROP_TEXT, Branch.UNCOND):
            denoiser.condition(guide, branch)
        sizes.append(len(denoiser._shared))
    assert sizes == [sizes[0]] * 4


def test_equal_numbers_elsewhere_are_not_the_same_and_freed_memory_is_not_mistaken() -> None:
    cache = ConditionCache()
    first = torch.ones(3)
    assert cache.once("a", lambda: 1, first[None]) == 1
    assert cache.once("a", lambda: 2, first[None]) == 1  # another view of the same
    assert cache.once("a", lambda: 3, first[None, :2]) == 3
    assert cache.once("b", lambda: 4, first[None]) == 4
    assert cache.once("a", lambda: 5, torch.ones(1, 3)) == 5
    for i in range(20):  # if the cache did not hold on to them, these would come to lie at one address
        assert cache.once("a", lambda i=i: 6 + i, torch.full((1, 3), float(i))) == 6 + i
    cache.keep_only([first])
    assert len(cache) == 3
