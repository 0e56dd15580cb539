"""Evaluation that the training scripts share: pure functions over frames and mouth tracks.

Frames are float (N, F, 3, H, W) in [0, 1]; tracks (N, F) as `infinite_talk.lipsync` reads them; true tracks
come from `portraits.mouth_geometry`, divided by the picture's height.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from infinite_talk.lipsync.activity import ActivityMeter, mouth_activity
from infinite_talk.lipsync.reader import MouthReader, load_reader, mouth_region, read_regions
from infinite_talk.lipsync.scores import amplitude_ratio, best_lag, closed_share, pearson
from training.portraits import Identity, Pose, mouth_box, mouth_geometry


@dataclass(frozen=True)
class Truth:
    """What a perfect reader would see in N clips."""

    opening: Tensor  # (N, F) picture heights
    width: Tensor  # (N, F) picture heights
    rounding: Tensor  # (N, F)
    box: Tensor  # (N, F, 4) y0, y1, x0, x1 around the mouth

    @classmethod
    def of(cls, who: Identity, pose: Pose, mouth: Tensor, size: int) -> Truth:
        """Truth of what `portraits.render` draws from the same arguments."""
        drawn = mouth_geometry(who, pose, mouth, size)
        return cls(drawn.opening / size, drawn.width / size, drawn.rounding, mouth_box(who, pose, size))


@torch.inference_mode()
def read_tracks(frames: Tensor, reader: MouthReader | None = None) -> Tensor:
    """Opening, width and rounding (N, F, 3) read from the frames, on the frames' device."""
    reader = (reader or load_reader()).to(frames.device)
    parts = [read_regions(mouth_region(clip.float().clamp(0, 1)), reader) for clip in frames]
    return torch.stack(parts)


