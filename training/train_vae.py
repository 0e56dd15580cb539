"""Train the causal video VAE of the embedded model on drawn portraits.

    torchrun --nproc-per-node 2 -m training.train_vae --bank bank.safetensors --out runs/vae --minutes 9

Time, not steps, is the budget. The clip length grows from pictures to whole windows, because a causal VAE
trained on short clips meets temporal contexts at inference that it has never seen (and explodes there).
Most clips are crops, half of them around the mouth: detail decides, and a crop costs a quarter.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image

from infinite_talk.models.vae.config import VAEConfig
from infinite_talk.models.vae.model import VideoVAE
from training import embedded
from training.evaluate import box_mask, psnr
from training.optim import Average, Clock, Muon, Ranks, load, save
from training.scenes import Scenes

CROP = 96


def stage(progress: float, rng: random.Random, *, tiny: bool) -> tuple[int, int, int]:
    """Clip length, side and clips per step at this point of the run: pictures, short crops, window-long clips."""
    if tiny:
        return rng.choice([(1, 192, 1), (5, 96, 1)])
    if progress < 0.12:
        return 1, 192, 64
    if progress < 0.45:
        return (1, 192, 64) if rng.random() < 0.1 else (17, CROP, 32)
    return (49, CROP, 12) if rng.random() < 0.55 else (49, 192, 3)


def crops(
    video: torch.Tensor, boxes: torch.Tensor, side: int, count: int, rng: random.Random
) -> torch.Tensor:
    """``count`` square crops of ``video (N, F, 3, H, W)``, half of them at the mouth: ``(count, 3, F, side, side)``."""
    size = video.shape[-1]
    out = []
    for i in range(count):
        n = i % video.shape[0]
        if side == size:
            y = x = 0
        elif rng.random() < 0.5:
            box = boxes[n].mean(0)
            y = int(min(max(box[1] + box[3] - side + rng.uniform(-24, 24) * 2, 0) / 2, size - side))
            x = int(min(max(box[0] + box[2] - side + rng.uniform(-24, 24) * 2, 0) / 2, size - side))
        else:
            y, x = rng.randint(0, size - side), rng.randint(0, size - side)
        out.append(video[n, :, :, y : y + side, x : x + side])
    return torch.stack(out).transpose(1, 2)


def edges(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x[..., 1:, :] - x[..., :-1, :], x[..., :, 1:] - x[..., :, :-1]


def picture_loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Absolute difference of pixels, of edges at two scales, and of change over time."""
    loss = (output - target).abs().mean() + 0.5 * (output - target).square().mean()
    for a, b in zip(edges(output), edges(target), strict=True):
        loss = loss + 0.5 * (a - b).abs().mean()
    small, small_target = (F.avg_pool3d(v, (1, 2, 2)) for v in (output, target))
    for a, b in zip(edges(small), edges(small_target), strict=True):
        loss = loss + 0.3 * (a - b).abs().mean()
    if output.shape[2] > 1:
        loss = loss + 0.5 * (output.diff(dim=2) - target.diff(dim=2)).abs().mean()
    return loss


