"""The MultiTalk and InfiniteTalk loop of the nodes: one long video, window by window, each handed out when finished.

The time line is cut by ``plan``, a window is walked by ``denoise``; here is what the nodes do differently from
``generate``:

* window k starts from picture k of a batch (the last one stays), not from the source's picture at that time;
* CLIP sees the first picture only, once;
* frames take their colours from the window's picture (InfiniteTalk) or the first one (MultiTalk), by name of a method;
* latents of a source video may be the start of each window (``samples``);
* ``multitalk``: the last frames are told by the reference latents, and have the noise of the moment.

And differently from the node pack: the video is exactly as long as its speech (the pack's is ``F + (n - 1)(F - M)``
frames), and noise depends on the seed and the window alone, so that windows can be made again.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Protocol

import torch

from infinite_talk.conditioning.image import MID_GREY
from infinite_talk.conditioning.speech import speech_window
from infinite_talk.conditioning.text import prompt_for
from infinite_talk.denoise.keeping import Keep, Motion, NoisedMotion, nothing
from infinite_talk.denoise.noise import NoiseSource, ahead
from infinite_talk.denoise.start import Start
from infinite_talk.media.colour_transfer import transfer_colours
from infinite_talk.nodes.embeds import LATENT_CHANNELS, Samples, Talk, Texts
from infinite_talk.nodes.voices import Speech, people_masks
from infinite_talk.ops.host import to_device, to_host
from infinite_talk.plan.speech import speech_indices
from infinite_talk.plan.windows import given_frames_mask, plan_windows
from infinite_talk.progress import Clock, Phase
from infinite_talk.rooms import Codec
from infinite_talk.types import TEMPORAL_STRIDE, Guide, Plan, Window, latent_frames


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """The frames that one window adds to the video."""

    window: Window
    frames: torch.Tensor  # (new, H, W, 3) in [-1, 1], float32, CPU
    motion: torch.Tensor  # (3, M, H, W), likewise: what the next window goes on from
    seconds: float


class Walker(Protocol):
    """Makes latents; ``ModelWalker`` of ``nodes/walking.py``."""

    @property
    def steps(self) -> int:
        """Steps of a window."""
        ...

    def __call__(self, window: Window, guide: Guide, start: Start, keep: Keep) -> torch.Tensor:
        """The latent ``(16, T, h, w)`` of a window."""
        ...

    def rest(self) -> None:
        """Let the transformer go until it is needed again."""
        ...

    def until_it_fits(self, make: Callable[[], torch.Tensor]) -> torch.Tensor:
        """What ``make`` makes; again, with less memory, where that ran out."""
        ...


def talking_clips(
    talk: Talk,
    speech: Speech,
    texts: Texts,
    samples: Samples | None,
    walker: Walker,
    codec: Callable[[], Codec],
    noise: NoiseSource,
    clock: Clock,
    begin: tuple[int, torch.Tensor | None] = (0, None),
) -> Generator[Made]:
    """Make the video; closing the generator, or raising ``Cancelled`` in the listener, stops it.

    ``codec`` gives what encodes and decodes, in pieces as large as the memory of the moment allows; ``begin``: number
    of the first window to make, and the ``motion`` of the one before it.
    """
    plan = plan_of(talk, speech)
    scene = _Scene(talk, speech, texts, plan, codec)
    first, motion = begin[0], None if begin[1] is None else begin[1].to(codec().device)
    with ahead(noise, plan.windows[first:]) as noise_of:
        for window in plan.windows[first:]:
            began = perf_counter()
            drawn = noise_of(window, scene.latent_shape)
            make = partial(_window_video, scene, walker, codec, clock, window, drawn, samples, motion)
            video = walker.until_it_fits(make)
            motion = video[:, -talk.motion :].clone()
            new = video[:, window.overlap :][:, : window.new].permute(1, 2, 3, 0).contiguous()
            frames, kept = to_host(new, motion)
            del video, new  # the next window may need the memory
            clock.window_done()
            yield Made(window, frames, kept, perf_counter() - began)


def _window_video(
    scene: _Scene,
    walker: Walker,
    codec: Callable[[], Codec],
    clock: Clock,
    window: Window,
    noise: torch.Tensor,
    samples: Samples | None,
    motion: torch.Tensor | None,
) -> torch.Tensor:
    """The frames of one window ``(3, F, H, W)``, in its colours."""
    clock.phase(Phase.SAMPLING)
    guide = scene.guide(window, motion)
    start = scene.start(window, noise, samples)
    latent = walker(window, guide, start, scene.held(window, guide, start))
    if scene.talk.rest:
        walker.rest()
    clock.phase(Phase.DECODING, walker.steps)
    return transfer_colours(codec().decode_video(latent), scene.colours(window), scene.talk.colours)


def plan_of(talk: Talk, speech: Speech) -> Plan:
    """The windows. Where one is enough, the motion frames need not fit into it.

    Raises:
        UsageError: the motion frames leave nothing new in a window.
    """
    motion = talk.motion if speech.frames > talk.frames else 1
    return plan_windows(speech.frames, frames=talk.frames, motion=motion)


def source_slice(latents: torch.Tensor, window: Window) -> torch.Tensor:
    """The latents of a source ``(C, t, h, w)`` under a window; the last one holds on, ``(C, T, h, w)``.

    Windows begin every ``(F - M) / 4`` latents, though latents of one long video and of a window of its own are cut
    differently: only the first latent of a video stands for a single frame.
    """
    first = window.start // TEMPORAL_STRIDE
    wanted = torch.arange(first, first + latent_frames(window.frames)).clamp(max=latents.shape[1] - 1)
    return latents[:, wanted.to(latents.device)]


class _Scene:
    """What a window is told; only what is constant is kept."""

    def __init__(
        self, talk: Talk, speech: Speech, texts: Texts, plan: Plan, codec: Callable[[], Codec]
    ) -> None:
        self.talk, self._speech, self._codec, self._device = talk, speech, codec, codec().device
        to = self._device
        self._prompts = tuple(prompt.to(to) for prompt in texts.prompts)
        self._negative, self._image = texts.negative.to(to), talk.image.to(to)
        self._negative_image = None if talk.negative_image is None else talk.negative_image.to(to)
        people = len(speech.features)
        self._masks = people_masks(speech.places, people, talk.size).to(to)
        self._hearing = [
            tuple(torch.from_numpy(speech_indices(window, len(own))) for own in speech.features)
            for window in plan.windows
        ]
        self._mask = torch.from_numpy(given_frames_mask(talk.frames))[:, :, None, None].to(to)
        self._last: tuple[int, torch.Tensor] | None = None

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """``(16, T, h, w)`` of a window."""
        return LATENT_CHANNELS, latent_frames(self.talk.frames), *self.talk.size.latent

    def picture(self, window: Window) -> torch.Tensor:
        """The picture of a window's number ``(3, H, W)``; the last one of the batch stays."""
        return self.talk.pictures[min(window.index, len(self.talk.pictures) - 1)].to(self._device)

    def colours(self, window: Window) -> torch.Tensor:
        """Whose colours a window's frames get."""
        return (
            self.picture(window)
            if self.talk.mode == "infinitetalk"
            else self.talk.pictures[0].to(self._device)
        )

    def guide(self, window: Window, motion: torch.Tensor | None) -> Guide:
        """What a window must obey. ``motion``: the last finished frames before it, ``(3, M, H, W)``."""
        latents = self._reference(window, motion)
        start = latents[:, : window.motion_latents]
        if self.talk.mode == "infinitetalk" and motion is not None:
            start = self._codec().encode_video(motion)
        heard = speech_window(self._speech.features, self._hearing[window.index])
        return Guide(
            text=prompt_for(self._prompts, window.index),
            negative=self._negative,
            image=self._image,
            reference=torch.cat([self._mask.expand(-1, -1, *latents.shape[2:]).to(latents), latents]),
            speech=to_device(heard, self._device),
            token_masks=self._masks,
            motion=start,
            negative_image=self._negative_image,
        )

    def _reference(self, window: Window, motion: torch.Tensor | None) -> torch.Tensor:
        """Latents ``(16, T, h, w)`` of what a window starts from, and grey behind it."""
        if self.talk.mode == "multitalk" and motion is not None:
            video = torch.full((3, window.frames, *motion.shape[2:]), MID_GREY, device=motion.device)
            video[:, : motion.shape[1]] = motion
            return self._codec().encode_video(video)
        number = min(window.index, len(self.talk.pictures) - 1)
        if self._last is None or self._last[0] != number:
            self._last = number, self._codec().encode_still(self.picture(window), window.frames, MID_GREY)
        return self._last[1]

    def start(self, window: Window, noise: torch.Tensor, samples: Samples | None) -> Start:
        """What a window is walked from."""
        if samples is None:
            return Start(noise)
        mask = samples.mask
        if mask is not None and mask.shape[1] > 1:
            mask = source_slice(mask, window)
        original = None if samples.original is None else source_slice(samples.original, window)
        return Start(noise, source_slice(samples.latents, window), samples.add_noise, mask, original)

    def held(self, window: Window, guide: Guide, start: Start) -> Keep:
        """What is known of a window's latent all the time."""
        if self.talk.mode == "infinitetalk":
            return Motion(guide.motion)
        return NoisedMotion(guide.motion, start.noise) if window.overlap else nothing
