"""Nodes that load media, through the same door as the command line's."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from infinite_talk.errors import InputError, UsageError
from infinite_talk.inputs.files import shown
from infinite_talk.inputs.image import read_image
from infinite_talk.inputs.video import Film, film_rate, open_film, stored_pictures
from infinite_talk.nodes.declare import Files, Inputs, checked, choice, integer, number, words
from infinite_talk.nodes.helpers.place import HIDDEN, Place, placed
from infinite_talk.nodes.helpers.resizing import fit, plan_fit
from infinite_talk.nodes.helpers.waveforms import read_audio

_FORMATS: Final = {
    "None": (1, (1, 0)),
    "AnimateDiff": (8, (1, 0)),
    "Mochi": (16, (6, 1)),
    "LTXV": (32, (8, 1)),
    "Hunyuan": (16, (4, 1)),
    "Cosmos": (16, (8, 1)),
    "Wan": (8, (4, 1)),
}
"""By ``format`` of the Video Helper Suite: sides are multiples of the first number; (4, 1) keeps 4n + 1 frames."""


def media_file(*, upload: str | None = None) -> tuple[Any, dict[str, Any]]:
    """The name of a media file; any is taken, and looked for when it is read."""
    return choice(Files([""]), any_file=True, **({f"{upload}_upload": True} if upload else {}))


class LoadImage:
    """A picture file."""

    RETURN_TYPES = ("IMAGE", "MASK")
    FUNCTION = "load_image"
    CATEGORY = "image"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802 - ComfyUI's name
        """The file."""
        return {"required": {"image": media_file(upload="image")}, "hidden": HIDDEN}

    def load_image(
        self,
        image: str,
        place: Any = None,  # noqa: ANN401 - a hidden input
        unique_id: str | None = None,  # noqa: ARG002
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """``[1, H, W, 3]`` and a mask of zeros ``[1, 64, 64]``: what is transparent lies over white."""
        here = placed(place)
        picture, notes = read_image(here.find(image, "image"), max_pixels=here.max_pixels)
        for note in notes:
            here.tell(note)
        return torch.from_numpy(picture.picture.astype(np.float32) / 255)[None], torch.zeros((1, 64, 64))


class LoadAudio:
    """A recording."""

    RETURN_TYPES = ("AUDIO",)
    FUNCTION = "load"
    CATEGORY = "audio"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        """The file."""
        return {"required": {"audio": media_file(upload="audio")}, "hidden": HIDDEN}

    def load(
        self,
        audio: str,
        place: Any = None,  # noqa: ANN401
        unique_id: str | None = None,  # noqa: ARG002
    ) -> tuple[dict[str, Any]]:
        """All channels at the file's own rate."""
        here = placed(place)
        return (read_audio(here.find(audio, "audio"), max_seconds=here.max_seconds),)


class VHS_LoadAudioUpload:  # noqa: N801 - the name in workflows
    """A part of a recording."""

    RETURN_TYPES = ("AUDIO", "FLOAT")
    RETURN_NAMES = ("audio", "duration")
    FUNCTION = "load_audio"
    CATEGORY = "Video Helper Suite/audio"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        """The file, where it begins and how long it is, in seconds; 0 is to the end."""
        return {
            "required": {"audio": media_file()},
            "optional": {"start_time": number(0.0, 0.0, 1e7, 0.01), "duration": number(0.0, 0.0, 1e7, 0.01)},
            "hidden": HIDDEN,
        }

    @checked()
    def load_audio(
        self,
        audio: str,
        start_time: float = 0.0,
        duration: float = 0.0,
        place: Any = None,  # noqa: ANN401
        unique_id: str | None = None,  # noqa: ARG002
    ) -> tuple[dict[str, Any], float]:
        """The sound, and its length in seconds."""
        return _audio_part(placed(place), audio, start_time, duration)