def objective(vae: VideoVAE, video: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss and reconstruction of ``video (N, 3, F, H, W)``."""
    with torch.autocast(video.device.type, torch.bfloat16, enabled=video.is_cuda):
        mean, logvar = vae.encode_moments(video)
        mean, logvar = (
            mean.float(),
            logvar.float().clamp(-4.6, 4),
        )  # noise of at least 0.1
        latent = mean + torch.randn_like(mean) * (0.5 * logvar).exp()
        output = vae.decode_raw(vae.normalise(latent))
    rate = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
    return picture_loss(output.float(), video) + 2e-4 * rate, output.float()


def learn(vae: VideoVAE, scenes: Scenes, ranks: Ranks, args: argparse.Namespace) -> None:
    """Train until the minutes are over; the averaged weights are left in ``vae``."""
    rng = random.Random(7)  # the same on every rank: all ranks take clips of one shape at one step
    local = random.Random(100 + ranks.index)
    optimiser, average = Muon(vae, args.lr), Average(vae, 0.998)
    clock, step, saved = Clock(args.minutes), 0, time.monotonic()
    while (progress := ranks.agree(clock.progress)) < 1.0 and not (args.tiny and step >= 3):
        frames, side, count = stage(args.start + (1 - args.start) * progress, rng, tiny=args.tiny)
        scene = scenes.draw(count if side == embedded.SIZE else max(1, count // 4), frames)
        video = crops(scene.video * 2 - 1, scene.mouth_box, side, count, local)
        loss, output = objective(vae, video)
        loss.backward()
        ranks.average_gradients(vae.parameters())
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimiser.step(clock.scale(progress))
        optimiser.zero_grad(vae)
        average.update()
        step += 1
        if ranks.first and step % 60 == 0:
            decibels = -10 * torch.log10((output.detach().clamp(-1, 1) - video).square().mean() / 4)
            line = f"loss {float(loss.detach()):.4f}, {frames} frames of {side}: {float(decibels):.1f} dB"
            print(f"vae {progress:5.1%} step {step} {line}", flush=True)
        if ranks.first and time.monotonic() - saved > 100:
            save(args.out / "vae.safetensors", average.state())
            saved = time.monotonic()
    average.copy_to(vae)


def main() -> None:
    args = arguments()
    ranks = Ranks()
    torch.manual_seed(1 + ranks.index)
    vae = VideoVAE(VAEConfig.from_json(embedded.VAE)).to(ranks.device)
    if args.resume:
        load(args.resume, vae)
    ranks.share_weights(vae)
    scenes = Scenes(args.bank, embedded.SIZE, ranks.device, seed=11 + ranks.index)
    learn(vae, scenes, ranks, args)
    if ranks.first:
        report = finish(vae, scenes, args)
        (args.out / "vae.json").write_text(json.dumps(report, indent=1))
        print(json.dumps(report["held_out"]), flush=True)
    ranks.close()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bank", type=Path, required=True)
    parser.add_argument("--held-out", type=Path, help="bank of unseen voices for the report")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--lr", type=float, default=7e-4)
    parser.add_argument("--resume", type=Path, help="weights to go on from")
    parser.add_argument("--start", type=float, default=0.0, help="where to enter the schedule, 0..1")
    parser.add_argument("--tiny", action="store_true", help="a few small steps, to see that it runs")
    return parser.parse_args()


@torch.no_grad()
def finish(vae: VideoVAE, scenes: Scenes, args: argparse.Namespace) -> dict[str, object]:
    """Latent statistics over training scenes, quality on portraits and voices never seen, weights on disk."""
    device = next(vae.parameters()).device
    cast = torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")
    frames = 5 if args.tiny else embedded.WINDOW
    total, squares, seen = torch.zeros(16, device=device), torch.zeros(16, device=device), 0
    for _ in range(1 if args.tiny else 24):
        video = scenes.draw(2, frames).video.transpose(1, 2) * 2 - 1
        with cast:
            mean, _ = vae.encode_moments(video)
        mean = mean.float().transpose(0, 1).flatten(1)
        total, squares, seen = total + mean.sum(1), squares + mean.square().sum(1), seen + mean.shape[1]
    mean = total / seen
    std = (squares / seen - mean**2).sqrt()
    save(args.out / "vae.safetensors", vae.state_dict())
    held = scenes.held_out(args.held_out or args.bank)
    whole, mouth = [], []
    for _ in range(1 if args.tiny else 12):
        scene = held.draw(2, frames)
        with cast:
            latent, _ = vae.encode_moments(scene.video.transpose(1, 2) * 2 - 1)
            output = vae.decode_raw(latent.float())
        output = (output.float().clamp(-1, 1).transpose(1, 2) + 1) / 2
        if not whole:
            sheet(scene.video, output, args.out / "vae.png")
        error = (output - scene.video).square().mean(2)
        whole += psnr(error.mean((1, 2, 3))).tolist()
        inside = box_mask(scene.mouth_box[..., [1, 3, 0, 2]], embedded.SIZE, embedded.SIZE)[:, :, 0]
        mouth += psnr((error * inside).sum((1, 2, 3)) / inside.sum((1, 2, 3))).tolist()
    held_out = {"psnr": sum(whole) / len(whole), "psnr_worst": min(whole)}
    held_out |= {"psnr_mouth": sum(mouth) / len(mouth), "psnr_mouth_worst": min(mouth)}
    return {"held_out": held_out, "latent_mean": mean.tolist(), "latent_std": std.tolist()}


def sheet(truth: torch.Tensor, made: torch.Tensor, path: Path, columns: int = 8) -> None:
    """Rows of true frames and, below, the frames made of them, at equal times."""
    rows = []
    for pair in zip(truth, made, strict=True):
        pick = torch.linspace(0, pair[0].shape[0] - 1, columns).round().long()
        rows += [torch.cat(list(video[pick]), -1) for video in pair]
    picture = (torch.cat(rows, -2).clamp(0, 1) * 255).byte().permute(1, 2, 0).cpu().numpy()
    Image.fromarray(picture).save(path)


if __name__ == "__main__":
    main()
