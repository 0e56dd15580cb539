"""The memory planner: from sizes and a limit to where everything lives, cheapest sacrifice first.

A plan is the first of an ordered list of choices that fits, so that the same limit always gives the same plan,
and less memory never a plan that needs more. From cheap to dear:

1. everything stays on the device, small guidance branches as one batch, then one after another;
2. the codec works on fewer frames at a time; blocks compute the keys and values of text, picture and speech
   anew at each step, and work on fewer tokens at a time (a few percent of time, same numbers);
3. the encoders leave the device after use (seconds per video);
4. blocks live in host memory and are copied for each step, one more at a time (hidden behind compute while a
   block's copy is faster than its work);
5. the codec works in tiles (what they share is computed twice; same numbers);
6. no block is copied ahead.

The text encoder passes through layer by layer where it does not fit beside the transformer, once per video.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import inf

from infinite_talk.errors import CapabilityError, UsageError
from infinite_talk.memory import costs
from infinite_talk.memory.sizes import ModelSizes
from infinite_talk.memory.speed import GIB, Speed
from infinite_talk.memory.stages import (
    PER_WINDOW,
    Choice,
    Needs,
    Stage,
    resident_bytes,
    stages_of,
)
from infinite_talk.memory.work import Work
from infinite_talk.models.vae.config import CACHE_BYTES, MAP_BYTES_GPU
from infinite_talk.models.vae.tiles import decoder_reach
from infinite_talk.settings import Memory

CONTEXT = 0.5 * GIB
"""What the driver takes for a process on a GPU, outside of torch's allocator."""
SPARE_SHARE, SPARE = 0.03, 0.06 * GIB
"""Kept free: holes between tensors in torch's allocator, and workspaces of libraries."""
ROWS = (16384, 8192, 4096, 2048)
"""Tokens of a block at once, where all are too many."""
TILES = (512, 384, 256, 128, 64)
"""Pixels along a side of a tile of the codec, without what it shares with its neighbours."""
NOTCH = 0.9
"""A plan one notch lower needs at most this share of the memory."""
BATCH_GPU, BATCH_CPU = 2e11, 7e8
"""Operations of one branch in a block below which branches are put in one batch.

On an H200 a batch of three took a third of the time of three passes up to 4e10, where launching takes the time, and
as long at 1.2e12. On one core of a CPU it took 0.8 of the time at 4.5e8, and 1.15 of it at 1.9e9, where one branch
alone fits the caches better (python -m bench.branches).
"""
UNASKED = Memory()


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Where everything lives, and how much is worked on at a time."""

    blocks_to_swap: int
    """Blocks of the transformer in host memory."""
    prefetch_blocks: int
    """How many of them are copied ahead of their use."""
    keep_keys_values: bool
    """Keys and values of text, picture and speech are kept for a window, or computed anew at each step."""
    rows_at_once: int | None
    """Tokens that a block works on at a time; ``None``: all."""
    batch_branches: bool
    """The guidance branches of a step are one batch, or follow one another."""
    decode_frames: int
    """Video frames that the codec takes at a time, a multiple of its stride in time."""
    vae_tile: int | None
    """Pixels along a side of a tile of the codec; ``None``: whole frames."""
    keep_encoders: bool
    text_blocks_to_swap: int
    """Layers of the text encoder in host memory: all or none, whether or not it fits beside the transformer."""
    peak: float
    """Bytes of tensors on the device at the worst moment; CUDA's context is not counted."""
    host: float
    """Bytes of host memory at the worst moment; 0 when the host is the device."""
    limit: float
    """Bytes that tensors may take on the device."""
    stages: tuple[Stage, ...]
    reason: str
    """One line: what is done to fit."""

    @property
    def seconds_per_window(self) -> float:
        """Expected; 0 when the machine's speed is not known."""
        return sum(stage.seconds for stage in self.stages if stage.name in PER_WINDOW)

    @property
    def seconds_once(self) -> float:
        """Expected for what is done once per video."""
        return sum(stage.seconds for stage in self.stages if stage.name not in PER_WINDOW)