class VHS_LoadAudio:  # noqa: N801
    """The same by path."""

    RETURN_TYPES = ("AUDIO", "FLOAT")
    RETURN_NAMES = ("audio", "duration")
    FUNCTION = "load_audio"
    CATEGORY = "Video Helper Suite/audio"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        """The file, where it begins and how long it is, in seconds; 0 is to the end."""
        return {
            "required": {"audio_file": words("input/"), "seek_seconds": number(0.0, 0.0)},
            "optional": {"duration": number(0.0, 0.0, 1e7, 0.01)},
            "hidden": HIDDEN,
        }

    @checked()
    def load_audio(
        self,
        audio_file: str,
        seek_seconds: float = 0.0,
        duration: float = 0.0,
        place: Any = None,  # noqa: ANN401
        unique_id: str | None = None,  # noqa: ARG002
    ) -> tuple[dict[str, Any], float]:
        """The sound, and its length in seconds."""
        return _audio_part(placed(place), audio_file, seek_seconds, duration)


def _audio_part(here: Place, name: str, start: float, duration: float) -> tuple[dict[str, Any], float]:
    end = start + duration if duration > 0 else None
    audio = read_audio(here.find(name, "audio"), start=start, end=end, max_seconds=here.max_seconds)
    return audio, audio["waveform"].shape[-1] / audio["sample_rate"]


