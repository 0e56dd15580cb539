"""Nodes for techniques: the dictionaries and handles that they give, and which kernels run where."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from infinite_talk.errors import CapabilityError, UsageError
from infinite_talk.nodes.attention import Decayed, Radial, kernel_sources, pattern_of
from infinite_talk.nodes.handles import AttentionOverride, WanModel
from infinite_talk.nodes.loaders import WanVideoModelLoader
from infinite_talk.nodes.techniques import (
    WanVideoApplyNAG,
    WanVideoBlockList,
    WanVideoEnhanceAVideo,
    WanVideoRoPEFunction,
    WanVideoSetAttentionModeOverride,
    WanVideoSetRadialAttention,
    WanVideoSLG,
    WanVideoUltraVicoSettings,
    block_numbers,
)
from infinite_talk.ops.attention import eager, sdpa
from infinite_talk.ops.attention.radial import RadialAttention
from infinite_talk.ops.attention.ultravico import UltraViCo
from infinite_talk.settings import Attention, Settings

LAYERS = 4


class Model(WanModel):
    """A transformer on the CPU that is never loaded."""

    device = torch.device("cpu")
    dtype = torch.float32


def handle(**changes: Any) -> Model:
    opened = SimpleNamespace(config=SimpleNamespace(num_layers=LAYERS, head_dim=16), title="tiny")
    return Model(opened=opened, kind="InfiniteTalk", settings=Settings(), **changes)


def kernels(model: WanModel, step: int) -> list[Any]:
    """The kernel of each block at a step, ``None`` being the model's own."""
    found: dict[int, Any] = {}
    for source in kernel_sources(model):
        found |= source.extras(torch.zeros(1), SimpleNamespace(step=step), 10).attention or {}
    return [getattr(found.get(i), "kernel", found.get(i)) for i in range(model.layers)]


def test_dictionaries_are_those_of_the_node_pack() -> None:
    assert WanVideoEnhanceAVideo().setargs() == ({"weight": 2.0, "start_percent": 0.0, "end_percent": 1.0},)
    assert WanVideoSLG().process("9, 10", 0.2, 0.8) == (
        {"blocks": [9, 10], "start_percent": 0.2, "end_percent": 0.8},
    )
    assert WanVideoRoPEFunction().process("comfy") == ("comfy",)
    assert WanVideoRoPEFunction().process("default", ntk_scale_h=2.0) == (
        {"rope_function": "default", "ntk_scale_f": 1.0, "ntk_scale_h": 2.0, "ntk_scale_w": 1.0},
    )
    with pytest.raises(UsageError, match="weight of WanVideoEnhanceAVideo"):
        WanVideoEnhanceAVideo().setargs(weight=101)


def test_nag_adds_to_a_copy() -> None:
    prompt, away = torch.ones(3, 8), torch.zeros(2, 8)
    original = {"prompt_embeds": [prompt], "negative_prompt_embeds": [away], "echoshot": False}
    (found,) = WanVideoApplyNAG().process(original, {"prompt_embeds": [away]}, nag_tau=3.0)
    assert found["nag_prompt_embeds"] == [away]
    assert found["nag_params"] == {"nag_scale": 11.0, "nag_tau": 3.0, "nag_alpha": 0.25, "inplace": True}
    assert found["prompt_embeds"] == [prompt]
    assert "nag_params" not in original
    with pytest.raises(UsageError, match="nag_text_embeds has no prompt"):
        WanVideoApplyNAG().process(original, {"prompt_embeds": []})


def test_lists_of_blocks() -> None:
    assert block_numbers("0, 2,3-5") == [0, 2, 3, 4, 5]
    assert WanVideoBlockList().create_list("1\n4 - 4\n7") == ([1, 4, 7],)
    assert block_numbers("") == []
    for wrong in ("a", "5-3", "-1", "1.5"):
        with pytest.raises(UsageError, match="is no block"):
            block_numbers(wrong)


def test_an_override_holds_in_its_steps_and_blocks_and_the_last_one_wins() -> None:
    model, node = handle(), WanVideoSetAttentionModeOverride()
    (first,) = node.getmodelpath(model, "sdpa", 1, 3)
    assert model.overrides == ()
    assert kernel_sources(model) == ()
    assert kernels(first, 0) == kernels(first, 3) == [None] * LAYERS
    assert kernels(first, 1) == kernels(first, 2) == [sdpa] * LAYERS
    (second,) = node.getmodelpath(first, "sageattn_ultravico", 2, blocks=[0, 3])
    assert [type(kernel) for kernel in kernels(second, 3)] == [UltraViCo, type(None), type(None), UltraViCo]
    (last,) = node.getmodelpath(second, "comfy", blocks=3)
    assert kernels(last, 9)[3] is sdpa
    with pytest.raises(UsageError, match="blocks 0 to 3"):
        kernel_sources(node.getmodelpath(model, blocks=[4])[0])
    with pytest.raises(UsageError, match="not after start_step"):
        node.getmodelpath(model, "sdpa", 5, 5)


def test_what_cannot_run_here_says_so() -> None:
    (model,) = WanVideoSetAttentionModeOverride().getmodelpath(handle(), "flash_attn_2")
    with pytest.raises(CapabilityError, match="flash_attn_2"):
        kernel_sources(model)


def test_radial_attention_is_dense_in_the_first_steps_and_blocks() -> None:
    (model,) = WanVideoSetRadialAttention().loadmodel(handle(), "sdpa", dense_blocks=2, dense_timesteps=3)
    assert kernels(model, 2) == [sdpa] * LAYERS
    assert kernels(model, 3)[:2] == [sdpa] * 2
    assert all(isinstance(kernel, RadialAttention) for kernel in kernels(model, 3)[2:])
    (listed,) = WanVideoSetRadialAttention().loadmodel(model, "sdpa", dense_blocks=[1], dense_timesteps=0)
    assert [isinstance(kernel, RadialAttention) for kernel in kernels(listed, 0)] == [True, False, True, True]
    assert len(listed.options) == 1, "settings replace those before"
    (decayed,) = WanVideoUltraVicoSettings().getmodelpath(listed, 0.7)
    assert decayed.options == (Decayed(alpha=0.7),)
    assert all(isinstance(kernel, UltraViCo) for kernel in kernels(decayed, 0))


def test_a_mode_of_the_loader_can_be_a_pattern() -> None:
    """As in the node pack, where radial attention has to be chosen in the loader before its node sets it."""
    found = WanVideoModelLoader().loadmodel("embedded", attention_mode="radial_sage_attention")[0]
    assert found.options == (Radial(),)
    assert found.settings.attention is Attention.SAGEATTN
    (changed,) = WanVideoSetRadialAttention().loadmodel(found, "sparse_sage_attention", decay_factor=0.4)
    assert changed.options == (Radial(dense=Attention.SAGEATTN, decay=0.4),)
    assert pattern_of("sageattn_ultravico") == Decayed()
    assert pattern_of("sdpa") is None
    with pytest.raises(UsageError, match="attention_mode of WanVideoSetAttentionModeOverride"):
        WanVideoSetAttentionModeOverride().getmodelpath(found, "nope")


def test_overrides_are_values_that_loaders_know() -> None:
    override = AttentionOverride(attention=Attention.EAGER, start_step=0, end_step=1, blocks=(1,))
    assert kernels(handle(overrides=(override,)), 0) == [None, eager, None, None]
