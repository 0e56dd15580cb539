"""One line for each thing that was asked for and has no effect beside the rest, in words for who asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from infinite_talk.denoise.steppers import Euler
from infinite_talk.nodes.embeds import Samples, Talk, Texts
from infinite_talk.nodes.voices import Speech
from infinite_talk.nodes.walking import Asked
from infinite_talk.request import EasyCache
from infinite_talk.sampling import Sampling
from infinite_talk.types import Plan, Window, latent_frames

FINISHED = 0.01
"""Share of noise that nobody sees; some solvers end a little above 0."""


def in_arguments(values: Mapping[str, Any], asked: Asked, prompts: int) -> Iterator[str]:
    """Among the sampler's own arguments.

    Args:
        prompts: texts that share one window.
    """
    sampling = asked.sampling
    if values["cache_args"] is not None and values["teacache_args"] is not None:
        yield "cache_args have no effect beside teacache_args, their old name, which wins."
    if values["batched_cfg"] and not isinstance(asked.cache, EasyCache | None):
        yield (
            f"batched_cfg has no effect with a {type(asked.cache).__name__}, which remembers what the blocks did for "
            "each pass by itself."
        )
    yield from _in_guidance(values["experimental_args"] or {}, sampling)
    if sampling.split_attention_steps and (prompts < 2 or sampling.context is not None):
        why = "there is one" if prompts < 2 else "with context_options each stretch has its own"
        yield f"video_attention_split_steps have no effect: they keep several prompts apart, and {why}."
    if sampling.flow_edit is not None:
        if not isinstance(asked.sampler.stepper(), Euler):
            yield (
                f"FlowEdit walks straight: of the scheduler {sampling.schedule.name} only the sigmas have an effect."
            )
        if values["add_noise_to_samples"]:
            yield "add_noise_to_samples has no effect with FlowEdit, which adds noise of its own in each step."


def _in_guidance(experimental: Mapping[str, Any], sampling: Sampling) -> Iterator[str]:
    """What acts on the difference of two passes, where there is one pass."""
    guided, edit = sampling.guidance, sampling.flow_edit
    scales = [*guided.text, *(() if edit is None else (*edit.source_text, *edit.drift_text))]
    plain = all(scale == 1 for scale in scales)
    if sampling.skip_layers is not None and plain:
        yield "slg_args have no effect with cfg 1: they act on the pass with the negative prompt."
    if experimental.get("use_zero_init") and not guided.zero_star:
        yield "use_zero_init of experimental_args has no effect without cfg_zero_star."
    asked = {
        "cfg_zero_star": guided.zero_star and not guided.zero_steps,
        "use_tcfg": guided.tangential,
        "raag_alpha": guided.raag_alpha > 0,
    }
    if (
        plain
        and all(scale == 1 for scale in guided.audio)
        and (named := [key for key in asked if asked[key]])
    ):
        yield (
            f"{', '.join(named)} of experimental_args have no effect with cfg 1 and audio_cfg_scale 1: they act on the "
            "difference of two passes, and there is one."
        )


def in_samples(samples: Samples | None, asked: Asked) -> Iterator[str]:
    """In ``samples``, or where they are missing."""
    first = asked.sampler.sigmas[0]
    if samples is not None and samples.idle:
        yield f"{', '.join(samples.idle)} of samples have no effect: each run begins with what it is given."
    elif samples is not None and samples.add_noise and first >= 1 and asked.sampling.flow_edit is None:
        how = (
            "Take another scheduler, and start later or with denoise_strength < 1"
            if asked.sampling.schedule.name == "multitalk"
            else "Start later, or with denoise_strength < 1"
        )
        if samples.mask is None:
            yield f"The samples have no effect: the first step is all noise. {how}."
        else:
            yield (
                "The samples are kept where noise_mask is low and have no other effect: the first step is all noise. "
                f"{how}."
            )
    elif samples is None and first < 0.99:
        yield f"The schedule starts at sigma {first:.3f} without samples; it starts from noise all the same."


def in_one(embeds: Mapping[str, Any], asked: Asked, window: Window, speech: Speech | None) -> Iterator[str]:
    """Where one latent is made, and beside its picture."""
    sampling, latents = asked.sampling, latent_frames(window.frames)
    if sampling.enhance is not None and latents == 1:
        yield "feta_args have no effect on a single latent frame: they are about attention between frames."
    if sampling.context is not None and sampling.context.frames >= latents:
        yield (
            f"context_options have no effect: a context of {sampling.context.frames} latent frames holds all {latents} "
            "of the video."
        )
    if speech is not None and speech.frames > window.frames:
        yield (
            f"The speech has {speech.frames} frames and the video {window.frames}: the rest is not heard. "
            "WanVideo Long I2V Multi/InfiniteTalk makes a video as long as its speech."
        )
    if embeds.get("pusa_noise_multipliers") and not asked.sampler.by_frame:
        yield "The noise of WanVideo Add Pusa Noise has an effect with the scheduler flowmatch_pusa only."
    if embeds.get("negative_clip_context") is not None and all(w == 1 for w in asked.sampling.guidance.text):
        yield "negative_clip_embeds have no effect with cfg 1: they are seen with the negative prompt."


def in_windows(
    talk: Talk, texts: Texts, samples: Samples | None, plan: Plan, asked: Asked, *, guided: bool
) -> Iterator[str]:
    """In the window loop.

    Args:
        guided: Uni3C follows the batch of start images.
    """
    windows = len(plan.windows)
    if samples is not None and samples.state is not None:
        yield (
            "generator_state of samples has no effect in the window loop, whose noise follows from the seed and the "
            "window."
        )
    yield from _more("prompts", len(texts.prompts), windows)
    if not guided:
        yield from _more("start images", len(talk.pictures), windows)
    if talk.negative_image is not None and all(w == 1 for w in asked.sampling.guidance.text):
        yield "negative_clip_embeds have no effect with cfg 1: they are seen with the negative prompt."
    if asked.sampler.sigmas[-1] > FINISHED:
        yield (
            f"The steps end at sigma {asked.sampler.sigmas[-1]:.3f}: the frames are decoded with that share of noise "
            "in them. Leave end_step at -1 for a finished video."
        )


def _more(what: str, given: int, windows: int) -> Iterator[str]:
    if given > windows:
        yield (
            f"There are {given} {what} and {windows} window{'s' if windows > 1 else ''}: window k takes number k, "
            "and the last ones have no effect."
        )