class VHS_LoadVideo:  # noqa: N801
    """The pictures and the sound of a film."""

    RETURN_TYPES = ("IMAGE", "INT", "AUDIO", "VHS_VIDEOINFO")
    RETURN_NAMES = ("IMAGE", "frame_count", "audio", "video_info")
    FUNCTION = "load_video"
    CATEGORY = "Video Helper Suite"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        """The file, and which of its pictures."""
        return {
            "required": {
                "video": media_file(),
                "force_rate": number(0.0, 0.0, 60.0, 1.0),
                "custom_width": integer(0, 0, 16384),
                "custom_height": integer(0, 0, 16384),
                "frame_load_cap": integer(0, 0, 1_000_000, 1),
                "skip_first_frames": integer(0, 0, 1_000_000, 1),
                "select_every_nth": integer(1, 1, 1_000_000, 1),
            },
            "optional": {
                "meta_batch": ("VHS_BatchManager", {}),
                "vae": ("VAE", {}),
                "format": choice(list(_FORMATS), "AnimateDiff"),
            },
            "hidden": HIDDEN,
        }

    @checked()
    def load_video(
        self,
        video: str,
        force_rate: float = 0.0,
        custom_width: int = 0,
        custom_height: int = 0,
        frame_load_cap: int = 0,
        skip_first_frames: int = 0,
        select_every_nth: int = 1,
        meta_batch: Any = None,  # noqa: ANN401
        vae: Any = None,  # noqa: ANN401
        format: str = "AnimateDiff",  # noqa: A002 - the name in workflows
        place: Any = None,  # noqa: ANN401
        unique_id: str | None = None,  # noqa: ARG002
    ) -> tuple[torch.Tensor, int, dict[str, Any] | None, dict[str, Any]]:
        """Pictures ``[B, H, W, 3]``, their number, the sound that belongs to them, and facts about the file.

        Raises:
            UsageError: batches, or a VAE of another kind, are wired in.
        """
        if meta_batch is not None or vae is not None:
            raise UsageError("VHS_LoadVideo takes no meta_batch and no vae here; encode with WanVideoEncode.")
        here, (multiple, (step, rest)) = placed(place), _FORMATS[format]
        film, notes = open_film(here.find(video, "video"), max_pixels=here.max_pixels)
        for note in notes:
            here.tell(note)
        rate = film_rate(film)
        chosen = _Chosen(
            Fraction(force_rate).limit_denominator(1000) or rate,
            skip_first_frames,
            select_every_nth,
            frame_load_cap,
        )
        size = _target(film, custom_width, custom_height, multiple)
        pictures = _read(film, rate, chosen, size, here)
        pictures = pictures[: (len(pictures) - rest) // step * step + rest]
        if not len(pictures):
            raise InputError(f"{shown(film.path)} has no pictures left to load.", code="video_trim")
        begin = chosen.skip / chosen.rate
        seconds = len(pictures) * chosen.every / chosen.rate
        sound = _sound_of(film.path, begin, begin + seconds, here)
        return pictures, len(pictures), sound, _facts(film, rate, chosen, pictures, seconds)


class VHS_LoadVideoPath(VHS_LoadVideo):  # noqa: N801
    """The same by path."""

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        """The file, and which of its pictures."""
        declared = super().INPUT_TYPES()
        return {**declared, "required": {**declared["required"], "video": words("input/")}}


class _Chosen:
    """Which pictures of a film are wanted: at what rate, from which on, every how many, at most how many (0: all)."""

    __slots__ = ("every", "most", "rate", "skip")

    def __init__(self, rate: Fraction, skip: int, every: int, most: int) -> None:
        self.rate, self.skip, self.every, self.most = rate, skip, every, most


def _target(film: Film, width: int, height: int, multiple: int) -> tuple[int, int]:
    """Height and width: a side of 0 follows from the other; both rounded to the nearest multiple."""
    if width and not height:
        height = round(film.height * width / film.width)
    elif height and not width:
        width = round(film.width * height / film.height)
    elif not width and not height:
        width, height = film.width, film.height
    rounded = [max(multiple, int(side / multiple + 0.5) * multiple) for side in (height, width)]
    return rounded[0], rounded[1]


def _read(film: Film, rate: Fraction, chosen: _Chosen, size: tuple[int, int], here: Place) -> torch.Tensor:
    """The wanted pictures ``[B, *size, 3]``, scaled and cropped to the middle one by one."""
    plan = plan_fit(film.height, film.width, to_height=size[0], to_width=size[1], proportion="crop")
    most = chosen.most or max(1, here.max_bytes // (size[0] * size[1] * 12))
    kept: list[torch.Tensor] = []
    shown_until, number_out = Fraction(0), 0
    for picture in stored_pictures(film):
        shown_until += 1 / rate
        # Each stored picture stands for as many wanted ones as begin while it is on show.
        while Fraction(number_out) / chosen.rate < shown_until:
            wanted = number_out >= chosen.skip and (number_out - chosen.skip) % chosen.every == 0
            number_out += 1
            if not wanted:
                continue
            if len(kept) == most:
                if chosen.most:
                    return torch.cat(kept)
                raise InputError(
                    f"{shown(film.path)} has more than {most} pictures of {size[1]}x{size[0]}, which need more than "
                    f"{here.max_bytes >> 30} GiB of memory; set frame_load_cap or a smaller size.",
                    code="video_too_long",
                )
            kept.append(fit(torch.from_numpy(picture.astype(np.float32) / 255)[None], plan, "lanczos"))
    return torch.cat(kept) if kept else torch.zeros((0, *size, 3))


def _sound_of(path: Path, begin: Fraction, end: Fraction, here: Place) -> dict[str, Any] | None:
    try:
        return read_audio(path, start=float(begin), end=float(end), max_seconds=here.max_seconds)
    except InputError as error:
        if error.code in ("no_audio_stream", "audio_trim"):
            return None  # a silent film, or one whose sound ends before
        raise


def _facts(
    film: Film, rate: Fraction, chosen: _Chosen, pictures: torch.Tensor, seconds: Fraction
) -> dict[str, Any]:
    return {
        "source_fps": float(rate),
        "source_width": film.width,
        "source_height": film.height,
        "loaded_fps": float(chosen.rate / chosen.every),
        "loaded_frame_count": len(pictures),
        "loaded_duration": float(seconds),
        "loaded_width": pictures.shape[2],
        "loaded_height": pictures.shape[1],
    }
