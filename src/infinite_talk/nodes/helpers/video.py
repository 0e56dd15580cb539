"""VIDEO: pictures with their rate and sound, from a file or from nodes, and in parts again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from infinite_talk.errors import UsageError
from infinite_talk.nodes.declare import Inputs, checked, link, number
from infinite_talk.nodes.helpers.loading import VHS_LoadVideo, media_file
from infinite_talk.nodes.helpers.place import HIDDEN


@dataclass(frozen=True, slots=True)
class Video:
    """Pictures ``[B, H, W, 3]``, frames per second, and sound."""

    images: torch.Tensor
    fps: float
    audio: Mapping[str, Any] | None = None


class LoadVideo:
    """A film, whole."""

    RETURN_TYPES = ("VIDEO",)
    FUNCTION = "load"
    CATEGORY = "image/video"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802 - ComfyUI's name
        """The file."""
        return {"required": {"file": media_file(upload="video")}, "hidden": HIDDEN}

    @checked()
    def load(
        self,
        file: str,
        place: Any = None,  # noqa: ANN401 - a hidden input
        unique_id: str | None = None,
    ) -> tuple[Video]:
        """All its pictures in their own size and rate."""
        loaded = VHS_LoadVideo().load_video(file, format="None", place=place, unique_id=unique_id)
        return (Video(loaded[0], loaded[3]["loaded_fps"], loaded[2]),)


class GetVideoComponents:
    """The parts of a VIDEO."""

    RETURN_TYPES = ("IMAGE", "AUDIO", "FLOAT")
    RETURN_NAMES = ("images", "audio", "fps")
    FUNCTION = "part"
    CATEGORY = "image/video"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        """The video."""
        return {"required": {"video": link("VIDEO")}}

    @checked()
    def part(self, video: Any) -> tuple[torch.Tensor, Mapping[str, Any] | None, float]:  # noqa: ANN401
        """Pictures, sound (``None`` of a silent one), frames per second."""
        if not isinstance(video, Video):
            raise UsageError(f"A video came as {type(video).__name__}; connect LoadVideo or CreateVideo.")
        return video.images, video.audio, video.fps


class CreateVideo:
    """Pictures and sound as a VIDEO."""

    RETURN_TYPES = ("VIDEO",)
    FUNCTION = "create_video"
    CATEGORY = "image/video"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        """Pictures, frames per second, sound."""
        return {
            "required": {"images": link("IMAGE"), "fps": number(30.0, 1.0, 120.0, 1.0)},
            "optional": {"audio": link("AUDIO")},
        }

    @checked()
    def create_video(
        self,
        images: torch.Tensor,
        fps: float,
        audio: Any = None,  # noqa: ANN401
    ) -> tuple[Video]:
        """All of it."""
        return (Video(images, fps, audio),)
