"""Train the reader of mouths on renders; about two minutes on a GPU, a quarter of an hour on a CPU core.

    python -m training.train_reader --out DIR [--minutes 2.3] [--device cuda]

Writes ``DIR/reader.safetensors`` (half precision) and ``DIR/reader.json``: correlations on portraits never
trained on (seeds from 1,000,000), clean and degraded.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from infinite_talk.lipsync.reader import (
    INPUT,
    OPENING_SCALE,
    REGION,
    WIDTH_SCALE,
    MouthReader,
    load_reader,
    mouth_region,
    read_regions,
    save_reader,
)
from training.degrade import block_compress, gaussian_blur, spoil
from training.portraits import FIRST_UNSEEN_SEED, babble, identities, mouth_geometry, poses, render


@dataclass
class Pool:
    """Rendered regions that training draws from; a few of the oldest are drawn anew at every step."""

    regions: Tensor  # uint8 (K, 3, h, w)
    targets: Tensor  # (K, 3)
    next: int = 0

    def replace(self, regions: Tensor, targets: Tensor) -> None:
        places = (torch.arange(len(regions), device=regions.device) + self.next) % len(self.regions)
        self.regions[places] = regions
        self.targets[places] = targets
        self.next = (self.next + len(regions)) % len(self.regions)


def _targets(geometry_opening: Tensor, width: Tensor, rounding: Tensor, size: int) -> Tensor:
    scaled = (geometry_opening / (size * OPENING_SCALE), width / (size * WIDTH_SCALE), rounding)
    return torch.stack(scaled, dim=-1).flatten(0, -2)


def _mouths(seeds: Tensor, frames: int, start: int, draw: torch.Generator) -> Tensor:
    """Half of the clips babble, half take any mouth: (N, frames, 6)."""
    shape = (len(seeds), frames, 6)
    free = torch.rand(shape, generator=draw, device=seeds.device)
    shut = torch.rand(shape[:2], generator=draw, device=seeds.device)
    free[..., 0] = torch.where(shut < 0.15, 0.0, free[..., 0] ** 1.5)
    free[..., 2] = (free[..., 2] * 1.6 - 0.6).clamp(0, 1)
    free[..., 5] = (free[..., 5] * 3 - 2).clamp(0, 1)
    speaks = torch.rand((len(seeds), 1, 1), generator=draw, device=seeds.device) < 0.6
    return torch.where(speaks, babble(seeds, frames, start), free)


def draw_samples(clips: int, frames: int, size: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Regions uint8 (clips x frames, 3, h, w) and targets; some neighbours are mixed, as by motion."""
    device = draw.device
    seeds = torch.randint(0, FIRST_UNSEEN_SEED, (clips,), generator=draw, device=device)
    start = int(torch.randint(0, 5000, (1,), generator=draw, device=device))
    mouth = _mouths(seeds, frames, start, draw)
    pose = poses(seeds, frames, start_frame=start)
    who = identities(seeds)
    top, bottom, left, right = (round(share * size) for share in REGION)
    shift = int(torch.randint(-3, 4, (1,), generator=draw, device=device))
    crop = (top + shift, min(size, bottom + shift), left - shift, right - shift)
    pictures = render(who, pose, mouth, size, crop).flatten(0, 1)
    geometry = mouth_geometry(who, pose, mouth, size)
    targets = _targets(geometry.opening, geometry.width, geometry.rounding, size)
    other = torch.arange(len(pictures), device=device) ^ 1  # the neighbour of the same clip
    share = (torch.rand((len(pictures), 1), generator=draw, device=device) * 2.5 - 2.0).clamp_min(0)
    pictures = torch.lerp(pictures, pictures[other], share[..., None, None])
    targets = torch.lerp(targets, targets[other], share)
    return (pictures * 255).round().to(torch.uint8), targets


