"""Train the transformer of the embedded model, together with its small text and image towers.

    torchrun --nproc-per-node 2 -m training.train_transformer --bank bank.safetensors --vae vae.safetensors \
        --vae-report vae.json --speech encoder.safetensors --out runs/transformer --minutes 9

Flow matching with the objective of Wan2.1 (velocity = noise - data). Every sample is one window of a longer
scene: a first window, held at the latent of the portrait, or a later one, held at three latent frames of motion.
Those motion frames have been through the VAE, changed slightly in colour and sharpness, and encoded again, since
at inference they are the model's own output. Encoded scenes wait in a buffer on the GPU and are used about a
dozen times, each time with other noise: the encoder would otherwise take most of the time.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, fields
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from training import embedded
from training.optim import Average, Clock, Muon, Ranks, load, save
from training.scenes import Scene, Scenes
from training.towers import Towers, build_towers, frozen_vae, picture_to_clip

LATENTS = 1 + (embedded.WINDOW - 1) // 4
MOTION_LATENTS = 1 + (embedded.MOTION - 1) // 4


@dataclass
class Samples:
    """Encoded windows, first dimension the sample."""

    latent: torch.Tensor  # (N, 16, T, h, w) half precision: what is to be generated
    motion: torch.Tensor  # (N, 16, motion latents, h, w): what the window is held at
    reference: torch.Tensor  # (N, 16, T, h, w): the portrait followed by grey
    picture: torch.Tensor  # (N, 3, 224, 224) uint8-like half: for the image tower
    weight: torch.Tensor  # (N, T, h, w): loss weight, larger at the mouth
    text: torch.Tensor  # (N, L) byte tokens
    held: torch.Tensor  # (N,) motion latents: 1 in a first window
    version: torch.Tensor  # (N,) which augmented copy of the speech features
    frame: torch.Tensor  # (N,) first frame in the speech features

    def put(self, index: torch.Tensor, new: Samples) -> None:
        for field in fields(self):
            getattr(self, field.name)[index] = getattr(new, field.name)

    def take(self, index: torch.Tensor) -> Samples:
        return Samples(*(getattr(self, field.name)[index] for field in fields(self)))

    @staticmethod
    def empty(count: int, like: Samples) -> Samples:
        return Samples(
            *(
                torch.zeros(
                    count,
                    *getattr(like, f.name).shape[1:],
                    dtype=getattr(like, f.name).dtype,
                    device=like.latent.device,
                )
                for f in fields(like)
            )
        )


def disturb(frames: torch.Tensor) -> torch.Tensor:
    """What a few windows of generation do to motion frames: small shifts of colour, contrast and sharpness."""
    n = frames.shape[0]
    shape = (n, 3, 1, 1, 1)
    device = frames.device
    strength = torch.rand(n, 1, 1, 1, 1, device=device)
    gain = 1 + 0.04 * strength * torch.randn(shape, device=device)
    offset = 0.03 * strength * torch.randn(shape, device=device)
    blurred = F.avg_pool3d(frames, (1, 3, 3), stride=1, padding=(0, 1, 1), count_include_pad=False)
    amount = (torch.rand(n, 1, 1, 1, 1, device=device) * 1.2 - 0.3).clamp(-0.2, 0.8)
    grain = 0.03 * torch.rand(n, 1, 1, 1, 1, device=device) * torch.randn_like(frames)
    return ((frames + (blurred - frames) * amount) * gain + offset + grain).clamp(-1, 1)


@torch.no_grad()
def encode(vae: nn.Module, scene: Scene, *, first: bool, clean: float) -> Samples:
    """Windows of one kind (``first`` or later) as the model sees them."""
    video = scene.video.transpose(1, 2) * 2 - 1  # (N, 3, F, H, W)
    picture = scene.portrait * 2 - 1  # (N, 3, H, W)
    n, _, frames, height, width = video.shape
    with torch.autocast(video.device.type, torch.bfloat16, enabled=video.is_cuda):
        latent = vae.encode(video).float()
        grey = torch.zeros(n, 3, frames - 1, height, width, device=video.device)
        reference = vae.encode(torch.cat([picture[:, :, None], grey], 2)).float()
        if first:
            motion = latent[:, :, :1]
        else:
            seen = vae.decode_raw(latent[:, :, :MOTION_LATENTS]).float().clamp(-1, 1)
            motion = vae.encode(disturb(seen)).float()
            keep = (torch.rand(n, 1, 1, 1, 1, device=video.device) < clean).float()
            motion = keep * latent[:, :, :MOTION_LATENTS] + (1 - keep) * motion
    held = torch.full((n,), motion.shape[2], device=video.device)
    motion = F.pad(motion, (0, 0, 0, 0, 0, MOTION_LATENTS - motion.shape[2]))
    return Samples(
        latent.half(), motion.half(), reference.half(), picture_to_clip(picture).half(),
        mouth_weight(scene, latent.shape[-1]).half(), scene.text, held, scene.version, scene.frame,
    )  # fmt: skip


def mouth_weight(scene: Scene, side: int) -> torch.Tensor:
    """1 everywhere, 4 where the mouth is in any of a latent frame's pictures: ``(N, T, side, side)``."""
    box = scene.mouth_box / embedded.SIZE * side  # (N, F, 4) left top right bottom
    grid = torch.arange(side, device=box.device) + 0.5
    inside_x = (grid > box[..., None, 0] - 0.7) & (grid < box[..., None, 2] + 0.7)
    inside_y = (grid > box[..., None, 1] - 0.7) & (grid < box[..., None, 3] + 0.7)
    mask = (inside_y[..., :, None] & inside_x[..., None, :]).float()  # (N, F, h, w)
    first, rest = mask[:, :1], mask[:, 1:].unflatten(1, (-1, 4)).amax(2)
    return 1 + 3 * torch.cat([first, rest], 1)


