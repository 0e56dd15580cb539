"""``InfiniteTalkPipeline``: the nodes in the order of a talking video, behind two calls."""

from __future__ import annotations

import logging
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from infinite_talk import nodes
from infinite_talk.errors import CheckpointError, UsageError
from infinite_talk.inputs.image import read_image
from infinite_talk.media.film import write_film
from infinite_talk.media.pictures import read_frames
from infinite_talk.media.recipe import MARK
from infinite_talk.media.take import Take
from infinite_talk.nodes.helpers.resizing import fit, plan_fit
from infinite_talk.nodes.helpers.waveforms import WaveformTrack, read_audio, resampled, samples_of, seconds_of
from infinite_talk.nodes.host import Host, ModelFolders, hosted
from infinite_talk.pipeline.names import attention_named, quantization_named, scheduler_of
from infinite_talk.pipeline.options import PipelineOptions
from infinite_talk.progress import Listener, silent
from infinite_talk.settings import Settings
from infinite_talk.types import Plan, Size

_log = logging.getLogger(__name__)
_MOST_FRAMES = 10_000
"""Longest video of the node that hears; ``Engine`` makes longer ones."""
_PROPORTIONS = {"stretch": "stretch", "keep proportion": "resize", "fill / crop": "crop", "pad": "pad"}
_INTERPOLATIONS = {
    "lanczos": "lanczos",
    "bicubic": "bicubic",
    "bilinear": "bilinear",
    "nearest": "nearest-exact",
}
_CRF = 18


@dataclass(frozen=True, slots=True)
class _Loaded:
    transformer: Any
    vae: Any
    text: Any
    vision: Any
    speech: Any


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """One video, read and checked."""

    loaded: _Loaded
    asked: PipelineOptions
    picture: torch.Tensor  # (1, H, W, 3) in [0, 1]
    prompt: str
    sounds: list[dict[str, Any]]
    scheduler: str
    seed: int


