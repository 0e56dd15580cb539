"""Let unseen portraits speak with unseen voices, several windows long, and measure the result.

    python -m training.evaluate_talk --bank held_out.safetensors --vae vae.safetensors --vae-report vae.json \
        --speech encoder.safetensors --towers towers.safetensors --out runs/evaluation
    python -m training.evaluate_talk --bank held_out.safetensors --model FOLDER --out runs/evaluation  # as shipped

The sampler is the program's own schedule run in batches; ``infinite-talk generate`` follows the same path one
window at a time.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from infinite_talk.denoise.schedules import timesteps
from infinite_talk.weights.bundle import load_bundle
from training import embedded
from training.evaluate import Truth, talk_report
from training.optim import load
from training.scenes import Scenes
from training.towers import Towers, build_towers, frozen_vae, picture_to_clip, shipped
from training.train_vae import sheet

STRIDE = embedded.WINDOW - embedded.MOTION
BRIEF = ("r opening", "r opening without reader", "lag", "amplitude", "r width", "r rounding", "r with another clip",
         "psnr outside, window 1", "psnr outside of a still picture, window 1", "psnr outside, window 6",
         "psnr outside of a still picture, window 6", "colour drift, window 6")  # fmt: skip


@torch.no_grad()
def denoise(
    towers: Towers, motion: torch.Tensor, text: torch.Tensor, picture: torch.Tensor, speech: torch.Tensor,
    reference: torch.Tensor, *, steps: int, shift: float, audio_guidance: float,
) -> torch.Tensor:  # fmt: skip
    """Euler steps from noise to a latent window, motion latents held fixed."""
    latent = torch.randn_like(reference)
    k = motion.shape[2]
    times = timesteps(steps, shift).tolist()
    for now, then in pairwise(times):
        latent[:, :, :k] = motion
        t = torch.full((latent.shape[0],), now, device=latent.device)
        velocity = towers(latent, t, text, picture, speech, reference).float()
        if audio_guidance != 1:
            deaf = towers(latent, t, text, picture, torch.zeros_like(speech), reference).float()
            velocity = deaf + audio_guidance * (velocity - deaf)
        latent = latent - velocity * (now - then) / 1000
    latent[:, :, :k] = motion
    return latent


@torch.no_grad()
def talk(
    towers: Towers,
    vae: torch.nn.Module,
    scenes: Scenes,
    scene,
    speech: torch.Tensor,
    windows: int,
    **options: float,
) -> torch.Tensor:
    """``(N, 1 + ..., 3, H, W)`` frames in [0, 1] of ``windows`` windows; ``speech (N, F, K, D)`` covers them."""
    portrait = scene.portrait * 2 - 1
    n = portrait.shape[0]
    cast = torch.autocast(portrait.device.type, torch.bfloat16, enabled=portrait.is_cuda)
    frames = None
    with cast:
        grey = torch.zeros(n, 3, embedded.WINDOW - 1, *portrait.shape[-2:], device=portrait.device)
        reference = vae.encode(torch.cat([portrait[:, :, None], grey], 2)).float()
        motion = vae.encode(portrait[:, :, None]).float()
        for index in range(windows):
            start = index * STRIDE
            heard = scenes.windows(speech, start, embedded.WINDOW)
            latent = denoise(
                towers, motion, scene.text, picture_to_clip(portrait), heard, reference, **options
            )
            decoded = vae.decode(latent).float().clamp(-1, 1)
            frames = decoded if frames is None else torch.cat([frames, decoded[:, :, embedded.MOTION :]], 2)
            motion = vae.encode(frames[:, :, -embedded.MOTION :]).float()
    return (frames.transpose(1, 2) + 1) / 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("bank", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name in ("vae", "vae-report", "speech", "towers"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--model", type=Path, help="a finished model's folder, instead of the four parts")
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument(
        "--seed", type=int, default=99, help="chooses the portraits and the stretches of speech"
    )
    parser.add_argument("--windows", type=int, default=6)
    parser.add_argument("--steps", type=int, nargs="+", default=[8])
    parser.add_argument("--shift", type=float, nargs="+", default=[3.0])
    parser.add_argument("--audio-guidance", type=float, nargs="+", default=[1.0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    device = torch.device(args.device)
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(3)
    scenes = Scenes(args.bank, embedded.SIZE, device, seed=args.seed, held_out=True, compiled=False)
    if args.model:
        rooms = load_bundle(args.model, device, torch.float32)
        scenes.encode_speech(rooms.speech, versions=1)
        vae, towers = rooms.vae, shipped(rooms)
    else:
        vae = frozen_vae(args.vae, args.vae_report, device)
        towers = build_towers(*scenes.encode_speech(args.speech, versions=1)).to(device).eval()
        load(args.towers, towers)

    length = embedded.WINDOW + (args.windows - 1) * STRIDE
    scene = scenes.draw(args.clips, length, first=True)
    speech = scenes.stretch(scene.version, scene.frame, length)
    truth = Truth(*scene.geometry.unbind(-1), scene.mouth_box[..., [1, 3, 0, 2]])
    seams = [embedded.WINDOW + i * STRIDE for i in range(args.windows - 1)]
    result = []
    for steps in args.steps:
        for shift in args.shift:
            for guidance in args.audio_guidance:
                torch.manual_seed(4)
                begun = time.monotonic()
                made = torch.cat([
                    talk(
                        towers, vae, scenes, scene.part(s), speech[s], args.windows,
                        steps=steps, shift=shift, audio_guidance=guidance,
                    )
                    for s in torch.arange(args.clips, device=device).split(5)
                ])  # fmt: skip
                report = talk_report(scene.video, made, truth, seams)
                took = time.monotonic() - begun
                settings = {"steps": steps, "shift": shift, "audio_guidance": guidance}
                result.append({**settings, "seconds": took, "report": report})
                brief = {
                    n: (round(v["mean"], 3), round(v["least"], 3)) for n, v in report.items() if n in BRIEF
                }
                print(f"steps {steps} shift {shift} guidance {guidance} ({took:.0f} s): {brief}", flush=True)
                sheet(scene.video[:6], made[:6], args.out / f"sheet_{steps}_{shift}_{guidance}.png")
    (args.out / "talk.json").write_text(json.dumps(result, indent=1))
    np.savez_compressed(args.out / "sample.npz", frames=(made[:2] * 255).byte().cpu().numpy())


if __name__ == "__main__":
    main()