def loss_of(towers: Towers, scenes: Scenes, batch: Samples) -> torch.Tensor:
    """Weighted squared error of the velocity on the frames that are to be generated."""
    device = batch.latent.device
    n = batch.latent.shape[0]
    data = batch.latent.float()
    time_ = torch.sigmoid(torch.randn(n, device=device) * 1.2 + 0.4)
    time_ = 2.0 * time_ / (1 + time_)  # shift 2: most steps of a short schedule are at high noise
    t = time_.view(n, 1, 1, 1, 1)
    noise = torch.randn_like(data)
    noisy = (1 - t) * data + t * noise
    frame = torch.arange(data.shape[2], device=device).view(1, 1, -1, 1, 1)
    held = frame < batch.held.view(n, 1, 1, 1, 1)
    motion = F.pad(batch.motion.float(), (0, 0, 0, 0, 0, data.shape[2] - batch.motion.shape[2]))
    noisy = torch.where(held, motion, noisy)
    heard = (torch.rand(n, 1, 1, 1, 1, 1, device=device) > 0.1).float()
    speech = scenes.features(batch.version, batch.frame, embedded.WINDOW) * heard  # (N, 1, F, 5, K, D)
    said = torch.rand(n, 1, device=device) > 0.15
    empty = F.pad(torch.ones(n, 1, dtype=batch.text.dtype, device=device), (0, batch.text.shape[1] - 1))
    velocity = towers(
        noisy,
        time_ * 1000,
        torch.where(said, batch.text, empty),
        batch.picture.float(),
        speech,
        batch.reference.float(),
    )
    weight = batch.weight.float()[:, None] * (~held)
    error = (velocity.float() - (noise - data)).square()
    return (error * weight).sum() / weight.expand_as(error).sum()


