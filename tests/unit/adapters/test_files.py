"""Adapters from files: published names and sizes, strict both ways, bitwise what was stored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from infinite_talk.errors import CheckpointError
from infinite_talk.models.adapters import (
    FantasyPortrait,
    FantasyTalking,
    PortraitConfig,
    TalkingConfig,
    Uni3C,
    Uni3CConfig,
    UniAnimate,
    UniAnimateConfig,
    fantasy_portrait,
    fantasy_talking,
    uni3c,
    uni_animate,
)
from infinite_talk.settings import LoRA, Quantization
from infinite_talk.weights.adapters import (
    open_fantasy_portrait,
    open_fantasy_talking,
    open_lora_beside,
    open_uni3c,
    open_uni_animate,
    pose_keys,
)
from infinite_talk.weights.lora import open_lora
from tests.unit.adapters import nets

KINDS: tuple[tuple[Any, Callable[[], nn.Module], Any, nets.Shapes], ...] = (
    (uni_animate, lambda: UniAnimate(UniAnimateConfig()), UniAnimateConfig(), nets.published_uni_animate()),
    (fantasy_talking, lambda: FantasyTalking(TalkingConfig()), TalkingConfig(), nets.published_talking()),
    (
        fantasy_portrait,
        lambda: FantasyPortrait(PortraitConfig()),
        PortraitConfig(),
        nets.published_portrait(),
    ),
    (uni3c, lambda: Uni3C(Uni3CConfig()), Uni3CConfig(), nets.published_uni3c()),
)
NAMES = ("unianimate", "fantasytalking", "fantasyportrait", "uni3c")


@pytest.mark.parametrize(("module", "make", "config", "published"), KINDS, ids=NAMES)
def test_published_names_and_shapes_are_ours(module, make, config, published):
    """Every tensor of the published file has its place, and its shapes give the sizes."""
    with torch.device("meta"):
        ours = {name: tuple(tensor.shape) for name, tensor in make().state_dict().items()}
    passed_over = set(uni3c.MASKS) if module is uni3c else set()
    assert ours == {name: shape for name, shape in published.items() if name not in passed_over}
    assert module.recognises(published)
    assert module.config_of(published) == config
    assert module.dialects(config)[0].differences(published) == ([], [])


@pytest.mark.parametrize("module", [uni_animate, fantasy_talking, fantasy_portrait, uni3c])
def test_no_adapter_takes_another_for_its_own(module):
    assert [kind[0] for kind in KINDS if module.recognises(kind[3])] == [module]


OPENED: tuple[tuple[Callable[..., nn.Module], Callable[[], nn.Module], str], ...] = (
    (open_uni_animate, nets.uni_animate, "dwpose_embedding.4.bias"),
    (open_fantasy_talking, nets.talking, "blocks.1.cross_attn.v_proj.weight"),
    (open_fantasy_portrait, nets.portrait, "mouth_proj_model.layers.1.1.3.weight"),
    (open_uni3c, nets.uni3c, "controlnet_blocks.1.ffn.2.bias"),
)


@pytest.mark.parametrize(("opened", "made", "name"), OPENED, ids=NAMES)
def test_a_file_gives_back_what_was_stored(opened, made, name, tmp_path: Path):
    network = made()
    again = opened(nets.saved(network, tmp_path / "adapter.safetensors"), torch.float32)
    for key, tensor in network.state_dict().items():
        assert torch.equal(again.state_dict()[key], tensor), key


@pytest.mark.parametrize(("opened", "made", "name"), OPENED, ids=NAMES)
def test_missing_and_unexpected_names_are_listed(opened, made, name, tmp_path: Path):
    path = nets.saved(made(), tmp_path / "adapter.safetensors")
    tensors = load_file(path)
    stranger = name.partition(".")[0] + ".stranger"
    save_file({key: value for key, value in tensors.items() if key != name}, path)
    with pytest.raises(CheckpointError, match=f"1 missing \\({name}\\)"):
        opened(path, torch.float32)
    save_file(tensors | {stranger: torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match=f"1 unexpected \\({stranger}\\)"):
        opened(path, torch.float32)


@pytest.mark.parametrize(("opened", "made", "name"), OPENED, ids=NAMES)
def test_a_tensor_of_another_shape_is_named(opened, made, name, tmp_path: Path):
    path = nets.saved(made(), tmp_path / "adapter.safetensors")
    tensors = load_file(path)
    save_file(tensors | {name: torch.zeros(3, 1)}, path)
    with pytest.raises(CheckpointError, match="of another shape"):
        opened(path, torch.float32)


@pytest.mark.parametrize(("opened", "made", "name"), OPENED, ids=NAMES)
def test_another_models_file_is_refused(opened, made, name, tmp_path: Path):
    save_file({"patch_embedding.weight": torch.zeros(2, 2)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"other\.safetensors is not"):
        opened(tmp_path / "other.safetensors", torch.float32)


def test_weights_that_are_known_and_not_needed_are_passed_over(tmp_path: Path):
    """Uni3C's for masks and cameras; the face encoder in files of FantasyPortrait."""
    masks = {name: torch.zeros(1) for name in uni3c.MASKS}
    open_uni3c(nets.saved(nets.uni3c(), tmp_path / "a.safetensors", **masks), torch.float32)
    encoder = {"pd_fpg.fc.weight": torch.zeros(2, 2)}
    open_fantasy_portrait(nets.saved(nets.portrait(), tmp_path / "b.safetensors", **encoder), torch.float32)