def plan_memory(
    model: ModelSizes,
    work: Work,
    limit_bytes: float,
    asked: Memory = UNASKED,
    *,
    gpu: bool = True,
    host_limit: float | None = None,
    speed: Speed | None = None,
) -> MemoryPlan:
    """The first choice that fits.

    Args:
        limit_bytes: what tensors may take on the device, CUDA's context not counted (``allocator_limit``); on
            a CPU, free memory.
        asked: what the user decided; the planner keeps to it.
        gpu: whether the device has a memory of its own. On a CPU nothing can be moved elsewhere.
        host_limit: free host memory beside a GPU; ``None``: not looked at.

    Raises:
        UsageError: ``asked`` has no meaning for this model.
        CapabilityError: no choice fits; says the least memory that would do.
    """
    _check(model, asked)
    needs = Needs(model, work, gpu=gpu)
    short, least = [], []
    for choice in choices(model, work, asked, limit_bytes, gpu=gpu):
        needed, host = with_spare(needs.peak(choice)), needs.host(choice)
        if needed > limit_bytes:
            least.append(needed)
        elif host_limit is not None and host > host_limit:
            short.append(host)
        else:
            return _plan(needs, choice, limit_bytes, speed)
    if short and host_limit is not None:
        raise CapabilityError(_no_host(model, work, min(short), host_limit))
    raise CapabilityError(_no_room(model, work, min(least), limit_bytes))


def replan(
    plan: MemoryPlan,
    model: ModelSizes,
    work: Work,
    asked: Memory = UNASKED,
    *,
    host_limit: float | None = None,
    speed: Speed | None = None,
) -> MemoryPlan:
    """One notch lower, for another try on the GPU after its memory ran out.

    Raises:
        CapabilityError: there is no lower one.
    """
    lower = min(plan.limit, NOTCH * with_spare(plan.peak))
    return plan_memory(model, work, lower, asked, host_limit=host_limit, speed=speed)


def allocator_limit(gib: float) -> float:
    """What tensors may take when a process may take ``gib`` GiB of a GPU in all."""
    return max(0.0, gib * GIB - CONTEXT)


def with_spare(peak: float) -> float:
    """Bytes that must be free for a peak of tensors."""
    return peak * (1 + SPARE_SHARE) + SPARE


def choices(model: ModelSizes, work: Work, asked: Memory, limit: float, *, gpu: bool) -> Iterator[Choice]:
    """All choices that ``asked`` leaves open, in the order of the page's head."""
    for tile in _tiles(work, asked):
        for keep, swap, prefetch in _places(model, asked, gpu=gpu):
            streamed = gpu and not keep and not _text_fits(model, work, swap, prefetch, limit)
            for kept, rows, batched in _pieces(model, work, gpu=gpu):
                for frames in _frames(model, work, tile, gpu=gpu):
                    yield Choice(keep, streamed, swap, prefetch, kept, rows, frames, tile, batched)
    if gpu and asked.prefetch_blocks is None and asked.blocks_to_swap != 0:
        yield from choices(model, work, replace(asked, prefetch_blocks=0), limit, gpu=gpu)


def _tiles(work: Work, asked: Memory) -> list[int | None]:
    longest = max(work.size.height, work.size.width)
    small: list[int | None] = [tile for tile in TILES if tile < longest]
    if asked.vae_tiling is None:
        return [None, *small]
    return small if asked.vae_tiling and small else [None]


def _places(model: ModelSizes, asked: Memory, *, gpu: bool) -> Iterator[tuple[bool, int, int]]:
    """Whether encoders stay, how many blocks do not, and how many of those are copied ahead."""
    layers = model.transformer.num_layers
    keeps = [True, False] if asked.keep_encoders is None else [asked.keep_encoders]
    if not gpu:
        yield keeps[0], 0, 0
        return
    ahead = 1 if asked.prefetch_blocks is None else asked.prefetch_blocks
    if asked.blocks_to_swap is not None:
        for keep in keeps:
            yield keep, asked.blocks_to_swap, ahead if asked.blocks_to_swap else 0
        return
    for keep in keeps:
        yield keep, 0, 0
    for swap in range(ahead + 2, layers + 1):  # fewer give no more than their landing places take
        yield keeps[-1], swap, ahead


def _pieces(model: ModelSizes, work: Work, *, gpu: bool) -> list[tuple[bool, int | None, bool]]:
    """Whether keys and values are kept, tokens at a time, and whether the branches are one batch."""
    tokens = work.tokens(model.transformer.patch_size)
    pieces = [(True, None), (False, None), *((False, rows) for rows in ROWS if rows < tokens)]
    found = [(kept, rows, False) for kept, rows in pieces]
    return [(True, None, True), *found] if batch_pays(model, work, gpu=gpu) else found


def batch_pays(model: ModelSizes, work: Work, *, gpu: bool) -> bool:
    """Whether the branches of a step are faster as one batch than one after another.

    From the sizes and not from a stopwatch: a batch may round otherwise than its samples, and the same request
    has to give the same video again.
    """
    operations = sum(costs.pass_flops(model.transformer, work.tokens(model.transformer.patch_size)))
    limit = BATCH_GPU if gpu else BATCH_CPU
    return work.branches > 1 and operations / model.transformer.num_layers < limit


