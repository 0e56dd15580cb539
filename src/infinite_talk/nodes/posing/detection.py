"""DWPose: a detector finds people (YOLOX), another network their 133 points (RTMPose with SimCC).

What goes in and comes out of both: DWPose's ONNX programs (github.com/IDEA-Research/DWPose, Apache-2.0), YOLOX and
MMPose. They run with the package ``onnxruntime``, which is not needed for anything else and not installed with us.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from infinite_talk.errors import CapabilityError
from infinite_talk.nodes.posing.skeleton import NOBODY, Skeleton, of_wholebody

Array = NDArray[np.float32]
Network = Callable[[Array], Sequence[Array]]
"""Runs on one batch and gives all outputs."""
FILES = ("yolox_l.onnx", "dw-ll_ucoco_384.onnx")
_SIDE = 640  # pixels of YOLOX's square input
_GREY = 114.0  # around a picture in it
_PERSON = 0  # of the classes
_SURE, _OVERLAP = 0.3, 0.45
_POSE = (288, 384)  # width and height of the pose network's input
_PADDING = 1.25  # of a person's box
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
_FINER = 2  # points are told in halves of pixels


@dataclass(frozen=True, slots=True)
class Detector:
    """Finds the most certain person of a picture."""

    people: Network
    points: Network

    def __call__(self, picture: torch.Tensor, threshold: float) -> Skeleton:
        """The skeleton in a picture ``(3, H, W)`` in 0..1; ``NOBODY`` where there is none."""
        box = _person(picture, self.people)
        if box is None:
            return NOBODY
        points, scores = _points(picture, box, self.points)
        height, width = picture.shape[1:]
        return of_wholebody(points / (width, height), scores, threshold)


def open_detector(find: Callable[[str], Path | None], device: torch.device) -> Detector:
    """Both networks.

    Args:
        find: the place of a file by its name.

    Raises:
        CapabilityError: says all that is missing.
    """
    places = {name: find(name) for name in FILES}
    missing = [name for name, place in places.items() if place is None]
    there = find_spec("onnxruntime") is not None
    if missing or not there:
        lacks = [*missing, *(() if there else ("the package onnxruntime (pip install onnxruntime)",))]
        raise CapabilityError(
            f"Poses cannot be found in pictures here: DWPose lacks {' and '.join(lacks)}. Put the files into the "
            "folder dwpose beside the other models, or connect pictures of poses that another program has drawn to "
            "WanVideoUniAnimatePoseInput.",
            code="detector_missing",
        )
    onnxruntime = import_module("onnxruntime")
    providers = ["CUDAExecutionProvider"] if device.type == "cuda" else []
    return Detector(*(_session(onnxruntime, places[name], providers) for name in FILES))


def _session(onnxruntime: Any, place: Path | None, providers: Sequence[str]) -> Network:  # noqa: ANN401
    usable = [name for name in providers if name in onnxruntime.get_available_providers()]
    session = onnxruntime.InferenceSession(str(place), providers=[*usable, "CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: session.run(None, {name: batch})


def _person(picture: torch.Tensor, network: Network) -> NDArray[np.float64] | None:
    """The box (left, top, right, bottom) of the most certain person, in pixels."""
    height, width = picture.shape[1:]
    ratio = min(_SIDE / height, _SIDE / width)
    inner = (int(height * ratio), int(width * ratio))
    canvas = torch.full((1, 3, _SIDE, _SIDE), _GREY)
    small = F.interpolate(picture[None] * 255, size=inner, mode="bilinear", align_corners=False)
    canvas[..., : inner[0], : inner[1]] = small.flip(1)  # BGR
    (found,) = network(canvas.numpy())[0]
    boxes, scores = _decoded(found)
    kept = _apart(boxes, scores)
    return boxes[kept[0]] / ratio if kept else None


def _decoded(found: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Boxes and scores of people from YOLOX's answer ``(N, 5 + classes)`` of all cells of three grids."""
    cells, strides = [], []
    for stride in (8, 16, 32):
        side = _SIDE // stride
        rows, columns = np.divmod(np.arange(side * side), side)
        cells.append(np.stack([columns, rows], axis=1))
        strides.append(np.full((side * side, 1), stride))
    step = np.concatenate(strides)
    middle = (found[:, :2] + np.concatenate(cells)) * step
    half = np.exp(found[:, 2:4].astype(np.float64)) * step / 2
    scores = (found[:, 4] * found[:, 5 + _PERSON]).astype(np.float64)
    return np.concatenate([middle - half, middle + half], axis=1), scores


def _apart(boxes: NDArray[np.float64], scores: NDArray[np.float64]) -> list[int]:
    """Boxes that are certain enough and do not overlap, the most certain first."""
    kept: list[int] = []
    for one in np.argsort(-scores):
        if scores[one] <= _SURE:
            break
        if all(_shared(boxes[one], boxes[other]) <= _OVERLAP for other in kept):
            kept.append(int(one))
    return kept


def _shared(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Intersection over union of two boxes."""
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    both = float(np.prod(np.clip(high - low, 0, None)))
    areas = float(np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]))
    return both / max(areas - both, 1e-9)


def _points(
    picture: torch.Tensor, box: NDArray[np.float64], network: Network
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The 133 points in pixels ``(133, 2)`` and their scores of the person in a box."""
    middle, size = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) * _PADDING
    shape = _POSE[0] / _POSE[1]
    size = np.array([max(size[0], size[1] * shape), max(size[1], size[0] / shape)])
    crop = _cut(picture, middle, size) * 255
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (_MEAN, _STD))
    across, down = network(((crop - mean) / std)[None].numpy())[:2]
    places = np.stack([across[0].argmax(axis=-1), down[0].argmax(axis=-1)], axis=1) / _FINER
    scores = np.minimum(across[0].max(axis=-1), down[0].max(axis=-1)).astype(np.float64)
    return places / _POSE * size + middle - size / 2, scores


def _cut(picture: torch.Tensor, middle: NDArray[np.float64], size: NDArray[np.float64]) -> torch.Tensor:
    """The part of ``size`` pixels around ``middle`` as a picture of the pose network's size; black outside."""
    height, width = picture.shape[1:]
    lines = [
        (start - extent / 2 + torch.arange(count) * extent / count + 0.5) * 2 / length - 1
        for start, extent, count, length in zip(middle, size, _POSE, (width, height), strict=True)
    ]
    columns, rows = (line.float() for line in lines)
    grid = torch.stack([columns.expand(len(rows), -1), rows[:, None].expand(-1, len(columns))], dim=-1)
    return F.grid_sample(picture[None].float(), grid[None], align_corners=False)[0]
