"""Fused QKV: one matrix product where a self-attention has three, for blocks that stay on the device."""

from __future__ import annotations

from typing import cast

from infinite_talk.models.dit.blocks import Block
from infinite_talk.models.dit.model import WanTransformer
from infinite_talk.ops.joined import join


def fuse_qkv(transformer: WanTransformer) -> str | None:
    """Lay the weights of queries, keys and values of each self-attention in a row, after loading and LoRAs.

    Returns:
        A line for people if some blocks keep three products.
    """
    device = transformer.patch_embedding.weight.device
    blocks = [cast("Block", block) for block in transformer.blocks.children()]
    for block in blocks:
        own = block.self_attn
        here = all(tensor.device == device for tensor in own.parameters())  # else it is streamed
        own.joined = here and join((own.q, own.k, own.v))
    apart = sum(not block.self_attn.joined for block in blocks)
    if not apart:
        return None
    return (
        f"fuse_qkv: {apart} of {len(blocks)} blocks keep three products, since they are streamed, packed in "
        "fewer bits, or have a LoRA beside them."
    )