@dataclass
class Buffer:
    """Encoded scenes on the GPU; the oldest give way to new ones."""

    vae: nn.Module
    scenes: Scenes
    size: int
    fresh: int  # scenes drawn at a time
    samples: Samples | None = None
    filled: int = 0
    cursor: int = 0

    def draw(self, *, first: bool) -> None:
        """Put ``fresh`` new scenes in."""
        new = encode(
            self.vae, self.scenes.draw(self.fresh, embedded.WINDOW, first=first), first=first, clean=0.15
        )
        if self.samples is None:
            self.samples = Samples.empty(self.size, new)
        index = (torch.arange(self.fresh, device=new.latent.device) + self.cursor) % self.size
        self.samples.put(index, new)
        self.cursor = (self.cursor + self.fresh) % self.size
        self.filled = min(self.size, self.filled + self.fresh)

    def fill(self, count: int) -> None:
        """Draw until ``count`` scenes are there, a quarter of them first windows."""
        while self.filled < count:
            self.draw(first=self.filled % (4 * self.fresh) == 0)

    def batch(self, count: int) -> Samples:
        """``count`` scenes at random."""
        assert self.samples is not None
        return self.samples.take(torch.randint(self.filled, (count,), device=self.samples.latent.device))


def learn(towers: Towers, buffer: Buffer, ranks: Ranks, args: argparse.Namespace) -> list[float]:
    """Train until the minutes are over; the averaged weights are left in ``towers``. Returns every 50th loss."""
    optimiser = Muon(towers, args.lr, adam_names=("embedding", "head", "modulation", "relative", "shared"))
    average = Average(towers, 0.999)
    clock, step, saved, losses = Clock(args.minutes), 0, time.monotonic(), []
    buffer.fill(4 if args.tiny else 384)
    while (progress := ranks.agree(clock.progress)) < 1.0 and not (args.tiny and step >= 3):
        buffer.draw(first=step % 4 == 0)
        batch = buffer.batch(2 if args.tiny else args.batch)
        with torch.autocast(ranks.device.type, torch.bfloat16, enabled=ranks.device.type == "cuda"):
            loss = loss_of(towers, buffer.scenes, batch)
        loss.backward()
        ranks.average_gradients(towers.parameters())
        torch.nn.utils.clip_grad_norm_(towers.parameters(), 1.0)
        optimiser.step(clock.scale(progress))
        optimiser.zero_grad(towers)
        average.update()
        step += 1
        if step == 3:
            clock.begin_now()
        if step % 50 == 0:
            losses.append(float(loss.detach()))
        if ranks.first and step % 200 == 0:
            print(f"transformer {progress:5.1%} step {step} loss {sum(losses[-4:]) / 4:.4f}", flush=True)
        if ranks.first and time.monotonic() - saved > 100:
            save(args.out / "towers.safetensors", average.state())
            saved = time.monotonic()
    average.copy_to(towers)
    return losses


def main() -> None:
    args = arguments()
    ranks = Ranks()
    torch.manual_seed(5 + ranks.index)
    vae = frozen_vae(args.vae, args.vae_report, ranks.device)
    scenes = Scenes(args.bank, embedded.SIZE, ranks.device, seed=31 + ranks.index)
    blocks, width = scenes.encode_speech(args.speech, versions=2 if args.tiny else 6)
    towers = build_towers(blocks, width).to(ranks.device)
    if args.resume:
        load(args.resume, towers)
    ranks.share_weights(towers)
    if args.compile:
        for block in towers.transformer.blocks:
            block.compile(dynamic=False)
    buffer = Buffer(vae, scenes, size=8 if args.tiny else args.buffer, fresh=2 if args.tiny else args.fresh)
    losses = learn(towers, buffer, ranks, args)
    if ranks.first:
        save(args.out / "towers.safetensors", towers.state_dict())
        report = {"losses": losses, "blocks": blocks, "width": width}
        (args.out / "towers.json").write_text(json.dumps(report))
    ranks.close()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("bank", "vae", "vae-report", "speech", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--batch", type=int, default=64, help="windows per step and GPU")
    parser.add_argument("--fresh", type=int, default=3, help="new scenes per step and GPU")
    parser.add_argument("--buffer", type=int, default=6144, help="scenes kept on each GPU")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--resume", type=Path, help="weights to go on from")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--tiny", action="store_true", help="a few small steps, to see that it runs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