def train(
    minutes: float,
    device: torch.device,
    batch: int,
    fresh: int,
    pool_size: int,
    size: int,
    seed: int,
    start: Path | None,
    rate: float,
) -> MouthReader:
    """AdamW with a cosine rate over the given time; returns the averaged weights."""
    draw = torch.Generator(device).manual_seed(seed)
    torch.manual_seed(seed)
    reader = MouthReader().to(device)
    if start:
        reader.load_state_dict(load_reader(start).state_dict())
    average = MouthReader().to(device)
    average.load_state_dict(reader.state_dict())
    optimiser = torch.optim.AdamW(reader.parameters(), lr=rate, weight_decay=1e-3)
    first = [draw_samples(8, 8, size, draw) for _ in range(max(1, pool_size // 64))]
    pool = Pool(torch.cat([r for r, _ in first]), torch.cat([t for _, t in first]))
    began, step = time.monotonic(), 0
    while (done := (time.monotonic() - began) / (60 * minutes)) < 1:
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * done))
        if step % max(1, 64 // fresh) == 0:
            pool.replace(*draw_samples(max(1, max(fresh, 64) // 8), 8, size, draw))
        chosen = torch.randint(0, len(pool.regions), (batch,), generator=draw, device=device)
        pictures = spoil(pool.regions[chosen].float() / 255, draw)
        regions = functional.interpolate(pictures, INPUT, mode="bilinear", antialias=True)
        loss = functional.smooth_l1_loss(reader(regions), pool.targets[chosen], beta=0.05)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        keep = min(0.999, (step + 1) / (step + 10))
        with torch.no_grad():
            for ours, theirs in zip(average.parameters(), reader.parameters(), strict=True):
                ours.lerp_(theirs, 1 - keep)
        step += 1
        if step % 500 == 0:
            print(f"step {step} loss {float(loss.detach()):.5f} {done:.0%}", flush=True)
    return average.eval()


def within_clip(ours: Tensor, truth: Tensor) -> Tensor:
    """Pearson r of each clip: (N, F), (N, F) -> (N,)."""
    a, b = ours - ours.mean(1, keepdim=True), truth - truth.mean(1, keepdim=True)
    return (a * b).sum(1) / (a.square().sum(1) * b.square().sum(1)).sqrt().clamp_min(1e-9)


def _degradations(flat: Tensor) -> Iterator[tuple[str, Tensor]]:
    """What the reader is validated on, one after the other."""
    yield "clean", flat
    for sigma in (0.6, 1.2, 2.0):
        yield f"blur {sigma}", gaussian_blur(flat, sigma)
    for step in (0.04, 0.08):
        yield f"blocks {step}", block_compress(flat, step)
    yield "dim and warm", flat * flat.new_tensor([0.85, 0.78, 0.7]).view(3, 1, 1) + 0.03
    yield "noise 0.02", (flat + 0.02 * torch.randn_like(flat)).clamp(0, 1)


@torch.inference_mode()
def validate(reader: MouthReader, clips: int, frames: int, size: int = 192) -> dict[str, dict[str, float]]:
    """Mean and worst r within unseen clips, for each degradation."""
    device = next(reader.parameters()).device
    seeds = torch.arange(FIRST_UNSEEN_SEED + 500, FIRST_UNSEEN_SEED + 500 + clips, device=device)
    who, pose, mouth = identities(seeds), poses(seeds, frames, start_frame=30), babble(seeds, frames, 30)
    one = [slice(i, i + 1) for i in range(clips)]
    pictures = torch.cat([render(who[i], pose[i], mouth[i], size) for i in one])
    geometry = mouth_geometry(who, pose, mouth, size)
    truth = {
        "opening": geometry.opening / size,
        "width": geometry.width / size,
        "rounding": geometry.rounding,
    }
    flat = pictures.flatten(0, 1)
    report = {}
    for name, degraded in _degradations(flat):
        values = read_regions(mouth_region(degraded), reader).unflatten(0, (clips, frames))
        error = (values[..., 0] - truth["opening"]).abs().mean() * size
        report[name] = {"opening error in pixels": float(error)}
        for index, (what, true) in enumerate(truth.items()):
            r = within_clip(values[..., index], true)
            report[name] |= {f"{what} r mean": float(r.mean()), f"{what} r least": float(r.min())}
    return report


def main() -> None:
    """Train, validate, write."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--minutes", type=float, default=2.3)
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options.add_argument("--seed", type=int, default=7)
    options.add_argument("--start", type=Path, help="continue from these weights")
    options.add_argument("--rate", type=float, default=2e-3, help="peak learning rate")
    options.add_argument("--check", type=Path, help="only validate these weights")
    given = options.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    device = torch.device(given.device)
    gpu = device.type == "cuda"
    if given.check:
        reader = load_reader(given.check).to(device)
    else:
        reader = train(
            given.minutes,
            device,
            batch=512 if gpu else 96,
            fresh=256 if gpu else 4,
            pool_size=32768 if gpu else 2560,
            size=192 if gpu else 144,
            seed=given.seed,
            start=given.start,
            rate=given.rate,
        )
        save_reader(reader, given.out / "reader.safetensors")
        reader = load_reader(given.out / "reader.safetensors").to(device)
    report = validate(reader, clips=40 if gpu else 12, frames=60 if gpu else 40)
    (given.out / "reader.json").write_text(json.dumps(report, indent=1))
    for name, values in report.items():
        print(name, {key: round(value, 4) for key, value in values.items()})


if __name__ == "__main__":
    main()
