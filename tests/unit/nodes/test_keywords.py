"""Wrong keywords are explained; right calls are not touched."""

from __future__ import annotations

import inspect

import pytest

from infinite_talk.nodes.keywords import SAMPLER_WISHES, answering, explain


class Node:
    @answering({"use_tf32": "it is the setting `tf32`"}, name="Node.process")
    def process(self, model: str, steps: int, cfg: float = 6.0, seed: int = 0) -> tuple[object, ...]:
        return model, steps, cfg, seed


def test_the_signature_stays_and_right_calls_pass():
    assert str(inspect.signature(Node.process)).startswith("(self, model: 'str', steps: 'int', cfg")
    assert Node().process("m", 4) == ("m", 4, 6.0, 0)
    assert Node().process("m", cfg=1.0, steps=2) == ("m", 2, 1.0, 0)


def test_a_wish_that_lives_elsewhere_is_told_where():
    with pytest.raises(TypeError, match=r"no argument 'use_tf32'.*setting `tf32`"):
        Node().process("m", 4, use_tf32=False)


def test_a_slip_is_told_the_nearest_name():
    with pytest.raises(TypeError, match=r"no argument 'step'.*'steps'"):
        Node().process("m", step=4)


def test_several_wrong_ones_are_all_named():
    with pytest.raises(TypeError, match=r"'use_tf32'.*'sead'.*'seed'"):
        Node().process("m", 4, use_tf32=1, sead=2)


def test_something_else_is_told_what_there_is():
    with pytest.raises(TypeError, match=r"no argument 'zzz'\. It takes model, steps, cfg, seed\."):
        Node().process("m", 4, zzz=1)


def test_what_is_missing_is_named():
    with pytest.raises(TypeError, match=r"misses 'steps'"):
        Node().process("m")


def test_too_many_and_twice_are_errors_that_say_the_order():
    with pytest.raises(TypeError, match=r"model, steps, cfg, seed"):
        Node().process("m", 1, 2.0, 3, 4)
    with pytest.raises(TypeError, match=r"model, steps, cfg, seed"):
        Node().process("m", 1, model="n")


@pytest.mark.parametrize(
    ("wish", "home"),
    [
        ("use_tf32", "`tf32`"),
        ("use_cublas_gemm", "`gemm`"),
        ("force_contiguous_tensors", "`contiguous`"),
        ("fuse_qkv_projections", "`fuse_qkv`"),
        ("attention_mode", "WanVideoModelLoader"),
        ("num_frames", "MultiTalkWav2VecEmbeds"),
        ("width", "WanVideoImageToVideoMultiTalk"),
        ("negative_prompt", "WanVideoTextEncode"),
        ("guidance_scale", "`cfg`"),
    ],
)
def test_known_wishes_of_the_sampler(wish: str, home: str):
    assert home in explain(wish, ["model", "steps"], SAMPLER_WISHES, name="process")
