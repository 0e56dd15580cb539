"""The page: a request becomes a talking video, window by window."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from functools import partial
from time import perf_counter

import torch

from infinite_talk.conditioning import References, encode, guide_for
from infinite_talk.conditioning.speech import speech_frames
from infinite_talk.denoise.caches import SkipCount, skip_note, step_cache
from infinite_talk.denoise.denoiser import Denoiser, Plain
from infinite_talk.denoise.frame_times import KnowingMotion
from infinite_talk.denoise.loop import walk
from infinite_talk.denoise.noise import NoiseSource, ahead, seeded, step_noise
from infinite_talk.denoise.sampler import Sampler
from infinite_talk.denoise.strengths import WithStrengths, varying_strengths
from infinite_talk.media.colour import ColourReference, match_colour
from infinite_talk.models.dit import WanTransformer
from infinite_talk.ops.host import to_host
from infinite_talk.ops.peak import forget_peak, peak_bytes
from infinite_talk.plan.windows import plan_official, plan_windows
from infinite_talk.presets import given
from infinite_talk.progress import Clock, Listener, Phase, silent
from infinite_talk.request import Compat, Request
from infinite_talk.rooms import Rooms
from infinite_talk.types import Clip, Plan, Source, Window


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """Where a run begins: at the first window, or where an earlier run has stopped."""

    window: int = 0
    motion: torch.Tensor | None = None  # ``Clip.motion`` of the window before


def generate(
    request: Request,
    source: Source,
    rooms: Rooms,
    *,
    start: Start = Start(),
    noise: NoiseSource | None = None,
    listen: Listener = silent,
) -> Generator[Clip]:
    """Let the portrait speak: yield finished clips, window by window, in order. ``request`` is resolved."""
    plan = plan_for(source, request)
    sampler, noise = Sampler.of(request, rooms.width), noise or seeded(request.seed)
    clock = Clock(listen, len(plan.windows), sampler.steps, first=start.window, runs=rooms.runs)
    clock.phase(Phase.ENCODING)
    conditioning = encode(source, plan, request, rooms, partial(clock.phase, Phase.ENCODING))
    clock.say((*conditioning.notes, *sampler.notes))
    references = References(source, given(request.window_frames), rooms)
    references.at(plan.windows[start.window].reference)  # before the transformer needs the memory
    motion, colours, skips, told = start.motion, None, SkipCount(), ""
    todo = plan.windows[start.window :]
    with rooms.using(rooms.transformer) as transformer, ahead(noise, todo) as noise_of:
        clock.ready()
        denoiser = denoiser_for(request, sampler, transformer, rooms, skips)
        for window in todo:
            began = perf_counter()
            forget_peak(rooms.device)
            clock.phase(Phase.SAMPLING)
            if colours is None or not window.overlap:  # a new shot has colours of its own
                colours = shot_colours(plan, window, references)
            guide = guide_for(window, conditioning, references, motion, rooms)
            start_from = sampler.noise_scale * noise_of(window, guide.latent_shape)
            more = step_noise(request.seed, window.index)
            latent = walk(denoiser, sampler, guide, start_from, clock.step, step_noise=more).latent
            skipped = skips.take()
            if (note := skip_note(request.step_cache, skipped, sampler.steps)) != told:
                clock.say([note])  # of the first window, and where another differs
                told = note
            clock.phase(Phase.DECODING, sampler.steps)
            video = match_colour(rooms.decode_video(latent), colours, request.colour_strength)
            motion = video[:, -given(request.motion_frames) :].clone()
            levels = to_bytes(video[:, window.overlap :][:, : window.new], request.compat)
            frames, kept = to_host(levels, motion)
            del latent, video, levels  # the next window may need the memory
            clock.window_done()
            yield Clip(window, frames, kept, perf_counter() - began, skipped, peak_bytes(rooms.device))


def plan_for(source: Source, request: Request) -> Plan:
    """The windows of a resolved request."""
    frames, motion = given(request.window_frames), given(request.motion_frames)
    if request.compat is Compat.OFFICIAL:
        lengths = [speech_frames(len(waveform)) for waveform in source.speech]
        limit = OFFICIAL_MAX_FRAMES if request.max_frames is None else request.max_frames
        return plan_official(lengths, frames=frames, motion=motion, max_frames=limit)
    return plan_windows(source.frames, frames=frames, motion=motion, cuts=source.cuts)


OFFICIAL_MAX_FRAMES = 1000
"""Where the official program stops when it is not told."""


def denoiser_for(
    request: Request,
    sampler: Sampler,
    transformer: WanTransformer,
    rooms: Rooms,
    skips: SkipCount | None = None,
) -> Denoiser:
    """The transformer, inside a step cache when the request wants one, with LoRA strengths that follow the steps."""
    denoiser: Denoiser = (plain := Plain(transformer, batched=rooms.batch_branches))
    if request.step_cache is not None:
        denoiser = step_cache(plain, sampler, request.step_cache, skips)
    if sampler.by_frame:
        denoiser = KnowingMotion(denoiser, transformer, sampler.steps)
    strengths = varying_strengths(transformer)
    return denoiser if strengths is None else WithStrengths(denoiser, strengths)


def shot_colours(plan: Plan, window: Window, references: References) -> ColourReference:
    """The colours that a window keeps: those of the picture with which its shot began."""
    first = next(w for w in reversed(plan.windows[: window.index + 1]) if not w.overlap)
    return ColourReference.of(references.picture(first.reference))


def to_bytes(video: torch.Tensor, compat: Compat) -> torch.Tensor:
    """Frames ``(3, F, H, W)`` in [-1, 1] as uint8 ``(F, H, W, 3)``.

    Rounded to the nearest level; the official program cuts the fraction off, which darkens by half a level.
    """
    levels = (video + 1) / 2 * 255
    if compat is Compat.FIXED:
        levels = levels.round()
    return levels.clamp(0, 255).to(torch.uint8).permute(1, 2, 3, 0).contiguous()