def _frames(model: ModelSizes, work: Work, tile: int | None, *, gpu: bool) -> list[int]:
    """From the whole window, if it is small, down to one latent frame."""
    config = model.vae
    pixels = work.pixels
    if tile is not None:
        pixels = costs.tile_places(config, work, tile, decoder_reach(config)) * config.spatial_stride**2
    map_of_one = config.temporal_stride * pixels * model.vae_base * config.dim / config.patch**2
    most = MAP_BYTES_GPU if gpu else CACHE_BYTES
    latents = min(work.latents, max(1, int(most / map_of_one)))
    found = []
    while latents >= 1:
        found.append(latents * config.temporal_stride)
        latents //= 2
    return found


def _text_fits(model: ModelSizes, work: Work, swap: int, prefetch: int, limit: float) -> bool:
    """Whether the text encoder fits beside the transformer when the other encoders are away."""
    beside = 0.0 if work.first else resident_bytes(model, swap, prefetch)
    return with_spare(beside + model.text.weights + model.text.work) <= limit


def _check(model: ModelSizes, asked: Memory) -> None:
    layers = model.transformer.num_layers
    if asked.blocks_to_swap is not None and not 0 <= asked.blocks_to_swap <= layers:
        raise UsageError(
            f"{asked.blocks_to_swap} blocks to swap were asked for, but the transformer has {layers}; choose "
            f"0 to {layers}, or leave it to the planner."
        )
    if asked.prefetch_blocks is not None and asked.prefetch_blocks < 0:
        raise UsageError(f"{asked.prefetch_blocks} blocks ahead make no sense; choose 0 or more.")


def _plan(needs: Needs, choice: Choice, limit: float, speed: Speed | None) -> MemoryPlan:
    return MemoryPlan(
        blocks_to_swap=choice.swap,
        prefetch_blocks=choice.prefetch,
        keep_keys_values=choice.keys_kept,
        rows_at_once=choice.rows,
        batch_branches=choice.batched,
        decode_frames=choice.frames,
        vae_tile=choice.tile,
        keep_encoders=choice.keep_encoders,
        text_blocks_to_swap=needs.model.text.layers if choice.text_streamed else 0,
        peak=needs.peak(choice),
        host=needs.host(choice),
        limit=limit,
        stages=stages_of(needs, choice, speed),
        reason=_reason(needs.model, needs.work, choice, limit),
    )


def _reason(model: ModelSizes, work: Work, choice: Choice, limit: float) -> str:
    """What is done to fit, and nothing else."""
    done = []
    if choice.swap:
        ahead = f"{choice.prefetch} ahead" if choice.prefetch else "none ahead"
        done.append(f"{choice.swap} of {model.transformer.num_layers} blocks stay in host memory ({ahead})")
    if not choice.keys_kept:
        done.append("keys and values are computed at each step")
    if choice.rows is not None:
        tokens = work.tokens(model.transformer.patch_size)
        done.append(f"blocks take {choice.rows} of {tokens} tokens at a time")
    if choice.frames < work.latents * model.vae.temporal_stride:
        done.append(f"VAE in {choice.frames}-frame chunks")
    if choice.tile is not None:
        done.append(f"VAE in tiles of {choice.tile} pixels")
    if not choice.keep_encoders:
        done.append("encoders leave after use")
    if choice.text_streamed:
        done.append("the text encoder passes through layer by layer")
    said = ", ".join(done) or "everything stays loaded"
    return said if limit == inf else f"{limit / GIB:.1f} GiB free: {said}"


def _no_room(model: ModelSizes, work: Work, needed: float, limit: float) -> str:
    return (
        f"{_what(model, work)} takes at least {needed / GIB:.1f} GiB of memory on the device beside what the driver "
        f"takes, {max(0.0, limit) / GIB:.1f} GiB are free. Choose a smaller size, fewer window frames, less guidance "
        "(a text or audio guidance of 1 saves a branch), or a narrower quantization; leave blocks_to_swap, "
        "vae_tiling and keep_encoders to the planner."
    )


def _no_host(model: ModelSizes, work: Work, needed: float, limit: float) -> str:
    return (
        f"{_what(model, work)} fits the GPU with {needed / GIB:.1f} GiB of host memory, {limit / GIB:.1f} GiB are "
        "free. Close other programs, or choose a narrower quantization (fp8_e4m3fn_scaled, nf4, a GGUF file)."
    )


def _what(model: ModelSizes, work: Work) -> str:
    return (
        f"{model.name} at {work.size.width}x{work.size.height} with {work.frames} frames a window and "
        f"{work.branches} guidance branches"
    )
