"""A video as numbered pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from infinite_talk.errors import InputError, NoSpaceError
from infinite_talk.media.pictures import PictureFolder, frames_in, read_frames
from infinite_talk.types import Clip, Window


def clip(frames: int, seed: int) -> Clip:
    pixels = np.random.default_rng(seed).integers(0, 256, (frames, 6, 4, 3), np.uint8)
    return Clip(Window(0, 0, 5, 0, frames, 0), torch.from_numpy(pixels), torch.empty(0))


def test_frames_come_back_as_they_were_and_in_order(tmp_path: Path):
    folder = PictureFolder(tmp_path / "new" / "video")
    clips = [clip(3, 1), clip(2, 2)]
    for one in clips:
        folder.add(one)
    assert [path.name for path in frames_in(folder.folder)][-1] == "frame_00004.png"
    assert np.array_equal(
        np.stack(list(read_frames(folder.folder))), torch.cat([c.frames for c in clips]).numpy()
    )


def test_another_video_never_mixes_with_the_first(tmp_path: Path):
    first = PictureFolder(tmp_path / "video")
    first.add(clip(3, 1))
    second = PictureFolder(tmp_path / "video")
    second.add(clip(1, 2))
    assert second.folder.name == "video-2"
    assert len(frames_in(first.folder)) == 3


def test_a_folder_that_cannot_be_made_and_one_without_frames_are_named(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(NoSpaceError, match="file"):
        PictureFolder(tmp_path / "file" / "video")
    with pytest.raises(InputError, match="no frames"):
        list(read_frames(tmp_path))
