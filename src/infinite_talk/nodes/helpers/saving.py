"""Nodes that write and show results."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from infinite_talk.errors import UsageError
from infinite_talk.media.durable import explained, replacing
from infinite_talk.media.film import write_film
from infinite_talk.media.recipe import MARK
from infinite_talk.nodes.declare import Inputs, checked, choice, flag, integer, link, number, words
from infinite_talk.nodes.helpers.place import HIDDEN, Place, placed
from infinite_talk.nodes.helpers.resizing import eight_bits
from infinite_talk.nodes.helpers.video import Video
from infinite_talk.nodes.helpers.waveforms import WaveformTrack, samples_of

H264: Final = "video/h264-mp4"
_OTHER_FORMATS: Final = (
    "video/nvenc_h264-mp4",
    "video/h265-mp4",
    "video/nvenc_hevc-mp4",
    "video/av1-webm",
    "video/webm",
    "video/ProRes",
    "video/ffv1-mkv",
    "image/gif",
    "image/webp",
)
_CRF: Final = 19
_STORY: Final = {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO", **HIDDEN}


class VHS_VideoCombine:  # noqa: N801 - the name in workflows
    """Pictures and sound become a video file."""

    RETURN_TYPES = ("VHS_FILENAMES",)
    RETURN_NAMES = ("Filenames",)
    FUNCTION = "combine_video"
    CATEGORY = "Video Helper Suite"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802 - ComfyUI's name
        """Pictures, sound and how they are written."""
        return {
            "required": {
                "images": link("IMAGE"),
                "frame_rate": number(8.0, 1.0, 1000.0, 1.0),
                "loop_count": integer(0, 0, 100, 1),
                "filename_prefix": words("AnimateDiff"),
                "format": choice((H264, *_OTHER_FORMATS)),
                "pingpong": flag(False),
                "save_output": flag(True),
            },
            "optional": {
                "audio": link("AUDIO"),
                "meta_batch": link("VHS_BatchManager"),
                "vae": link("VAE"),
                "pix_fmt": choice(("yuv420p", "yuv420p10le")),
                "crf": integer(_CRF, 0, 51, 1),
                "save_metadata": flag(True),
                "trim_to_audio": flag(False),
            },
            "hidden": _STORY,
        }

    @checked()
    def combine_video(
        self,
        images: torch.Tensor,
        frame_rate: float = 8.0,
        loop_count: int = 0,
        filename_prefix: str = "AnimateDiff",
        format: str = H264,  # noqa: A002 - the name in workflows
        pingpong: bool = False,
        save_output: bool = True,  # noqa: ARG002 - without ComfyUI there is one place to save
        audio: Any = None,  # noqa: ANN401
        meta_batch: Any = None,  # noqa: ANN401
        vae: Any = None,  # noqa: ANN401
        pix_fmt: str = "yuv420p",
        crf: int = _CRF,
        save_metadata: bool = True,
        trim_to_audio: bool = False,
        prompt: Any = None,  # noqa: ANN401
        extra_pnginfo: Any = None,  # noqa: ANN401
        place: Any = None,  # noqa: ANN401
        unique_id: str | None = None,
    ) -> dict[str, Any]:
        """Write H.264 and AAC. The sound is cut, or continued with silence, to the pictures' length.

        Raises:
            UsageError: a format that is not written here.
        """
        here = placed(place)
        if format != H264 or pix_fmt != "yuv420p":
            raise UsageError(
                f"{format} with {pix_fmt} is not written here; choose {H264} with yuv420p (--set "
                f"{unique_id or 'VHS_VideoCombine'}.format={H264})."
            )
        if meta_batch is not None or vae is not None:
            raise UsageError(
                "VHS_VideoCombine takes no meta_batch and no vae here; decode with WanVideoDecode."
            )
        if loop_count:
            here.tell(f"node {unique_id}: an mp4 does not loop by itself; loop_count has no effect.")
        path = here.output(unique_id, ".mp4") or Path(f"{Path(filename_prefix).name}.mp4")
        story = _story(prompt, extra_pnginfo) if save_metadata else {}
        order = list(range(len(images)))
        order += order[-2:0:-1] if pingpong else []
        video = _Film(images, order, Fraction(frame_rate).limit_denominator(1001), audio)
        frames = video.write(path, crf, {**story, **here.tags}, here, trim=trim_to_audio)
        return _told(path, frames, float(video.rate))


class SaveVideo:
    """A VIDEO becomes a file."""

    RETURN_TYPES: tuple[str, ...] = ()
    FUNCTION = "save_video"
    CATEGORY = "image/video"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        """The video."""
        return {
            "required": {
                "video": link("VIDEO"),
                "filename_prefix": words("video/ComfyUI"),
                "format": choice(("auto", "mp4")),
                "codec": choice(("auto", "h264")),
            },
            "hidden": _STORY,
        }

    @checked()
    def save_video(
        self,
        video: Any,  # noqa: ANN401
        filename_prefix: str = "video/ComfyUI",
        format: str = "auto",  # noqa: A002, ARG002 - one format is written
        codec: str = "auto",  # noqa: ARG002
        prompt: Any = None,  # noqa: ANN401
        extra_pnginfo: Any = None,  # noqa: ANN401
        place: Any = None,  # noqa: ANN401
        unique_id: str | None = None,
    ) -> dict[str, Any]:
        """Write H.264 and AAC."""
        if not isinstance(video, Video):
            raise UsageError(f"SaveVideo was given a {type(video).__name__}; connect CreateVideo.")
        here = placed(place)
        path = here.output(unique_id, ".mp4") or Path(f"{Path(filename_prefix).name}.mp4")
        rate = Fraction(video.fps).limit_denominator(1001)
        film = _Film(video.images, list(range(len(video.images))), rate, video.audio)
        frames = film.write(path, _CRF, {**_story(prompt, extra_pnginfo), **here.tags}, here, trim=False)
        return _told(path, frames, float(rate))


@dataclass(frozen=True, slots=True)
class _Film:
    """Pictures in an order, and sound."""

    images: torch.Tensor
    order: list[int]
    rate: Fraction
    audio: Any

    def write(self, path: Path, crf: int, tags: Mapping[str, str], here: Place, *, trim: bool) -> int:
        """Write the file; returns the number of frames.

        Raises:
            UsageError: no pictures.
            NoSpaceError: the file cannot be written.
        """
        if self.images.ndim != 4 or not len(self.images):
            raise UsageError(
                f"Pictures came as {tuple(self.images.shape)}; expected [B, H, W, 3] with B > 0."
            )
        track = None if self.audio is None else WaveformTrack(*samples_of(self.audio))
        count = len(self.order)
        if track is not None and (trim or here.follow_sound):
            # To the nearest frame, at least one, as the video's length follows from the speech everywhere here.
            heard = max(1, math.floor(Fraction(track.samples, track.rate) * self.rate + Fraction(1, 2)))
            if heard < count:
                here.tell(f"{path.name}: {count - heard} frames after the end of the sound are cut off.")
            count = min(count, heard)
        height, width = (side + side % 2 for side in self.images.shape[1:3])
        return write_film(
            path,
            self._pictures(count),
            height=height,
            width=width,
            rate=self.rate,
            crf=crf,
            soundtrack=track,
            tags={"title": path.stem, "description": MARK, **tags},
        )

    def _pictures(self, count: int) -> Iterator[NDArray[np.uint8]]:
        """8-bit RGB one by one, sides made even by repeating the last row or column."""
        for index in self.order[:count]:
            picture = next(eight_bits(self.images[index : index + 1, ..., :3]))
            odd = [(0, side % 2) for side in picture.shape[:2]]
            yield np.pad(picture, (*odd, (0, 0)), mode="edge") if any(one[1] for one in odd) else picture


def _story(prompt: object, extra: object) -> dict[str, str]:
    """The workflow as metadata, as ComfyUI keeps it: whoever opens the video there gets the graph back."""
    told: dict[str, Any] = {}
    if prompt:
        told["prompt"] = json.dumps(prompt)
    if isinstance(extra, Mapping):
        told |= extra
    return {"comment": json.dumps(told, ensure_ascii=False)} if told else {}


def _told(path: Path, frames: int, rate: float) -> dict[str, Any]:
    shown = {"filename": path.name, "path": str(path), "frames": frames, "frame_rate": rate}
    return {"ui": {"videos": (shown,)}, "result": ((True, [str(path)]),)}


class SaveImage:
    """Pictures become PNG files."""

    RETURN_TYPES: tuple[str, ...] = ()
    FUNCTION = "save_images"
    CATEGORY = "image"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        """The pictures."""
        return {
            "required": {"images": link("IMAGE"), "filename_prefix": words("ComfyUI")},
            "hidden": HIDDEN,
        }

    @checked()
    def save_images(
        self,
        images: torch.Tensor,
        filename_prefix: str = "ComfyUI",
        place: Any = None,  # noqa: ANN401
        unique_id: str | None = None,
    ) -> dict[str, Any]:
        """Number the files from 1."""
        here = placed(place)
        first = here.output(unique_id, ".png") or Path(f"{Path(filename_prefix).name}.png")
        with explained(first):
            first.parent.mkdir(parents=True, exist_ok=True)
        written = []
        for number_, picture in enumerate(eight_bits(images), 1):
            path = first.with_name(f"{first.stem}_{number_:05}.png")
            with replacing(path) as part:
                Image.fromarray(picture).save(part, format="PNG")
            written.append({"filename": path.name, "path": str(path)})
        return {"ui": {"images": tuple(written)}}


class PreviewImage:
    """Shows pictures; without a viewer it says what they are."""

    RETURN_TYPES: tuple[str, ...] = ()
    FUNCTION = "show"
    CATEGORY = "image"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        """The pictures."""
        return {"required": {"images": link("IMAGE")}, "hidden": HIDDEN}

    def show(
        self,
        images: torch.Tensor,
        place: Any = None,  # noqa: ANN401
        unique_id: str | None = None,
    ) -> dict[str, Any]:
        """Number and size."""
        count, height, width = images.shape[:3]
        placed(place).tell(f"node {unique_id}: {count} pictures of {width}x{height}")
        return {"ui": {}}


class PreviewAudio:
    """Plays sound; without a viewer it says how long it is."""

    RETURN_TYPES: tuple[str, ...] = ()
    FUNCTION = "play"
    CATEGORY = "audio"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        """The sound."""
        return {"required": {"audio": link("AUDIO")}, "hidden": HIDDEN}

    def play(
        self,
        audio: Any,  # noqa: ANN401
        place: Any = None,  # noqa: ANN401
        unique_id: str | None = None,
    ) -> dict[str, Any]:
        """Length and rate."""
        waveform, rate = samples_of(audio)
        placed(place).tell(f"node {unique_id}: {waveform.shape[1] / rate:.2f} s of sound at {rate} Hz")
        return {"ui": {}}