def activity_tracks(frames: Tensor) -> Tensor:
    """The reader-free measure (N, F) of the same frames."""
    tracks = []
    for clip in frames:
        meter = ActivityMeter()
        meter.add((clip.float().clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu())
        tracks.append(torch.from_numpy(mouth_activity(meter)))
    return torch.stack(tracks)


def psnr(error: Tensor) -> Tensor:
    """Decibels of mean squared errors for values in [0, 1]; at most 60."""
    return -10 * torch.log10(error.clamp_min(1e-6))


def box_mask(box: Tensor, height: int, width: int) -> Tensor:
    """1 inside boxes (N, F, 4): (N, F, 1, H, W)."""
    y = torch.arange(height, device=box.device)[:, None]
    x = torch.arange(width, device=box.device)[None, :]
    y0, y1, x0, x1 = (box[..., i, None, None] for i in range(4))
    return ((y >= y0) & (y < y1) & (x >= x0) & (x < x1)).float().unsqueeze(2)


def _masked_error(first: Tensor, second: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error (N,) where the mask is 1."""
    square = (first.float() - second.float()).square().mean(2, keepdim=True)
    return (square * mask).sum((1, 2, 3, 4)) / mask.sum((1, 2, 3, 4)).clamp_min(1)


def _each(values: Sequence[float]) -> dict[str, Any]:
    """Mean and the worst, for a report; and every clip's value."""
    row = torch.tensor(list(values), dtype=torch.float64)
    extremes = {"mean": float(row.mean()), "least": float(row.min()), "most": float(row.max())}
    return {**extremes, "clips": [round(value, 3) for value in row.tolist()]}


def _correlations(read: Tensor, truth: Tensor) -> list[float]:
    return [pearson(a.cpu().numpy(), b.cpu().numpy()) for a, b in zip(read, truth, strict=True)]


def vae_report(
    frames_true: Tensor, frames_reconstructed: Tensor, truth: Truth, reader: MouthReader | None = None
) -> dict[str, dict[str, Any]]:
    """How an autoencoder keeps pictures and mouths: PSNR in and outside the mouth, r of what is read."""
    ours = frames_reconstructed.float().clamp(0, 1)
    whole = (frames_true.float() - ours).square().mean((1, 2, 3, 4))
    mask = box_mask(truth.box, *ours.shape[-2:])
    read = read_tracks(ours, reader)
    baseline = read_tracks(frames_true, reader)
    return {
        "psnr": _each(psnr(whole).tolist()),
        "psnr mouth": _each(psnr(_masked_error(frames_true, ours, mask)).tolist()),
        "psnr outside": _each(psnr(_masked_error(frames_true, ours, 1 - mask)).tolist()),
        "r opening": _each(_correlations(read[..., 0], truth.opening)),
        "r width": _each(_correlations(read[..., 1], truth.width)),
        "r rounding": _each(_correlations(read[..., 2], truth.rounding)),
        "r opening of the true frames": _each(_correlations(baseline[..., 0], truth.opening)),
        "r opening without reader": _each(_correlations(activity_tracks(ours), truth.opening)),
        "amplitude": _each(_amplitudes(read[..., 0], truth.opening)),
    }


def _amplitudes(read: Tensor, truth: Tensor) -> list[float]:
    return [amplitude_ratio(a.cpu().numpy(), b.cpu().numpy()) for a, b in zip(read, truth, strict=True)]


def _without_pauses(rows: Sequence[float | None]) -> list[float]:
    return [row for row in rows if row is not None]


def talk_report(
    frames_true: Tensor,
    frames_generated: Tensor,
    truth: Truth,
    seams: Sequence[int] = (),
    silent: Tensor | None = None,
    reader: MouthReader | None = None,
) -> dict[str, dict[str, Any]]:
    """How well generated clips talk.

    Args:
        frames_true: the same portraits with their true motion, for PSNR outside the mouth and colour drift.
        seams: first frames of windows after the first; outside-mouth figures are given window by window.
        silent: (N, F) bool, frames in which nobody speaks.
    """
    ours = frames_generated.float().clamp(0, 1)
    read, free = read_tracks(ours, reader), activity_tracks(ours)
    opening = read[..., 0].cpu()
    true = truth.opening.cpu()
    pairs = [(a.numpy(), b.numpy()) for a, b in zip(opening, true, strict=True)]
    report = {
        "r opening": _each(_correlations(opening, true)),
        "r opening without reader": _each(_correlations(free, true)),
        # What the measure without a reader can reach at all on these portraits.
        "r opening without reader, true frames": _each(_correlations(activity_tracks(frames_true), true)),
        "lag": _each([best_lag(a, b)[0] for a, b in pairs]),
        "amplitude": _each(_amplitudes(opening, true)),
        "r width": _each(_correlations(read[..., 1], truth.width)),
        "r rounding": _each(_correlations(read[..., 2], truth.rounding)),
    }
    if len(pairs) > 1:
        # Each clip against the sound of its neighbour: what chance and shared habits give.
        report["r with another clip"] = _each(_correlations(opening, true.roll(1, dims=0)))
    if silent is not None:
        shares = [closed_share(a.numpy(), b.cpu().numpy()) for a, b in zip(opening, silent, strict=True)]
        if given := _without_pauses(shares):
            report["closed in silence"] = _each(given)
    return report | _by_window(frames_true, ours, truth, seams)


def _by_window(
    frames_true: Tensor, ours: Tensor, truth: Truth, seams: Sequence[int]
) -> dict[str, dict[str, Any]]:
    """PSNR outside the mouth and drift of the mean colour in every window."""
    outside = 1 - box_mask(truth.box, *ours.shape[-2:])
    edges = [0, *seams, ours.shape[1]]
    report = {}
    for index, (start, stop) in enumerate(pairwise(edges), start=1):
        part = slice(start, stop)
        error = _masked_error(frames_true[:, part], ours[:, part], outside[:, part])
        report[f"psnr outside, window {index}"] = _each(psnr(error).tolist())
        held = _masked_error(
            frames_true[:, part], frames_true[:, :1].expand_as(ours[:, part]), outside[:, part]
        )
        report[f"psnr outside of a still picture, window {index}"] = _each(psnr(held).tolist())
        shift = ours[:, part].mean((1, 3, 4)) - frames_true[:, part].float().mean((1, 3, 4))  # (N, 3)
        report[f"colour drift, window {index}"] = _each((255 * shift.abs().amax(1)).tolist())
    return report


def show(report: dict[str, dict[str, Any]]) -> str:
    """The report as lines of text."""
    width = max(len(name) for name in report)
    lines = []
    for name, row in report.items():
        lines.append(
            f"{name:<{width}}  " + "  ".join(f"{key} {row[key]:.3f}" for key in ("mean", "least", "most"))
        )
    return "\n".join(lines)


__all__ = [
    "Truth",
    "activity_tracks",
    "box_mask",
    "psnr",
    "read_tracks",
    "show",
    "talk_report",
    "vae_report",
]