def test_precision_is_as_asked_and_the_first_layer_of_uni3c_float32(tmp_path: Path):
    network = open_uni3c(nets.saved(nets.uni3c(), tmp_path / "a.safetensors"), torch.bfloat16)
    assert network.dtype is torch.bfloat16
    assert network.controlnet_patch_embedding.weight.dtype is torch.float32
    assert network.proj_in.weight.dtype is torch.bfloat16


@pytest.mark.parametrize("quantization", [Quantization.FP8_E4M3FN, Quantization.FP8_E5M2])
def test_uni3c_in_eight_bits_has_the_rounded_matrices(quantization, tmp_path: Path):
    """The large matrices are those of the file rounded to float8; everything else is untouched."""
    plain = nets.uni3c()
    path = nets.saved(plain, tmp_path / "a.safetensors")
    packed = open_uni3c(path, torch.float32, quantization=quantization)
    kind = torch.float8_e4m3fn if quantization is Quantization.FP8_E4M3FN else torch.float8_e5m2
    first, rounded = plain.controlnet_blocks[0], packed.controlnet_blocks[0]
    assert torch.equal(rounded.ffn[0].weight, first.ffn[0].weight.to(kind).float())
    assert torch.equal(packed.proj_out[1].weight, plain.proj_out[1].weight.to(kind).float())
    assert torch.equal(rounded.norm1.linear.weight, first.norm1.linear.weight)
    assert torch.equal(packed.proj_in.weight, plain.proj_in.weight)
    latent, mask, guide = (torch.randn(1, channels, 2, 4, 4) for channels in (16, 4, 16))
    with torch.inference_mode():
        states = [list(net.states(latent, mask, guide, torch.ones(1, nets.DIM))) for net in (plain, packed)]
    for one, other in zip(*states, strict=True):
        assert 0 < float((one - other).norm() / one.norm()) < 0.3


@pytest.mark.parametrize("prefix", uni_animate.PREFIXES)
def test_poses_and_lora_come_from_one_file(prefix: str, tmp_path: Path):
    """UniAnimate is published as a LoRA that holds its networks; each reader takes its own part."""
    layer = "pipe.dit.blocks.0.self_attn.q"
    lora: dict[str, Tensor] = {
        f"{layer}.lora_A.default.weight": torch.ones(2, nets.DIM),
        f"{layer}.lora_B.default.weight": torch.ones(nets.DIM, 2),
    }
    network = nets.uni_animate()
    path = nets.saved(network, tmp_path / "unianimate.safetensors", prefix, **lora)
    again = open_uni_animate(path, torch.float32)
    assert torch.equal(again.dwpose_embedding[12].weight, network.dwpose_embedding[12].weight)
    adapter = open_lora_beside(LoRA(path=path))
    assert adapter.touches == ("blocks.0.self_attn.q.weight",)
    assert not adapter.unknown
    assert open_lora(LoRA(path=path)).unknown, "without being told, it is a LoRA with strange keys"


def test_a_plain_lora_has_no_poses(tmp_path: Path):
    save_file({"blocks.0.self_attn.q.lora_A.weight": torch.zeros(1, 2)}, tmp_path / "l.safetensors")
    assert pose_keys(tmp_path / "l.safetensors") == ()