class InfiniteTalkPipeline:
    """A portrait and speech become an mp4 with its sound.

        pipeline = InfiniteTalkPipeline("models", output_dir="out")
        pipeline.load_models("wan2.1-i2v-14b.safetensors", "vae.safetensors", "umt5.safetensors", "clip.safetensors",
                             "wav2vec2.safetensors", multitalk_model_name="infinitetalk_single.safetensors")
        path = pipeline.generate("me.png", "speech.wav", "a woman talks", steps=4, scheduler="multitalk",
                                 sampler_name=None)

    What goes wrong raises one of the errors of ``infinite_talk.errors``; nothing returns ``None`` or ``False``.
    """

    def __init__(
        self,
        models_dir: Path | str | Sequence[Path | str] = (),
        output_dir: Path | str = "output",
        *,
        settings: Settings | None = None,
        progress: Listener = silent,
    ) -> None:
        """
        Args:
            models_dir: folders laid out like ComfyUI's ``models``, or with the files in them.
            settings: device, memory limit, strictness; models and precisions come from ``load_models``.
            progress: hears what goes on; raising ``Cancelled`` in it stops the run.
        """
        folders = [models_dir] if isinstance(models_dir, (str, Path)) else models_dir
        places = ModelFolders(tuple(Path(folder) for folder in folders))
        self._host = Host(places=places, settings=settings or Settings(), listen=progress)
        self._output = Path(output_dir)
        self._loaded: _Loaded | None = None

    def load_models(  # noqa: PLR0913 - the signature that programs call
        self,
        model_name: str,
        vae_name: str,
        t5_model_name: str,
        clip_vision_name: str,
        wav2vec_model_name: str,
        model_quantization: str = "fp4_scaled",
        model_attention: str = "sageattn_3_fp4",
        vae_precision: str = "bf16",
        model_precision: str = "bf16",
        *,
        multitalk_model_name: str | None = None,
        lora: list[dict[str, Any]] | None = None,
        blocks_to_swap: int | None = None,
    ) -> bool:
        """Open the files and check that they fit; weights are read when they are first needed.

        Names are files in the models folders, paths, or ``embedded``. ``fp4_scaled`` keeps weights in NVFP4, 4 bits
        with a scale for each 16, and multiplies in the base precision (the application kept 8 bits under this name);
        ``sageattn_3_fp4`` runs on Blackwell and otherwise falls back to ``sageattn_3``, ``sageattn`` and ``sdpa``. A
        line in the log says what runs.

        Args:
            multitalk_model_name: the speech branch, where the transformer's file has none.
            lora: of ``WanVideoLoraSelect``.
            blocks_to_swap: transformer blocks in host memory; ``None``: as many as needed.

        Returns:
            ``True``.

        Raises:
            CheckpointError: a file is missing, damaged or does not fit.
            CapabilityError: this machine cannot run what was chosen.
            UsageError: a name of a precision, quantisation or attention is unknown.
        """
        quantization, attention = quantization_named(model_quantization), attention_named(model_attention)
        with hosted(self._host):
            branch = multitalk_model_name and nodes.MultiTalkModelLoader().loadmodel(multitalk_model_name)[0]
            swap = None
            if blocks_to_swap is not None:
                (swap,) = nodes.WanVideoBlockSwap().setargs(blocks_to_swap, False, False)
            (transformer,) = nodes.WanVideoModelLoader().loadmodel(
                model=model_name,
                base_precision=model_precision,
                quantization=quantization,
                attention_mode=attention,
                multitalk_model=branch or None,
                block_swap_args=swap,
                lora=lora,
            )
            _log.info("%s will run on %s.", model_name, transformer.runs)
            others = self._others(
                vae_name, vae_precision, t5_model_name, clip_vision_name, wav2vec_model_name
            )
        self._loaded = _Loaded(transformer, *others)
        return True

    def _others(
        self, vae: str, precision: str, text: str, vision: str, speech: str
    ) -> tuple[Any, Any, Any, Any]:
        """Codec, text encoder, image encoder, speech encoder."""
        return (
            nodes.WanVideoVAELoader().loadmodel(vae, precision)[0],
            nodes.LoadWanVideoT5TextEncoder().loadmodel(text, "bf16")[0],
            nodes.CLIPVisionLoader().load_clip(vision)[0],
            nodes.Wav2VecModelLoader().loadmodel(speech, "fp16", "main_device")[0],
        )

    def generate(
        self,
        image_path: Path | str,
        audio_path: Path | str | Sequence[Path | str],
        prompt: str = "",
        **options: Any,  # noqa: ANN401 - as the fields of PipelineOptions
    ) -> Path:
        """Make the video.

        Args:
            audio_path: a recording, or one for each of up to four people.
            options: see ``PipelineOptions``.

        Returns:
            the mp4 file.

        Raises:
            TypeError: an option is unknown.
            UsageError: models are not loaded; an option is out of range, or options exclude each other.
            InputError: an image or recording that cannot be used.
            CheckpointError, CapabilityError, OutOfMemoryError, NumericalError, NoSpaceError: while making it.
        """
        run = self._prepared(image_path, audio_path, prompt, options)
        target, (height, width) = self._target(run.asked), run.picture.shape[1:3]
        with hosted(self._host), _scratch(target) as scratch:
            result = self._sample(run, str(scratch))
            count = write_film(
                target,
                read_frames(Path(result["output_path"])),
                height=height,
                width=width,
                rate=Fraction(run.asked.fps).limit_denominator(1001),
                crf=_CRF,
                soundtrack=mixed(run.sounds),
                tags={
                    "title": target.stem,
                    "description": MARK,
                    "comment": f"seed {run.seed}, scheduler {run.scheduler}",
                },
            )
        _log.info("%s: %d frames, seed %d, scheduler %s.", target, count, run.seed, run.scheduler)
        return target

    def grow(
        self,
        image_path: Path | str,
        audio_path: Path | str | Sequence[Path | str],
        prompt: str,
        take: Callable[[Plan, Size], Take],
        **options: Any,  # noqa: ANN401 - as the fields of PipelineOptions
    ) -> WaveformTrack:
        """As ``generate``, but window by window into a take, which is left to be finished; windows in it stay.

        Args:
            take: opens it, for these windows of this size. ``output_path`` has no effect.

        Returns:
            the sound to finish it with.

        Raises:
            as ``generate``; TakeError: what is there cannot be continued.
        """
        run = self._prepared(image_path, audio_path, prompt, options)
        with hosted(replace(self._host, take=take)):
            self._sample(run, "")
        return mixed(run.sounds)

    def _prepared(
        self,
        image_path: Path | str,
        audio_path: Path | str | Sequence[Path | str],
        prompt: str,
        options: dict[str, Any],
    ) -> _Run:
        """Everything that is known before a model runs."""
        asked, loaded = PipelineOptions.of(options), self._loaded
        if loaded is None:
            raise UsageError("Models are not loaded; call load_models first.", code="not_loaded")
        scheduler = scheduler_of(asked.sampler_name, asked.scheduler)
        if asked.audio_num_frames is not None:
            _log.info("audio_num_frames has no effect: all of the speech is encoded.")
        paths = [audio_path] if isinstance(audio_path, (str, Path)) else list(audio_path)
        picture = read_picture(Path(image_path), asked, self._host.settings.max_pixels)
        sounds = [self._sound(Path(path), asked) for path in paths]
        frames_of(sounds, asked)  # refuses what is too long before anything runs
        seed = asked.seed if asked.seed >= 0 else random.SystemRandom().randrange(2**32)
        return _Run(loaded, asked, picture, prompt, sounds, scheduler, seed)

    def _heard(self, run: _Run) -> dict[str, Any]:
        """What the mouths follow."""
        loaded, asked, sounds = run.loaded, run.asked, run.sounds
        voices = {f"audio_{number}": self._voice(sound, asked) for number, sound in enumerate(sounds, 1)}
        found: dict[str, Any]
        found, _, _ = nodes.MultiTalkWav2VecEmbeds().process(
            wav2vec_model=loaded.speech,
            normalize_loudness=asked.normalize_loudness,
            num_frames=frames_of(sounds, asked),
            fps=asked.fps,
            audio_scale=asked.audio_scale,
            audio_cfg_scale=asked.audio_cfg_scale,
            **voices,
        )
        return found

    def _sample(self, run: _Run, scratch: str) -> dict[str, Any]:
        """Speech, text, CLIP, image to video, sampler; frames go to ``scratch``, or to the host's take."""
        loaded, asked, picture = run.loaded, run.asked, run.picture
        speech = self._heard(run)
        (text,) = nodes.WanVideoTextEncode().process(run.prompt, asked.negative_prompt, loaded.text)
        (seen,) = nodes.WanVideoClipVisionEncode().process(
            loaded.vision, picture, crop="center", combine_embeds="average", force_offload=True
        )
        height, width = picture.shape[1:3]
        embeds, _ = nodes.WanVideoImageToVideoMultiTalk().process(
            vae=loaded.vae,
            width=width,
            height=height,
            frame_window_size=asked.frame_window_size,
            motion_frame=asked.motion_frame,
            colormatch=asked.colormatch,
            start_image=picture,
            tiled_vae=asked.tiled_vae,
            clip_embeds=seen,
            mode="auto",
            output_path=scratch,
        )
        (result,) = nodes.WanVideoSampler().process(
            model=loaded.transformer,
            image_embeds=embeds,
            shift=asked.shift,
            steps=asked.steps,
            cfg=asked.cfg,
            seed=run.seed,
            scheduler=run.scheduler,
            **({} if asked.sigmas is None else {"sigmas": asked.sigmas}),
            riflex_freq_index=asked.riflex_freq_index,
            text_embeds=text,
            force_offload=asked.force_offload,
            multitalk_embeds=speech,
        )
        found: dict[str, Any] = result
        return found

    def _target(self, asked: PipelineOptions) -> Path:
        if asked.output_path is not None:
            return Path(asked.output_path)
        return self._output / f"infinite_talk_{datetime.now():%Y%m%d_%H%M%S_%f}.mp4"

    def _sound(self, path: Path, asked: PipelineOptions) -> dict[str, Any]:
        """A recording, cut if that is wanted; a duration of 0 is to its end."""
        start = asked.audio_start_time if asked.crop_audio else 0.0
        until = start + asked.audio_duration if asked.crop_audio and asked.audio_duration > 0 else None
        return read_audio(path, start=start, end=until, max_seconds=self._host.settings.max_audio_seconds)

    def _voice(self, sound: dict[str, Any], asked: PipelineOptions) -> dict[str, Any]:
        """What the mouth hears."""
        if not asked.separate_vocals:
            return sound
        (model,) = nodes.MelBandRoFormerModelLoader().loadmodel(asked.separation_model)
        if model is None:
            raise CheckpointError(
                f"Vocal separation needs {asked.separation_model} in the models folder (diffusion_models); get it, or "
                "leave separate_vocals off.",
                code="checkpoint_missing",
            )
        voice: dict[str, Any] = nodes.MelBandRoFormerSampler().process(model, sound)[0]
        return voice


