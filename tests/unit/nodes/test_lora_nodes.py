"""Lists of LoRAs: names, strengths, blocks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from infinite_talk.errors import CheckpointError, UsageError
from infinite_talk.nodes import (
    WanVideoLoraBlockEdit,
    WanVideoLoraSelect,
    WanVideoLoraSelectByName,
    WanVideoLoraSelectMulti,
)
from infinite_talk.nodes.loras import loras_of
from infinite_talk.settings import LoRA
from infinite_talk.weights.lora import open_lora
from tests.unit.lora.files import AB


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two LoRAs on three blocks and the patch embedding's bias."""
    place = tmp_path / "models" / "loras"
    place.mkdir(parents=True)
    tensors = {"diffusion_model.text_embedding.0.diff_b": torch.ones(24)}
    for block in range(3):
        for layer in ("self_attn.q", "ffn.0"):
            name = f"diffusion_model.blocks.{block}.{layer}"
            tensors |= {f"{name}.{AB[0]}": torch.ones(1, 24), f"{name}.{AB[1]}": torch.ones(24, 1)}
    for name in ("lightx2v_rank64.safetensors", "style.safetensors"):
        save_file(tensors, place / name)
    return place


def test_lists_grow_and_strengths_of_nothing_are_left_out(folder: Path) -> None:
    (one,) = WanVideoLoraSelect().getlorapath("style.safetensors", 0.12346)
    (two,) = WanVideoLoraSelectMulti().getlorapath(
        "none", 1.0, "lightx2v_rank64.safetensors", 0.5, "style.safetensors", 0.00001, prev_lora=one
    )
    (three,) = WanVideoLoraSelectByName().getlorapath("LIGHTX2V", 2.0, prev_lora=two, merge_loras=False)
    assert len(one) == 1  # as it was
    assert loras_of(three) == (
        LoRA(path=folder / "style.safetensors", strength=0.1235),
        LoRA(path=folder / "lightx2v_rank64.safetensors", strength=0.5),
        LoRA(path=folder / "lightx2v_rank64.safetensors", strength=2.0, merge=False),
    )
    assert WanVideoLoraSelect().getlorapath("style.safetensors", 0.0, prev_lora=one)[0] == one
    assert WanVideoLoraSelectByName().getlorapath("", prev_lora=one)[0] == one
    assert loras_of(None) == ()


def test_a_strength_per_step_is_computed_beside_the_weights(folder: Path) -> None:
    (entries,) = WanVideoLoraSelect().getlorapath("style.safetensors", [1.0, 0.5], merge_loras=False)
    assert loras_of(entries)[0] == LoRA(path=folder / "style.safetensors", strength=(1.0, 0.5), merge=False)
    with pytest.raises(UsageError, match="Switch merge_loras off"):
        WanVideoLoraSelect().getlorapath("style.safetensors", [1.0, 0.5])


def test_blocks_and_parts_of_names_narrow_it_down(folder: Path) -> None:
    (blocks,) = WanVideoLoraBlockEdit().select(**{"blocks.1.": False}, layer_filter="ffn, cross_attn")
    (entries,) = WanVideoLoraSelect().getlorapath("style.safetensors", blocks=blocks)
    (lora,) = loras_of(entries)
    assert lora.blocks == (0, *range(2, 40))
    assert set(open_lora(lora).touches) == {
        "blocks.0.self_attn.q.weight",
        "blocks.2.self_attn.q.weight",
        "text_embedding.0.bias",
    }
    with pytest.raises(TypeError, match=r"blocks\.40\."):
        WanVideoLoraBlockEdit().select(**{"blocks.40.": True})


def test_what_is_nowhere_or_not_clear_is_an_error(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="Several LoRAs"):
        WanVideoLoraSelectByName().getlorapath("s")
    with pytest.raises(CheckpointError, match="is not there"):
        loras_of(WanVideoLoraSelectByName().getlorapath("nobody")[0])
    with pytest.raises(UsageError, match="valid are path"):
        loras_of([{"path": "style.safetensors", "strenght": 1.0}])
