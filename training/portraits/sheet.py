"""Contact sheets to look at: ``python -m training.portraits.sheet OUT_FOLDER [--seed N] [--size S]``."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from training.portraits import describe, identities, poses, render
from training.portraits.babble import VISEMES


def save_grid(pictures: Tensor, columns: int, path: Path) -> None:
    """(K, 3, H, W) in [0, 1] to one picture file."""
    rows = [torch.cat(list(part), dim=-1) for part in pictures.split(columns)]
    rows[-1] = torch.nn.functional.pad(rows[-1], (0, rows[0].shape[-1] - rows[-1].shape[-1]))
    grid = torch.cat(rows, dim=-2).permute(1, 2, 0)
    Image.fromarray((grid * 255).round().to(torch.uint8).numpy().astype(np.uint8)).save(path)


def main() -> None:
    """Write faces.png, visemes.png and strip.png."""
    options = argparse.ArgumentParser()
    options.add_argument("out", type=Path)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--size", type=int, default=192)
    given = options.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    seeds = torch.arange(given.seed, given.seed + 24)
    who = identities(seeds)
    shapes = torch.tensor(list(VISEMES.values()), dtype=torch.float32)
    mouths = shapes[torch.arange(24) % len(shapes)][:, None]
    save_grid(
        render(who, poses(seeds, 1, start_frame=40), mouths, given.size)[:, 0], 8, given.out / "faces.png"
    )
    print("\n".join(describe(who)))
    several = seeds[:3]
    people = identities(several)
    sheet = [render(people, poses(several, 1), shape.expand(3, 1, 6), given.size)[:, 0] for shape in shapes]
    save_grid(torch.stack(sheet, dim=1).flatten(0, 1), len(shapes) // 2, given.out / "visemes.png")
    glide = torch.nn.functional.interpolate(shapes[[0, 13, 9, 10]].T[None], size=12, mode="linear")[0].T
    strip = render(people, poses(several, 12, start_frame=100), glide.expand(3, 12, 6), given.size)
    save_grid(strip.flatten(0, 1), 12, given.out / "strip.png")


if __name__ == "__main__":
    main()
