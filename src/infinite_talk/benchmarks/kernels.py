"""Attention and products by themselves, at the shapes of the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch

from infinite_talk.benchmarks.ceilings import attention_call, shapes_of
from infinite_talk.benchmarks.clock import peak_memory, sustained, times_of
from infinite_talk.benchmarks.stand import Prepared, Stand
from infinite_talk.benchmarks.watch import Watch
from infinite_talk.ops.linear import Packed, PackedLinear
from infinite_talk.weights.precision import POLICIES


def measure_attention(prepared: Prepared, stand: Stand) -> dict[str, Any]:
    """The self-, text and speech attention of one block."""
    config, work, device, dtype = prepared.config, prepared.work, prepared.device, prepared.how.dtype
    attention = prepared.how.attention.kernel
    tokens, frame = work.tokens(config.patch_size), work.tokens(config.patch_size) // work.latents
    keys = {
        "cross": (1, tokens, config.text_len + config.clip_tokens),
        "speech": (work.latents, frame, work.people * config.context_tokens),
    }
    calls: dict[str, tuple[Callable[[], object], float]] = {
        "self": (attention_call(attention, config, tokens, dtype, device), 4.0 * tokens**2 * config.dim)
    }
    for name, (batch, queries, length) in keys.items():
        q, k, v = (
            torch.randn(batch, config.num_heads, rows, config.head_dim, device=device, dtype=dtype)
            for rows in (queries, length, length)
        )
        calls[name] = (
            lambda q=q, k=k, v=v: attention(q, k, v),  # type: ignore[misc]
            4.0 * batch * queries * length * config.dim,
        )
    return {"tokens": tokens, "jobs": {n: _timed(n, *call, prepared, stand) for n, call in calls.items()}}


def measure_linear(prepared: Prepared, stand: Stand) -> dict[str, Any]:
    """Products with the weights of a block, in the chosen format, bias and quantisation of the rows included."""
    config, work, device, dtype = prepared.config, prepared.work, prepared.device, prepared.how.dtype
    tokens = work.tokens(config.patch_size)
    policy = POLICIES[prepared.how.quantization]
    jobs = {}
    for inputs, outputs in shapes_of(config):
        weight = torch.randn(outputs, inputs, device=device, dtype=dtype) * inputs**-0.5
        x, bias = torch.randn(tokens, inputs, device=device, dtype=dtype), weight.new_zeros(outputs)
        layer: torch.nn.Module
        kept = policy.store("blocks.0.ffn.0.weight", weight, dtype)
        if isinstance(kept, Packed):
            layer = PackedLinear(kept, bias, dtype)
        else:
            layer = torch.nn.Linear(inputs, outputs, device="meta")
            layer.load_state_dict({"weight": kept, "bias": bias}, assign=True)
        name = f"{inputs}x{outputs}"
        call = lambda layer=layer, x=x: layer(x)  # noqa: E731
        jobs[name] = _timed(name, call, 2.0 * tokens * inputs * outputs, prepared, stand)
    return {"tokens": tokens, "jobs": jobs}


def _timed(
    name: str, call: Callable[[], object], flops: float, prepared: Prepared, stand: Stand
) -> dict[str, Any]:
    """One call at a time, and under load."""
    device, case = prepared.device, prepared.case
    stand.say(f"{case.what}: {name}")
    seconds = case.ceiling if case.ceiling is not None else 2.0 if device.type == "cuda" else 0.05
    with torch.inference_mode(), Watch(device) as watch:
        with peak_memory(device) as peak:
            spread = times_of(call, device, repeats=case.repeats, warm_up=0.0)
        under_load = sustained(call, device, seconds)
    return {
        "seconds": spread.as_dict(),
        "flops": flops,
        "tflops": flops / spread.median / 1e12,
        "sustained_tflops": flops / under_load / 1e12,
        "memory": asdict(peak[0]),
        "power": watch.summary(),
    }