def frames_of(sounds: Sequence[dict[str, Any]], asked: PipelineOptions) -> int:
    """The most frames that the video may have: those of the longest recording, or fewer if that is asked.

    Raises:
        UsageError: it would be longer than the node can make.
    """
    spoken = max(1, int(max(seconds_of(sound) for sound in sounds) * asked.fps))
    wanted = spoken if asked.auto_frame_count else min(spoken, asked.video_length)
    frames = wanted if asked.max_frames is None else min(wanted, asked.max_frames)
    if frames < spoken:
        _log.info("The video ends after %d frames; the speech would fill %d.", frames, spoken)
    if frames > _MOST_FRAMES:
        raise UsageError(
            f"The speech fills {frames} frames; this pipeline makes at most {_MOST_FRAMES}. Set max_frames, or use "
            "infinite_talk.Engine, which has no limit."
        )
    return frames


def read_picture(path: Path, asked: PipelineOptions, max_pixels: int) -> torch.Tensor:
    """The portrait at the size of the video, ``(1, H, W, 3)`` in [0, 1].

    Raises:
        InputError: see ``read_image``.
        UsageError: a way of resizing is unknown.
    """
    still, notes = read_image(path, max_pixels=max_pixels)
    for note in notes:
        _log.info(note)
    picture = torch.from_numpy(still.picture.copy())[None].float() / 255
    if asked.resize_method not in _PROPORTIONS:
        raise UsageError(
            f"resize_method is {asked.resize_method!r}; choose one of {', '.join(_PROPORTIONS)}."
        )
    if asked.resize_interpolation not in _INTERPOLATIONS:
        known = ", ".join(_INTERPOLATIONS)
        raise UsageError(f"resize_interpolation is {asked.resize_interpolation!r}; choose one of {known}.")
    height, width = picture.shape[1:3]
    wished = asked.resize_image and wants_resizing(
        asked.resize_condition, (height, width), (asked.height, asked.width)
    )
    proportion = _PROPORTIONS[asked.resize_method] if wished else "crop"
    plan = plan_fit(
        height, width, to_height=asked.height, to_width=asked.width, proportion=proportion, divisible_by=16
    )
    return fit(picture, plan, _INTERPOLATIONS[asked.resize_interpolation], proportion=proportion)


