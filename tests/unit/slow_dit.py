"""A pass of the transformer with extras, written out: whole tensors, loops over heads, pixels and frames."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from infinite_talk.models.dit import Condition, Extras, WanTransformer
from infinite_talk.models.dit.blocks import Block
from infinite_talk.models.dit.people import class_maps, query_positions
from infinite_talk.ops.attention import eager
from infinite_talk.ops.norms import layer_norm
from infinite_talk.ops.rope import line_rotation, rotate_real


def slow_pass(
    net: WanTransformer, latent: Tensor, time: Tensor, condition: Condition, extras: Extras
) -> Tensor:
    e, e0 = net.embed_time(time)
    x = net.embed(latent, condition)
    if extras.tokens is not None:
        x = x + extras.tokens
    for i, block in enumerate(net.blocks):
        if i in extras.skip:
            continue
        x = slow_block(block, i, x, e0, condition, extras)
        if extras.after is not None and (more := extras.after(i)) is not None:
            x = x + more
    if extras.times is None:
        return net.head_forward(x, e, condition)
    own = [e, *(other for other, _ in extras.times.others)]
    whole = [net.head_forward(x, one, condition) for one in own]
    frames = [whole[number][:, :, t : t + 1] for t, number in enumerate(extras.times.of_frame)]
    return torch.cat(frames, dim=2)


def slow_block(block: Block, i: int, x: Tensor, e0: Tensor, condition: Condition, extras: Extras) -> Tensor:
    own, eps = condition.blocks[i], block.config.eps
    frames, pixels = condition.grid[0], condition.grid[1] * condition.grid[2]
    by_token = e0[:, :, None]  # (B, 6, 1, D)
    if extras.times is not None:
        times = [e0, *(other.expand_as(e0) for _, other in extras.times.others)]
        by_frame = torch.stack([times[number] for number in extras.times.of_frame], dim=2)
        by_token = by_frame.repeat_interleave(pixels, dim=2)  # (B, 6, N, D)
    shift, scale, gate, shift2, scale2, gate2 = (block.modulation[:, :, None] + by_token).unbind(1)
    update, maps = slow_self(block, i, layer_norm(x, eps) * (1 + scale) + shift, condition, extras)
    x = x + update * gate
    h = layer_norm(x, block.norm3.eps, block.norm3.weight, block.norm3.bias)
    x = x + slow_cross(block, i, h, own, frames, pixels, extras)
    h = layer_norm(x, block.norm_x.eps, block.norm_x.weight, block.norm_x.bias)
    attention = block.audio_cross_attn
    q = split(attention.q_linear(h), attention.heads)
    if maps is not None:
        q = rotate_real(q, line_rotation(query_positions(maps, block.config), block.config.head_dim))
    rows = []
    for b in range(len(x)):
        for t in range(frames):
            mine = q[b : b + 1, t * pixels : (t + 1) * pixels].transpose(1, 2)
            at = slice(b * frames + t, b * frames + t + 1)
            rows.append(eager(mine, own.speech.k[at], own.speech.v[at]).transpose(1, 2).flatten(2))
    heard = attention.proj(torch.cat(rows, 1).reshape(x.shape))
    x = x + extras.speech_scale * heard
    return x + block.ffn(layer_norm(x, eps) * (1 + scale2) + shift2) * gate2


def slow_self(block: Block, i: int, h: Tensor, condition: Condition, extras: Extras):
    attention, (frames, rows, columns) = block.self_attn, condition.grid
    q, k = (
        rotate_real(split(norm(layer(h)), attention.heads), condition.rotation).transpose(1, 2)
        for layer, norm in ((attention.q, attention.norm_q), (attention.k, attention.norm_k))
    )
    v = split(attention.v(h), attention.heads).transpose(1, 2)
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    if extras.chunks is not None and extras.chunks.apart:
        share = shares_by_token(frames, rows * columns, extras.chunks.parts)
        scores = scores.masked_fill(share[:, None] != share[None, :], -math.inf)
    weights = scores.softmax(-1)
    other = (extras.attention or {}).get(i)
    found = weights @ v if other is None else other(q, k, v, slice(0, h.shape[1]), condition.grid)
    update = attention.o(found.transpose(1, 2).flatten(2))
    if extras.enhance is not None:
        update = update * slow_enhancement(q, k, frames, extras.enhance)
    maps = None if condition.classes is None else class_maps(q, k, condition.classes, eager)
    return update, maps


def slow_enhancement(q: Tensor, k: Tensor, frames: int, weight: float) -> Tensor:
    """Enhance-A-Video as published: the same pixel over all frames, the diagonal zeroed, the rest averaged."""
    batch, heads, count, width = q.shape
    pixels, factors = count // frames, []
    for b in range(batch):
        means = []
        for head in range(heads):
            for pixel in range(pixels):
                own, others = q[b, head, pixel::pixels], k[b, head, pixel::pixels]
                weights = (own * width**-0.5 @ others.T).softmax(-1)
                weights = weights - torch.diag(torch.diagonal(weights))
                means.append(weights.sum() / (frames * frames - frames))
        factors.append((torch.stack(means).mean() * (frames + weight)).clamp(min=1))
    return torch.stack(factors)[:, None, None]


def slow_cross(block: Block, i: int, h: Tensor, own, frames: int, pixels: int, extras: Extras) -> Tensor:
    attention = block.cross_attn
    q = attention.norm_q(attention.q(h))
    chunks = extras.chunks
    if chunks is None or not chunks.texts:
        told = [slow_text(block, q, own.text, extras)]
    else:
        share = shares_by_token(frames, pixels, chunks.parts)
        told = [
            slow_text(block, q[:, share == c], block.text_keys_values(text), extras)
            for c, text in enumerate(chunks.texts)
        ]
    answer = torch.cat(told, 1) + ask(q, own.image.k, own.image.v, attention.heads)
    for one in extras.heard:
        if (added := one.of_block(i)) is None:
            continue
        per_sample = added.k.shape[0] // frames
        for b in range(len(h)):
            for t in range(frames):
                at = (b * frames if per_sample > 1 else 0) + t
                there = slice(None) if one.mask is None else one.mask[at]
                k, v = (part[at : at + 1][:, :, there] for part in added)
                place = slice(t * pixels, (t + 1) * pixels)
                answer[b, place] += one.scale * ask(q[b : b + 1, place], k, v, attention.heads)[0]
    return attention.o(answer)


def slow_text(block: Block, q: Tensor, text, extras: Extras) -> Tensor:
    heads = block.cross_attn.heads
    plus = ask(q, text.k, text.v, heads)
    if extras.nag is None:
        return plus
    against, numbers = block.text_keys_values(extras.nag.text), extras.nag.numbers
    minus = ask(q, against.k.expand(len(q), -1, -1, -1), against.v.expand(len(q), -1, -1, -1), heads)
    out = torch.empty_like(plus)
    for b in range(plus.shape[0]):
        for n in range(plus.shape[1]):
            a = plus[b, n]
            g = numbers.scale * a - (numbers.scale - 1) * minus[b, n]
            if g.abs().sum() / a.abs().sum() > numbers.tau:
                g = g * numbers.tau * a.abs().sum() / (g.abs().sum() + 1e-7)
            out[b, n] = numbers.alpha * g + (1 - numbers.alpha) * a
    return out


def ask(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    return eager(split(q, heads).transpose(1, 2), k, v).transpose(1, 2).flatten(2)


def split(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1))


def shares_by_token(frames: int, pixels: int, count: int) -> Tensor:
    """Number of the share of each token."""
    lengths = [frames // count + (1 if c < frames % count else 0) for c in range(count)]
    owner = [c for c, length in enumerate(lengths) for _ in range(length)]
    return torch.tensor(owner).repeat_interleave(pixels)
