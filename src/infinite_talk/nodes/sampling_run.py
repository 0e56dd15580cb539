"""What ``WanVideoSampler.process`` does: arguments to one ``Asked``, then a long video or one latent."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from infinite_talk.denoise.caches import remembered_streams
from infinite_talk.denoise.flow_edit import branches_of
from infinite_talk.denoise.guidance import Branch
from infinite_talk.denoise.noise import seeded
from infinite_talk.denoise.sample import check_for_windows, iterations
from infinite_talk.denoise.sampler import Sampler
from infinite_talk.denoise.start import Start
from infinite_talk.denoise.views import views
from infinite_talk.errors import UsageError
from infinite_talk.memory import Work
from infinite_talk.models.dit import DiTConfig
from infinite_talk.nodes import adapting, arguments, idle, numbers
from infinite_talk.nodes.caches import cache_of
from infinite_talk.nodes.embeds import Talk, Texts, samples_of, talk_of, texts_of
from infinite_talk.nodes.gathering import gather, to_take
from infinite_talk.nodes.handles import WanModel, need_model, need_vae, say
from infinite_talk.nodes.host import host
from infinite_talk.nodes.longvideo import plan_of, talking_clips
from infinite_talk.nodes.onevideo import guide_of, one_of
from infinite_talk.nodes.voices import Speech, audio_scales, speech_of
from infinite_talk.nodes.walking import Adapter, Asked, ModelWalker, check_edit
from infinite_talk.progress import Clock, Phase
from infinite_talk.rooms import Codec
from infinite_talk.sampling import GuidanceChoice, Sampling
from infinite_talk.types import Size, latent_frames

MAX_CFG = 30.0
_log = logging.getLogger(__name__)


def sample(values: Mapping[str, Any]) -> tuple[Any, ...]:
    """Run the sampler on values that are checked by themselves; see ``WanVideoSampler.process``."""
    model, embeds = need_model(values["model"]), values["image_embeds"]
    if not isinstance(embeds, Mapping):
        raise UsageError(f"image_embeds is a {type(embeds).__name__}; connect a node that encodes an image.")
    try:
        if embeds.get("multitalk_sampling"):
            return (_talking(model, values, embeds),)
        return _one(model, values, embeds)
    finally:
        if values["force_offload"]:
            model.release()


def _talking(model: WanModel, values: Mapping[str, Any], embeds: Mapping[str, Any]) -> dict[str, Any]:
    """One long video, window by window."""
    config: DiTConfig = model.opened.config
    talk = talk_of(embeds, "infinitetalk" if model.kind == "InfiniteTalk" else "multitalk", config.clip_dim)
    speech = _speech(values, embeds, config)
    if speech is None:
        raise UsageError(
            "A talking video needs speech: connect multitalk_embeds of MultiTalkWav2VecEmbeds to the sampler."
        )
    texts = texts_of(values["text_embeds"], config.text_dim)
    vae = need_vae(talk.codec)
    plan = plan_of(talk, speech)
    asked, notes = asked_of(values, embeds, model, speech, texts)
    samples = samples_of(values["samples"], talk.size.latent, _adds_noise(values))
    check_for_windows(
        asked.sampling,
        windows=len(plan.windows),
        latents=latent_frames(talk.frames),
        samples=samples is not None,
    )
    _check_prompts(asked.sampling)
    worn = adapting.adapters_of(values, embeds, model, talk.size, talk.pictures, vae.codec)
    asked = replace(asked, adapters=worn)
    work = work_of(asked, talk.size, talk.frames, len(speech.features), texts)
    work = replace(work, motion=min(talk.motion, talk.frames), windows=len(plan.windows))
    opener = host().take
    take = None if opener is None else opener(plan, talk.size)
    begin = (0, None) if take is None else (take.finished, take.motion())
    said = (
        *notes,
        *idle.in_arguments(values, asked, prompts=1),
        *idle.in_samples(samples, asked),
        *idle.in_windows(talk, texts, samples, plan, asked, guided=values["uni3c_embeds"] is not None),
        *(() if take is None else take.notes),
    )
    clock = _clock(len(plan.windows), asked, model, said, first=begin[0])
    _log.info(
        "A talking video (%s): %d frames, windows: %d of %d frames, %d steps each.",
        *(talk.mode, plan.length, len(plan.windows), talk.frames, asked.sampler.steps),
    )
    with ModelWalker(
        model, vae, work, asked, clock.step, tell=partial(_told, clock), ready=clock.ready, nag=texts.nag
    ) as walker:

        def codec() -> Codec:
            """In the pieces of the current plan."""
            plan = walker.plan
            tile = _tile(talk) if talk.tiled and plan.vae_tile is None else plan.vae_tile
            return vae.codec(tile=tile, frames=plan.decode_frames)

        clips = talking_clips(talk, speech, texts, samples, walker, codec, seeded(asked.seed), clock, begin)
        if take is not None:
            return to_take(clips, take)
        return gather(clips, plan.length, talk.size, talk.output)


def _one(model: WanModel, values: Mapping[str, Any], embeds: Mapping[str, Any]) -> tuple[Any, ...]:
    """One latent."""
    config: DiTConfig = model.opened.config
    one, texts = one_of(embeds, config, model.device), texts_of(values["text_embeds"], config.text_dim)
    speech = _speech(values, embeds, config)
    asked, notes = asked_of(values, embeds, model, speech, texts)
    samples = samples_of(values["samples"], one.size.latent, _adds_noise(values))
    if asked.sampling.flow_edit is not None and samples is None:
        raise UsageError(
            "flowedit_args edits a video, and there is none. Encode it with WanVideoEncode; connect it to samples."
        )
    guide = guide_of(one, texts, speech, config, model.device)
    window = one.window
    said = (
        *notes,
        *idle.in_arguments(values, asked, prompts=len(texts.prompts)),
        *idle.in_samples(samples, asked),
        *idle.in_one(embeds, asked, window, speech),
    )
    clock = _clock(1, asked, model, said)
    clock.phase(Phase.SAMPLING)
    noise = seeded(asked.seed)(window, guide.latent_shape)
    start = Start(noise) if samples is None else samples.start(noise)
    prompts = texts.prompts if len(texts.prompts) > 1 else ()
    asked = replace(
        asked,
        adapters=adapting.adapters_of(values, embeds, model, one.size, None, None),
        noise_state=None if samples is None else samples.state,
    )
    work = work_of(asked, one.size, window.frames, len(guide.speech), texts)
    _log.info("One latent %s in %d steps.", guide.latent_shape, asked.sampler.steps)
    tell = partial(_told, clock)
    with ModelWalker(
        model, None, work, asked, clock.step, tell=tell, ready=clock.ready, nag=texts.nag, prompts=prompts
    ) as walker:
        keep = one.kept(noise.to(model.device), by_frame=asked.sampler.by_frame)
        walked = walker.until_it_fits(lambda: walker.walked(window, guide, start, keep))
    found = {"samples": walked.latent[None].cpu(), "looped": asked.sampling.loop is not None, **one.travels}
    if samples is not None and samples.mask is not None:
        # What a next sampler with the mask has to leave alone.
        original = samples.latents if samples.original is None else samples.original
        found["original_image"] = original[None].cpu()
    return found, {"samples": walked.estimate[None].cpu()}


def _speech(values: Mapping[str, Any], embeds: Mapping[str, Any], config: DiTConfig) -> Speech | None:
    """The speech, from where scripts put it; ``audio_guide_scale`` may stand beside the picture too."""
    given = (
        values["multitalk_embeds"]
        if values["multitalk_embeds"] is not None
        else embeds.get("multitalk_embeds")
    )
    if given is None:
        return None
    speech = speech_of(given, config.audio_blocks, config.audio_channels)
    if embeds.get("audio_guide_scale") is None:
        return speech
    own = given if isinstance(given, Mapping) else {}
    audio, official = audio_scales({**own, "audio_guide_scale": embeds["audio_guide_scale"]})
    return replace(speech, audio=audio, official=official)


def asked_of(
    values: Mapping[str, Any],
    embeds: Mapping[str, Any],
    model: WanModel,
    speech: Speech | None,
    texts: Texts,
) -> tuple[Asked, tuple[str, ...]]:
    """All that says how latents are made, and a line for each thing that has no effect."""
    choice = numbers.schedule_of(
        values["scheduler"],
        steps=values["steps"],
        shift=values["shift"],
        start_step=values["start_step"],
        end_step=values["end_step"],
        denoise_strength=values["denoise_strength"],
        sigmas=values["sigmas"],
    )
    config: DiTConfig = model.opened.config
    picture = arguments.picture_of(values["context_options"])
    rope = arguments.rope_of(values["rope_function"], values["riflex_freq_index"])
    more = arguments.experimental_of(values["experimental_args"])
    portrait = embeds.get("portrait_embeds")
    sampling = Sampling(
        schedule=choice,
        guidance=_guided(values, more.guidance, portrait, speech),
        positions=rope.positions,
        enhance=arguments.enhance_of(values["feta_args"]),
        skip_layers=arguments.skip_layers_of(values["slg_args"], model.layers),
        score_rescaling=more.score_rescaling,
        context=arguments.context_of(values["context_options"]),
        loop=arguments.loop_of(values["loop_args"]),
        free_init=arguments.free_init_of(values["freeinit_args"]),
        flow_edit=arguments.flow_edit_of(values["flowedit_args"]),
        nag=texts.nag_numbers,
        bidirectional=more.bidirectional,
        split_attention_steps=more.split_attention_steps,
        speech_scale=1.0 if speech is None else speech.scale,
    )
    check_edit(sampling)
    sampler, edit = Sampler.of_sampling(sampling, model.width), values["flowedit_args"]
    assert sampler.schedule is not None
    how: dict[str, Any] = {"title": model.name, "width": model.width, "measured": model.defaults}
    cache = cache_of(_cache_args(values), shift=choice.shift, **how)
    asked = Asked(
        sampling=sampling,
        sampler=sampler,
        chunked=rope.chunked,
        seed=int(values["seed"]),
        cache=None if cache is None else cache.cache,
        cache_on=None if cache is None else cache.keep_on(),
        source=None if edit is None else texts_of(edit["source_embeds"], config.text_dim),
        picture=None if picture is None else picture.to(model.device),
    )
    notes = [*sampler.schedule.notes, *(() if cache is None else cache.notes)]
    return asked, (*notes, *adapting.tell(values, portrait, speech is not None))


def _guided(
    values: Mapping[str, Any], more: GuidanceChoice, portrait: Mapping[str, Any] | None, speech: Speech | None
) -> GuidanceChoice:
    """The scales of a run beside what ``experimental_args`` say of its guidance."""
    face, face_share = adapting.face_scale(portrait)
    return replace(
        more,
        text=numbers.scales("cfg", values["cfg"], MAX_CFG),
        audio=adapting.voice_scale(values["fantasytalking_embeds"]) if speech is None else speech.audio,
        face=face,
        face_share=face_share,
        official_audio=speech is not None and speech.official,
        batched=bool(values["batched_cfg"]),
    )


def _cache_args(values: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """``teacache_args`` is the old name of ``cache_args``, and wins."""
    given: Mapping[str, Any] | None = values["teacache_args"]
    return values["cache_args"] if given is None else given


def _check_prompts(sampling: Sampling) -> None:
    if sampling.split_attention_steps:
        raise UsageError(
            "video_attention_split_steps keeps the frames of several prompts apart; a window of the MultiTalk loop has "
            "one prompt, each window its own. Leave it empty."
        )


def _adds_noise(values: Mapping[str, Any]) -> bool:
    """``denoise_strength`` below 1 wants it too."""
    return bool(values["add_noise_to_samples"]) or values["denoise_strength"] < 1


def work_of(asked: Asked, size: Size, frames: int, people: int, texts: Texts) -> Work:
    """What the memory of a window depends on."""
    latents, sampling = latent_frames(frames), asked.sampling
    branches: Collection[Branch] = asked.sampler.guidance().branches
    source: Collection[Branch] = ()
    if sampling.flow_edit is not None:
        branches, source = branches_of(sampling, asked.sampler.steps)
    return Work(
        size=size,
        frames=frames,
        motion=1,
        steps=asked.sampler.steps * iterations(sampling),
        branches=len(branches),
        silent=_silent(branches),
        source_branches=len(source),
        source_silent=_silent(source),
        people=people,
        texts=len(texts.prompts) + 1,
        remembered=remembered_streams(asked.cache, len(branches) + len(source)),
        put=put_on(sampling, asked.adapters),
        beside=float(sum(adapter.weights for adapter in asked.adapters)),
        before=float(max((adapter.before(latents) for adapter in asked.adapters), default=0)),
        views=max(1, len(views(sampling, 0, asked.sampler.steps, latents))),
    )


def _silent(branches: Collection[Branch]) -> int:
    return sum(not branch.has_speech for branch in branches)


def put_on(sampling: Sampling, adapters: Sequence[Adapter]) -> float:
    """Streams of tokens that are held while a block works, for what is put on the passes; rounded up.

    Enhance-A-Video copies queries and keys of a few heads and has weights between frames; NAG a second answer and the
    guided one in float32; an adapter its tokens, its state or its answer, and a copy in the making.
    """
    enhance, nag = 0.5 * (sampling.enhance is not None), 2.0 * (sampling.nag is not None)
    return enhance + nag + 2.0 * len(adapters)


def _tile(talk: Talk) -> int:
    """Side of the codec's tiles in pixels: half of the picture's longer side."""
    return max(talk.size.height, talk.size.width) // 2


def _clock(windows: int, asked: Asked, model: WanModel, notes: Sequence[str], *, first: int = 0) -> Clock:
    """Tells the host where the run is, and both the host and the log what a person should know."""
    steps = asked.sampler.steps * iterations(asked.sampling)
    clock = Clock(host().listen, windows, steps, first=first, runs=model.runs)
    _told(clock, notes)
    return clock


def _told(clock: Clock, notes: Sequence[str]) -> None:
    """Lines that a person should read: to the host and to the log."""
    for note in notes:
        say(note)
    clock.say(notes)
