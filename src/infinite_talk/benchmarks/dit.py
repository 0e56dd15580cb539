"""The transformer: one forward pass, and the steps of the real loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor

from infinite_talk.benchmarks.ceilings import Ceilings
from infinite_talk.benchmarks.clock import Marks, Spread, peak_memory, settle, times_of
from infinite_talk.benchmarks.profile import profiled
from infinite_talk.benchmarks.stand import Prepared, Stand
from infinite_talk.benchmarks.watch import Watch
from infinite_talk.denoise.denoiser import Denoiser
from infinite_talk.denoise.guidance import Branch
from infinite_talk.denoise.loop import denoise
from infinite_talk.denoise.noise import noise_for
from infinite_talk.denoise.sampler import Sampler
from infinite_talk.errors import NumericalError
from infinite_talk.generate import denoiser_for
from infinite_talk.memory.flops import Kind, Numbers, Part, forward_parts, step_flops, total, total_bytes
from infinite_talk.models.dit import WanTransformer
from infinite_talk.models.dit.blocks import Block
from infinite_talk.types import Guide

AT = 900.0
"""Time of the measured pass, 0..1000; nothing depends on it."""


def measure_dit(prepared: Prepared, stand: Stand) -> dict[str, Any]:
    """Everything that is said of a case of the transformer."""
    case, device = prepared.case, prepared.device
    rooms = prepared.rooms
    with rooms.using(rooms.transformer) as transformer, torch.inference_mode():
        guide = random_guide(prepared)
        sampler = Sampler.of(prepared.job.request)
        denoiser = denoiser_for(prepared.job.request, sampler, transformer, rooms)
        found = forward(prepared, transformer, denoiser, guide)
        if case.branches > 1 or case.steps is not None:
            found["step"] = steps(prepared, transformer, denoiser, guide)
        if case.profile:
            found["profile"] = profiled(
                one_pass(prepared, transformer, denoiser, guide),
                lambda on_step: walk(prepared, denoiser, guide, 3, on_step),
                device,
            )
    ceilings = stand.meter(prepared).ceilings(
        prepared.config,
        found["tokens"],
        prepared.how.dtype,
        prepared.how.attention.kernel,
        name=prepared.how.attention.name,
        float8=narrow(prepared),
    )
    found |= judged(prepared, found["seconds"]["median"], ceilings)
    return found


def forward(
    prepared: Prepared, transformer: WanTransformer, denoiser: Denoiser, guide: Guide
) -> dict[str, Any]:
    """Times, memory and the size of the answer of one pass for one branch."""
    device, case = prepared.device, prepared.case
    conditioned = times_of(lambda: denoiser.condition(guide, Branch.COND), device, repeats=1, warm_up=0.0)
    once = one_pass(prepared, transformer, denoiser, guide)
    answer = once()
    deviation = float(answer.std())
    if not bool(torch.isfinite(answer).all()):
        raise NumericalError(
            "The transformer with random weights gave NaN or infinity, so that its time means nothing; choose "
            "another precision or --seed."
        )
    del answer
    with Watch(device) as watch, peak_memory(device) as peak:
        spread = times_of(once, device, repeats=case.repeats, warm_up=prepared.warm_up)
    tokens = prepared.work.tokens(prepared.config.patch_size)
    return {
        **scaled(prepared, spread),
        "tokens": tokens,
        "condition_seconds": conditioned.median,
        "output_std": deviation,
        "memory": asdict(peak[0]),
        "power": watch.summary(),
    }


def one_pass(
    prepared: Prepared, transformer: WanTransformer, denoiser: Denoiser, guide: Guide
) -> Callable[[], Tensor]:
    """A pass for one branch, its condition and inputs at hand."""
    condition = denoiser.condition(guide, Branch.COND)
    time = torch.tensor([AT], device=prepared.device)
    latent = noise_for(prepared.case.seed, 0, guide.latent_shape).to(prepared.device)[None]

    def once() -> Tensor:
        answer: Tensor = transformer(latent, time, condition)
        return answer

    return once


def steps(
    prepared: Prepared, transformer: WanTransformer, denoiser: Denoiser, guide: Guide
) -> dict[str, Any]:
    """Seconds of each step of the real loop but the first, which has the conditions in it."""
    case = prepared.case
    count = case.steps if case.steps is not None and case.steps > 2 else case.repeats + 1
    shared = shares_first_block(prepared, transformer, denoiser, guide)  # warms up, too
    marks = Marks(prepared.device)
    walk(prepared, denoiser, guide, max(count, 3), lambda _step: marks.mark())
    spread = Spread.of(marks.seconds())
    return {
        "branches": prepared.work.branches,
        "shares_first_self_attention": shared,
        "tflops": step_flops(prepared.config, prepared.work, shared=shared) / spread.median / 1e12,
        **scaled(prepared, spread),
        "variation": spread.relative_std,
        "largest_deviation": max(abs(one / spread.median - 1) for one in spread.all),
    }


def walk(prepared: Prepared, denoiser: Denoiser, guide: Guide, count: int, on_step: Any) -> None:  # noqa: ANN401
    """So many steps of the real loop on one window."""
    sampler = Sampler.of(replace(prepared.job.request, steps=count))
    noise = noise_for(prepared.case.seed, 0, guide.latent_shape)
    denoise(denoiser, sampler, guide, noise, on_step or (lambda _step: None))
    settle(prepared.device)


def scaled(prepared: Prepared, spread: Spread) -> dict[str, Any]:
    """Measured seconds, and what they come to for all layers where some were left out."""
    found: dict[str, Any] = {"seconds": spread.as_dict(), "layers": prepared.config.num_layers}
    if prepared.config.num_layers != prepared.layers:
        share = prepared.layers / prepared.config.num_layers
        found["estimate"] = {
            "seconds": spread.median * share,
            "layers": prepared.layers,
            "says": f"not measured: {prepared.config.num_layers} of {prepared.layers} layers, scaled",
        }
    return found


def judged(prepared: Prepared, seconds: float, ceilings: Ceilings) -> dict[str, Any]:
    """Operations of the pass as it is done and as published, and both against the ceilings."""
    config, work = prepared.config, prepared.work
    base = prepared.how.dtype.itemsize
    numbers = Numbers(stream=base, weight=1 if narrow(prepared) else base)
    ours = forward_parts(config, work, numbers=numbers)
    official = forward_parts(config, work, official=True, numbers=numbers)
    return {
        "flops": {
            "ours": total(ours),
            "official": total(official),
            "parts": {name: flops for name, flops in by_name(ours).items() if flops},
        },
        "tflops": {"ours": total(ours) / seconds / 1e12, "official": total(official) / seconds / 1e12},
        "ceilings": ceilings.as_dict(),
        "limit": limits(ours, official, seconds, ceilings, float8=narrow(prepared)),
    }


def limits(
    ours: tuple[Part, ...], official: tuple[Part, ...], seconds: float, ceilings: Ceilings, *, float8: bool
) -> dict[str, float]:
    """Least seconds, and the share of them in what was measured."""
    least, published = (ceilings.limit(parts, float8=float8) for parts in (ours, official))
    matrices = [part for part in ours if part.kind is Kind.GEMM]
    return {
        "seconds": least,
        "fraction": least / seconds,
        "gemm_seconds": ceilings.limit(matrices, float8=float8),
        "attention_seconds": least - ceilings.limit(matrices, float8=float8),
        "elementwise_floor_seconds": total_bytes(ours, Kind.ELEMENTWISE) / ceilings.copy,
        "official_seconds": published,
        "official_fraction": published / seconds,
    }


def by_name(parts: tuple[Part, ...]) -> dict[str, float]:
    """Operations by the name of the part."""
    found: dict[str, float] = {}
    for part in parts:
        found[part.name] = found.get(part.name, 0.0) + part.flops
    return found


def random_guide(prepared: Prepared) -> Guide:
    """A window's guide of the right shapes with random contents; everyone owns an equal part of the picture."""
    config, work, device = prepared.config, prepared.work, prepared.device
    generator = torch.Generator().manual_seed(prepared.case.seed)

    def made(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device)

    height, width = work.size.latent
    masks = torch.zeros(work.people + 1, height, width, device=device)
    for person, columns in enumerate(torch.arange(width).tensor_split(work.people + 1)):
        masks[person, :, columns.to(device)] = 1.0
    speech = (config.audio_window, config.audio_blocks, config.audio_channels)
    return Guide(
        text=made(config.text_len // 2, config.text_dim),
        negative=made(config.text_len // 2, config.text_dim),
        image=made(config.clip_tokens, config.clip_dim),
        reference=made(config.reference_dim, work.latents, height, width),
        speech=made(work.people, work.frames, *speech),
        token_masks=masks,
        motion=made(config.out_dim, 1, height, width),
    )


def narrow(prepared: Prepared) -> bool:
    """Whether the blocks' products are in float8."""
    name = prepared.how.quantization
    return name.startswith("fp8") and name.endswith("_fast")


def shares_first_block(
    prepared: Prepared, transformer: WanTransformer, denoiser: Denoiser, guide: Guide
) -> bool:
    """Whether the branches of a step share the first block's self-attention: looked at in two steps."""
    calls = []
    first = next(iter(transformer.blocks.children()))
    assert isinstance(first, Block)
    hook = first.self_attn.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        walk(prepared, denoiser, guide, 2, None)
    finally:
        hook.remove()
    return len(calls) < 2 * prepared.work.branches