def wants_resizing(condition: str, have: tuple[int, int], want: tuple[int, int]) -> bool:
    """Whether a picture meets a condition; sizes are height and width.

    Raises:
        UsageError: the condition is unknown.
    """
    bigger = have[0] > want[0] or have[1] > want[1]
    smaller = have[0] < want[0] or have[1] < want[1]
    area, wanted = have[0] * have[1], want[0] * want[1]
    conditions = {
        "always": True,
        "downscale if bigger": bigger,
        "upscale if smaller": smaller,
        "if bigger area": area > wanted,
        "if smaller area": area < wanted,
    }
    if condition not in conditions:
        raise UsageError(f"resize_condition is {condition!r}; choose one of {', '.join(conditions)}.")
    return conditions[condition]


def mixed(sounds: Sequence[dict[str, Any]]) -> WaveformTrack:
    """All recordings together, at the rate and with the channels of the first one."""
    first, rate = samples_of(sounds[0])
    tracks = [first]
    for sound in sounds[1:]:
        waveform, other = samples_of(sound)
        tracks.append(resampled(waveform, other, rate).mean(dim=0, keepdim=True).expand(len(first), -1))
    whole = torch.zeros(len(first), max(track.shape[1] for track in tracks))
    for track in tracks:
        whole[:, : track.shape[1]] += track
    return WaveformTrack(whole.clamp(-1, 1), rate)


@contextmanager
def _scratch(target: Path) -> Iterator[Path]:
    """A folder beside the file for finished frames, gone afterwards."""
    folder = target.with_name(f".{target.name}.frames")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
