"""Speech becomes ``multitalk_embeds``: features of each speaker, one for each video frame.

The recordings are laid on one time line as waveforms, with silence around them, and then encoded. So a speaker who is
silent hears silence, and so do the frames behind the end: the features go on for a window's length, in which the mouth
comes to rest. ``num_frames`` of the embeds says where the video ends.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from infinite_talk.errors import InputError, UsageError
from infinite_talk.inputs.audio import place_speech
from infinite_talk.inputs.loudness import normalise_loudness
from infinite_talk.inputs.soundtrack import Resampler
from infinite_talk.nodes.declare import CATEGORY, Inputs, checked, choice, flag, integer, link, number
from infinite_talk.nodes.encoders import TENCENT, Wav2VecModelLoader
from infinite_talk.nodes.handles import SpeechModel, say
from infinite_talk.nodes.host import EMBEDDED_NAME, host
from infinite_talk.plan.speech import REACH
from infinite_talk.request import AudioLayout
from infinite_talk.types import SPEECH_RATE

TAIL = 81 + REACH
"""Frames of silence that are encoded behind the end: as far as the last window may hear, if it is no longer than 81."""
NOISE_DB = -45.0
"""Level of the noise floor against full scale."""
LOW_PASS, ORDER = 3000.0, 3
"""Hertz, and order of the Butterworth filter, which is run both ways so that nothing is delayed."""
LAYOUTS = {"para": AudioLayout.TOGETHER, "add": AudioLayout.IN_TURN}
Waveform = NDArray[np.float32]
Audio = dict[str, Any]


class MultiTalkWav2VecEmbeds:
    """The speech of one to four people, as InfiniteTalk and MultiTalk hear it."""

    RETURN_TYPES: ClassVar = ("MULTITALK_EMBEDS", "AUDIO", "INT")
    RETURN_NAMES: ClassVar = ("multitalk_embeds", "audio", "num_frames")
    FUNCTION = "process"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802 - ComfyUI's name
        return {
            "required": {
                "wav2vec_model": link("WAV2VECMODEL"),
                "audio_1": link("AUDIO"),
                "normalize_loudness": flag(True),
                "num_frames": integer(81, 1, 10000, 1),
                "fps": number(25.0, 1.0, 60.0, 0.1),
                "audio_scale": number(1.0, 0.0, 100.0, 0.01),
                "audio_cfg_scale": number(1.0, 0.0, 100.0, 0.01),
                "multi_audio_type": choice(("para", "add"), "para"),
            },
            "optional": {
                "audio_2": link("AUDIO"),
                "audio_3": link("AUDIO"),
                "audio_4": link("AUDIO"),
                "ref_target_masks": link("MASK"),
                "add_noise_floor": flag(False),
                "smooth_transients": flag(False),
            },
        }

    @checked(lists=("audio_scale", "audio_cfg_scale"))
    def process(
        self,
        wav2vec_model: SpeechModel,
        normalize_loudness: bool = True,
        fps: float = 25.0,
        num_frames: int = 81,
        audio_1: Audio | None = None,
        audio_scale: float = 1.0,
        audio_cfg_scale: float | list[float] = 1.0,
        multi_audio_type: str = "para",
        audio_2: Audio | None = None,
        audio_3: Audio | None = None,
        audio_4: Audio | None = None,
        ref_target_masks: torch.Tensor | None = None,
        add_noise_floor: bool = False,
        smooth_transients: bool = False,
    ) -> tuple[dict[str, Any], Audio, int]:
        """The embeds, all that is heard at 16 kHz mono, and the length of the video in frames.

        ``num_frames`` is the most that the video may have. ``para``: all begin at once. ``add``: one after the other.

        Raises:
            UsageError: the speech encoder is not the one that the models were trained with, or masks do not fit.
            InputError: an audio cannot be used.
        """
        encoder = _encoder(wav2vec_model)
        given = {"audio_1": audio_1, "audio_2": audio_2, "audio_3": audio_3, "audio_4": audio_4}
        tracks = [
            _prepared(name, audio, num_frames / fps, normalize_loudness, add_noise_floor, smooth_transients)
            for name, audio in given.items()
            if audio is not None
        ]
        masks = _masks(ref_target_masks, len(tracks))
        placed = place_speech(tracks, LAYOUTS[multi_audio_type])
        frames = max(1, min(num_frames, int(len(placed[0]) / SPEECH_RATE * fps)))
        embeds = {
            "audio_features": encode_waveforms(encoder, placed, frames, fps),
            "audio_scale": audio_scale,
            "audio_cfg_scale": audio_cfg_scale,
            "ref_target_masks": masks,
            "num_frames": frames,
        }
        mixed = torch.from_numpy(np.sum(placed, axis=0, dtype=np.float32))
        return embeds, {"waveform": mixed[None, None], "sample_rate": SPEECH_RATE}, frames


class MultiTalkSilentEmbeds:
    """The speech of somebody who says nothing."""

    RETURN_TYPES: ClassVar = ("MULTITALK_EMBEDS",)
    RETURN_NAMES: ClassVar = ("multitalk_embeds",)
    FUNCTION = "process"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {"required": {"num_frames": integer(81, 1, 10000, 1)}}

    @checked()
    def process(
        self, num_frames: int = 81, wav2vec_model: SpeechModel | None = None
    ) -> tuple[dict[str, Any]]:
        """Silence as a speech encoder hears it (the pack repeats 90 stored frames).

        Args:
            wav2vec_model: from Python; a graph takes the first speech encoder of the ``wav2vec2`` folder.

        Raises:
            CheckpointError: there is no speech encoder.
        """
        if wav2vec_model is None:
            own = host().embedded or not (names := host().places.names("wav2vec2"))
            (wav2vec_model,) = Wav2VecModelLoader().loadmodel(EMBEDDED_NAME if own else names[0], "fp32")
            say(f"Silence is encoded by {wav2vec_model.model.title}.")
        silence = np.zeros(math.ceil(num_frames * SPEECH_RATE / 25), np.float32)
        (features,) = encode_waveforms(_encoder(wav2vec_model), [silence], num_frames, 25.0)
        return (
            {
                "audio_features": features,
                "audio_scale": 1.0,
                "audio_cfg_scale": 1.0,
                "ref_target_masks": None,
                "num_frames": num_frames,
            },
        )


@torch.inference_mode()
def encode_waveforms(
    speech: SpeechModel, waveforms: Sequence[Waveform], frames: int, fps: float
) -> list[torch.Tensor]:
    """Features ``(frames + TAIL, K, D)`` of each speaker, in the host's memory.

    Args:
        waveforms: ``(samples,)`` each, 16 kHz; cut or continued with silence.
        frames: of the video.
    """
    heard = frames + TAIL
    samples = round(heard * SPEECH_RATE / fps)
    found = []
    with speech.model.at_hand() as encoder:
        for waveform in waveforms:
            fitted = np.pad(waveform[:samples], (0, max(0, samples - len(waveform))))
            sound = torch.from_numpy(fitted)[None].to(speech.model.device)
            found.append(encoder.encode_long(sound, heard, home="cpu")[0].clone())
    return found


def mono(what: str, audio: object) -> tuple[Waveform, int]:
    """The first recording of an AUDIO as the mean of its channels, and its rate.

    Raises:
        InputError: it is no AUDIO, empty, or NaN.
    """
    waveform = audio.get("waveform") if isinstance(audio, dict) else None
    rate = audio.get("sample_rate") if isinstance(audio, dict) else None
    if not isinstance(waveform, torch.Tensor) or not isinstance(rate, int) or waveform.dim() not in (2, 3):
        raise InputError(
            f"{what} is no AUDIO; give a dictionary with 'waveform', (1, channels, samples), and 'sample_rate'."
        )
    first = waveform[0] if waveform.dim() == 3 else waveform
    if not first.numel():
        raise InputError(f"{what} is empty; give a recording.", code="audio_empty")
    samples: Waveform = first.detach().to("cpu", torch.float32).mean(0).numpy().copy()
    if not np.isfinite(samples).all():
        raise InputError(f"{what} has samples that are NaN or infinite.", code="audio_corrupt")
    return samples, rate


def _prepared(
    what: str, audio: Audio, seconds: float, loudness: bool, noise_floor: bool, smooth: bool
) -> Waveform:
    """One speaker at 16 kHz, cut to ``seconds``."""
    samples, rate = mono(what, audio)
    heard = Resampler(rate, SPEECH_RATE, 1).push(samples[:, None], last=True)[:, 0]
    heard = np.ascontiguousarray(heard[: math.ceil(seconds * SPEECH_RATE)], np.float32)
    if not len(heard):
        raise InputError(f"{what} is too short; give a longer recording.", code="audio_too_short")
    if loudness and normalise_loudness(heard, SPEECH_RATE) is None:
        say(f"{what}: nothing louder than -70 LUFS; the mouth will rest.")
    if noise_floor:
        heard = heard + noise(len(heard))
    return low_passed(heard) if smooth else heard


def noise(samples: int) -> Waveform:
    """White noise of ``NOISE_DB``, always the same."""
    drawn = np.random.default_rng(0).standard_normal(samples, dtype=np.float32)
    return drawn * np.float32(10 ** (NOISE_DB / 20))


def low_passed(samples: Waveform) -> Waveform:
    """Without what is above 3 kHz, such as clicks; nothing is delayed."""
    from scipy.signal import butter, sosfiltfilt

    sections = butter(ORDER, LOW_PASS, fs=SPEECH_RATE, output="sos")
    padding = min(3 * (2 * len(sections) + 1), len(samples) - 1)
    filtered: Waveform = sosfiltfilt(sections, samples, padlen=padding).astype(np.float32)
    return filtered


def _encoder(speech: object) -> SpeechModel:
    if not isinstance(speech, SpeechModel):
        came = "None" if speech is None else f"a {type(speech).__name__}"
        raise UsageError(
            f"wav2vec_model is {came}; connect Wav2VecModelLoader or DownloadAndLoadWav2VecModel."
        )
    if speech.kind != "tencent":
        raise UsageError(
            f"{speech.model.title} is another speech encoder than the one that InfiniteTalk and MultiTalk were trained "
            f"with, and lips would not follow it. Load {TENCENT}; it serves every language."
        )
    return speech


def _masks(masks: torch.Tensor | None, people: int) -> torch.Tensor | None:
    """Masks of each speaker, and of the background if it is given."""
    if masks is None:
        return None
    if masks.dim() != 3 or (people > 1 and len(masks) not in (people, people + 1)):
        raise UsageError(
            f"ref_target_masks has the shape {tuple(masks.shape)} for {people} recordings; give a MASK (masks, height, "
            "width) with one for each speaker, and one for the background if you like."
        )
    return masks
