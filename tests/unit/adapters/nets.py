"""Adapters of the tiny transformer's size with random weights, and the names and shapes of published files."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from infinite_talk.models.adapters import (
    FantasyPortrait,
    FantasyTalking,
    PortraitConfig,
    TalkingConfig,
    Uni3C,
    Uni3CConfig,
    UniAnimate,
    UniAnimateConfig,
)
from tests.unit import tiny_dit

DIM, LAYERS = tiny_dit.CONFIG.dim, tiny_dit.CONFIG.num_layers
TALKING = TalkingConfig(speech_dim=7, context_dim=10, dim=DIM, num_layers=LAYERS)
PORTRAIT = PortraitConfig(
    context_dim=10,
    inner_dim=16,
    depth=2,
    mouth_tokens=3,
    mood_tokens=2,
    num_heads=1,
    dim=DIM,
    num_layers=LAYERS,
)
UNI3C = Uni3CConfig(
    patch_dim=24, dim=128, ffn_dim=32, time_dim=DIM, out_dim=DIM, num_heads=2, num_layers=LAYERS
)
POSES = UniAnimateConfig(dim=DIM, channels=4)
M = TypeVar("M", bound=nn.Module)


def random(network: M, seed: int = 5) -> M:
    """Every weight random, also those that begin as one or zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.3, generator=generator)
    return network.eval()


def talking() -> FantasyTalking:
    return random(FantasyTalking(TALKING))


def portrait() -> FantasyPortrait:
    return random(FantasyPortrait(PORTRAIT))


def uni3c() -> Uni3C:
    return random(Uni3C(UNI3C))


def uni_animate() -> UniAnimate:
    return random(UniAnimate(POSES))


def saved(network: nn.Module, path: Path, prefix: str = "", **more: Tensor) -> Path:
    """The network as a file."""
    tensors = {prefix + name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    save_file(tensors | more, path)
    return path


Shapes = dict[str, tuple[int, ...]]


def published_uni_animate() -> Shapes:
    """UniAnimate-Wan2.1-14B-Lora: the two networks in it."""
    found: Shapes = {}
    for i in (0, 2, 4, 6, 8, 10):
        found[f"dwpose_embedding.{i}.weight"] = (16, 16 if i else 3, 3, 3, 3)
        found[f"dwpose_embedding.{i}.bias"] = (16,)
        out = 20 if i == 10 else 16
        found[f"randomref_embedding_pose.{i}.weight"] = (out, 16 if i else 3, 3, 3)
        found[f"randomref_embedding_pose.{i}.bias"] = (out,)
    found["dwpose_embedding.12.weight"] = (5120, 16, 1, 2, 2)
    found["dwpose_embedding.12.bias"] = (5120,)
    return found


def published_talking() -> Shapes:
    """fantasytalking_fp16.safetensors."""
    found: Shapes = {
        "proj_model.proj.weight": (2048, 768),
        "proj_model.norm.weight": (2048,),
        "proj_model.norm.bias": (2048,),
    }
    for i in range(40):
        found[f"blocks.{i}.cross_attn.k_proj.weight"] = (5120, 2048)
        found[f"blocks.{i}.cross_attn.v_proj.weight"] = (5120, 2048)
    return found


def published_portrait() -> Shapes:
    """Wan2_1_FantasyPortrait_fp16.safetensors, without its face encoder."""
    found: Shapes = {f"proj_model.norm.{kind}": (2048,) for kind in ("weight", "bias")}
    for part, numbers in (("eye", 6), ("emo", 30), ("mouth", 512), ("headpose", 6)):
        found[f"proj_model.{part}_proj.weight"] = (2048, numbers)
    for part, numbers, queries in (("mouth", 512, 16), ("emo", 30, 4)):
        start = f"{part}_proj_model"
        found |= {
            f"{start}.latents": (1, queries, 1280),
            f"{start}.proj_in.weight": (1280, numbers),
            f"{start}.proj_in.bias": (1280,),
            f"{start}.proj_out.weight": (2048, 1280),
            f"{start}.proj_out.bias": (2048,),
            f"{start}.norm_out.weight": (2048,),
            f"{start}.norm_out.bias": (2048,),
        }
        for i in range(4):
            attention, feed = f"{start}.layers.{i}.0", f"{start}.layers.{i}.1"
            for norm in (f"{attention}.norm1", f"{attention}.norm2", f"{feed}.0"):
                found |= {f"{norm}.weight": (1280,), f"{norm}.bias": (1280,)}
            found |= {
                f"{attention}.to_q.weight": (1280, 1280),
                f"{attention}.to_kv.weight": (2560, 1280),
                f"{attention}.to_out.weight": (1280, 1280),
                f"{feed}.1.weight": (5120, 1280),
                f"{feed}.3.weight": (1280, 5120),
            }
    for i in range(40):
        for kind in "kv":
            found[f"ip_adapter.blocks.{i}.cross_attn.ip_adapter_single_stream_{kind}_proj.weight"] = (
                5120,
                2048,
            )
    return found


def published_uni3c() -> Shapes:
    """Wan21_Uni3C_controlnet_fp16.safetensors."""
    found: Shapes = {
        "controlnet_patch_embedding.weight": (5120, 36, 1, 2, 2),
        "controlnet_patch_embedding.bias": (5120,),
        "controlnet_mask_embedding.mask_proj.0.weight": (256, 7, 4, 8, 8),
        "controlnet_mask_embedding.mask_proj.0.bias": (256,),
        "controlnet_mask_embedding.mask_proj.1.weight": (256,),
        "controlnet_mask_embedding.mask_proj.1.bias": (256,),
        "controlnet_mask_embedding.mask_zero_proj.weight": (5120, 256, 1, 2, 2),
        "controlnet_mask_embedding.mask_zero_proj.bias": (5120,),
        "proj_in.weight": (1024, 5120),
        "proj_in.bias": (1024,),
    }
    for i in range(20):
        block = f"controlnet_blocks.{i}"
        for layer in ("to_q", "to_k", "to_v", "to_out.0"):
            found[f"{block}.self_attn.{layer}.weight"] = (1024, 1024)
            found[f"{block}.self_attn.{layer}.bias"] = (1024,)
        for norm in ("norm1", "norm2"):
            found |= {
                f"{block}.{norm}.linear.weight": (3072, 5120),
                f"{block}.{norm}.linear.bias": (3072,),
                f"{block}.{norm}.norm.weight": (1024,),
                f"{block}.{norm}.norm.bias": (1024,),
            }
        found |= {
            f"{block}.self_attn.norm_q.weight": (1024,),
            f"{block}.self_attn.norm_k.weight": (1024,),
            f"{block}.ffn.0.weight": (8192, 1024),
            f"{block}.ffn.0.bias": (8192,),
            f"{block}.ffn.2.weight": (1024, 8192),
            f"{block}.ffn.2.bias": (1024,),
            f"proj_out.{i}.weight": (5120, 1024),
            f"proj_out.{i}.bias": (5120,),
        }
    return found
