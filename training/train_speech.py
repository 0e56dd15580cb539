"""Train the embedded speech encoder on phoneme-timed speech.

    python -m training.train_speech --bank bank.safetensors --held-out held.safetensors --out runs/speech
    --minutes 4

Writes `encoder.safetensors`, `heads.safetensors` (both fp16, averaged weights), `report.json` and
`state.pt` (to go on with `--resume`) into `--out` every minute. A smoke test: `--steps 3 --device cpu
--tiny`.
"""

import argparse
import copy
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training.speech import encoder as speech_encoder
from training.speech.augment import FPS, Crops, DeviceBank, augment, crops, normalise, uniform
from training.speech.bank import SpeechBank, mulaw_table
from training.speech.encoder import CONTEXT, Estimate, SpeechTrainer
from training.speech.score import evaluate

# Clip lengths in frames and how often; long ones teach attention to stay sharp over long recordings.
_LENGTHS = ((75, 0.25), (125, 0.35), (200, 0.25), (500, 0.15))
_CHANNEL_WEIGHTS = (3.0, 1.0, 1.5, 0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Recipe:
    """Numbers of a run. `seconds` is the sound of one batch, `natural` the share of clips from natural
    voices.
    """

    seconds: float = 1024.0
    rate: float = 1.5e-3
    warmup: int = 200
    decay: float = 0.02
    average: float = 0.998
    natural: float = 0.5


def on_device(bank: SpeechBank, device: torch.device) -> DeviceBank:
    """Move a bank to the device as bytes."""
    track = np.concatenate([bank.mouth, bank.level[:, None]], 1)
    arrays = (bank.sound, track, bank.classes, mulaw_table())
    return DeviceBank(*(torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in arrays))


def natural_frames(bank: SpeechBank) -> int:
    """How many frames at the beginning of the bank belong to natural voices."""
    espeak = np.array([name.startswith("espeak/") for name in bank.voices])
    robots = np.flatnonzero(espeak[bank.voice])
    return int(bank.starts[robots[0]]) if len(robots) else int(bank.starts[-1])


def draw(bank: DeviceBank, natural: int, recipe: Recipe, generator: torch.Generator) -> Crops:
    """Draw a batch: one length, clips at random places and speeds, augmented sound."""
    device = generator.device
    weights = torch.tensor([share for _, share in _LENGTHS], device=device)
    frames = _LENGTHS[int(torch.multinomial(weights, 1, generator=generator))][0]
    batch = max(2, round(recipe.seconds * FPS / frames))
    speed = torch.exp(uniform(generator, (batch,), math.log(0.8), math.log(1.25)))
    room = int(4 * frames * 1.25) + 4
    share = recipe.natural if natural > 2 * room else 0.0
    share = 1.0 if bank.frames - natural <= 2 * room else share
    from_natural = torch.rand(batch, generator=generator, device=device) < share
    low = torch.where(from_natural, 0, natural if share < 1 else 0)
    high = torch.where(from_natural, natural, bank.frames) - room
    starts = low + (torch.rand(batch, generator=generator, device=device) * (high - low)).long()
    clip = crops(bank, starts, speed, frames)
    sound = augment(clip.sound, generator)
    clean = torch.rand((batch, 1), generator=generator, device=device) < 0.1
    return Crops(torch.where(clean, normalise(clip.sound), sound), clip.mouth, clip.level, clip.classes)


def loss_of(estimate: Estimate, clip: Crops) -> Tensor:
    """Class cross-entropy, mouth and level regression, and 1 - r of each mouth channel."""
    weights = torch.tensor(_CHANNEL_WEIGHTS, device=clip.mouth.device)
    entropy = functional.cross_entropy(
        estimate.classes.flatten(0, 1), clip.classes.flatten(), label_smoothing=0.05
    )
    distance = functional.smooth_l1_loss(estimate.mouth, clip.mouth, beta=0.1, reduction="none").mean((0, 1))
    level = functional.smooth_l1_loss(estimate.level, clip.level, beta=0.1)
    found, truth = estimate.mouth - estimate.mouth.mean(1, True), clip.mouth - clip.mouth.mean(1, True)
    scale = torch.sqrt(found.pow(2).sum(1) * truth.pow(2).sum(1) + 1e-4)
    apart = (1 - (found * truth).sum(1) / scale).mean(0)
    return 0.5 * entropy + 6 * (weights * distance).sum() + 3 * level + 0.3 * (weights * apart).sum()


def total_loss(trainer: SpeechTrainer, clip: Crops) -> tuple[Tensor, Estimate]:
    """Loss of the reader and, less, of every layer; each layer must also know the classes nearby."""
    estimate, layers = trainer(clip.sound, clip.mouth.shape[1])
    loss = loss_of(estimate, clip)
    for layer, before, after in layers:
        past = functional.cross_entropy(
            before[:, CONTEXT:].flatten(0, 1), clip.classes[:, :-CONTEXT].flatten()
        )
        future = functional.cross_entropy(
            after[:, :-CONTEXT].flatten(0, 1), clip.classes[:, CONTEXT:].flatten()
        )
        loss = loss + (loss_of(layer, clip) + 0.2 * (past + future)) / len(layers)
    return loss, estimate


@dataclass
class Run:
    """A training in progress."""

    trainer: SpeechTrainer
    average: SpeechTrainer
    optimiser: torch.optim.Optimizer
    step: int = 0
    elapsed: float = 0.0

    def save(self, folder: Path, report: dict[str, object]) -> None:
        """Write the averaged model, the state and the report, each under its final name at once."""
        folder.mkdir(parents=True, exist_ok=True)
        speech_encoder.save(self.average, folder)
        state = {
            "trainer": self.trainer.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "elapsed": self.elapsed,
        }
        torch.save(state, folder / "state.pt.part")
        (folder / "state.pt.part").replace(folder / "state.pt")
        (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n")

    def resume(self, folder: Path, device: torch.device) -> None:
        """Go on where `folder` ended; without its `state.pt` the averaged weights begin with a fresh
        optimiser.
        """
        if not (folder / "state.pt").exists():
            weights = speech_encoder.load(folder).state_dict()
            self.trainer.load_state_dict(weights)
            self.average.load_state_dict(weights)
            return
        state = torch.load(folder / "state.pt", map_location=device, weights_only=True)
        self.trainer.load_state_dict(state["trainer"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.elapsed = state["step"], state["elapsed"]


def start(args: argparse.Namespace, recipe: Recipe, device: torch.device) -> Run:
    """Build the model and its optimiser, or read them back."""
    torch.manual_seed(args.seed)
    config = speech_encoder.tiny_config() if args.tiny else speech_encoder.embedded_config()
    trainer = SpeechTrainer(config).to(device)
    average = copy.deepcopy(trainer).eval().requires_grad_(False)
    optimiser = torch.optim.AdamW(
        trainer.parameters(),
        lr=recipe.rate,
        betas=(0.9, 0.98),
        weight_decay=recipe.decay,
        fused=device.type == "cuda",
    )
    run = Run(trainer, average, optimiser)
    if args.resume:
        run.resume(args.resume, device)
    return run


def train(args: argparse.Namespace) -> dict[str, object]:
    """Train for the minutes or steps asked for, and report."""
    device = torch.device(args.device)
    recipe = Recipe(seconds=args.seconds) if not args.tiny else Recipe(seconds=8)
    bank = SpeechBank.open(args.bank)
    natural, stored = natural_frames(bank), on_device(bank, device)
    print(
        f"bank: {bank.minutes:.1f} min, {natural / 6000:.1f} natural, {len(bank.voices)} voices", flush=True
    )
    run = start(args, recipe, device)
    print(
        f"parameters: {count(run.trainer.encoder) / 1e6:.2f} M encoder, {count(run.trainer) / 1e6:.2f} M all",
        flush=True,
    )
    generator = torch.Generator(device).manual_seed(args.seed + run.step)
    begun, before, first = time.perf_counter(), run.elapsed, run.step
    saved = begun
    while True:
        now = time.perf_counter()
        run.elapsed = before + now - begun
        progress = (run.step - first) / args.steps if args.steps else (now - begun) / (60 * args.minutes)
        if progress >= 1:
            break
        loss, r = one_step(run, stored, natural, recipe, generator, progress)
        if run.step % 50 == 0 or args.steps:
            pace = (run.step - first) / (time.perf_counter() - begun)
            print(f"step {run.step} loss {float(loss):.3f} r {float(r):.3f} {pace:.1f} steps/s", flush=True)
        if now - saved > 60:
            run.save(args.out, {"step": run.step, "minutes": run.elapsed / 60})
            saved = now
    report = describe(run, args, device)
    run.save(args.out, report)
    print(json.dumps(report, indent=1), flush=True)
    return report


def one_step(
    run: Run, bank: DeviceBank, natural: int, recipe: Recipe, generator: torch.Generator, progress: float
) -> tuple[Tensor, Tensor]:
    """One batch; returns the loss and the correlation of the opening in the batch."""
    clip = draw(bank, natural, recipe, generator)
    rate = (
        recipe.rate
        * min(1, (run.step + 1) / recipe.warmup)
        * (0.02 + 0.98 * math.cos(math.pi / 2 * progress) ** 2)
    )
    for group in run.optimiser.param_groups:
        group["lr"] = rate
    run.trainer.train()
    with torch.autocast(clip.sound.device.type, torch.bfloat16, enabled=clip.sound.is_cuda):
        loss, estimate = total_loss(run.trainer, clip)
    run.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(run.trainer.parameters(), 1.0)
    run.optimiser.step()
    run.step += 1
    with torch.no_grad():
        share = 1 - min(recipe.average, run.step / (run.step + 10))
        averages, values = list(run.average.parameters()), list(run.trainer.parameters())
        torch._foreach_lerp_(averages, values, share)
        pair = torch.stack([estimate.mouth[..., 0].flatten(), clip.mouth[..., 0].flatten()])
        return loss.detach(), torch.corrcoef(pair)[0, 1]


def count(module: torch.nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def describe(run: Run, args: argparse.Namespace, device: torch.device) -> dict[str, object]:
    """Settings, size, and scores on voices and sentences never trained on."""
    report: dict[str, object] = {
        "step": run.step,
        "minutes": round(run.elapsed / 60, 2),
        "seed": args.seed,
        "parameters": {"encoder": count(run.trainer.encoder), "all": count(run.trainer)},
    }
    for path in args.held_out:
        report[path.stem] = evaluate(SpeechBank.open(path), estimator_of(run.average, device), args.most)
    return report


def estimator_of(trainer: SpeechTrainer, device: torch.device):
    """The model as a function of numpy arrays."""

    def estimate(sound: np.ndarray, frames: int) -> tuple[np.ndarray, np.ndarray]:
        found = trainer.estimate(torch.from_numpy(sound)[None].to(device), frames)
        return found.mouth[0].cpu().numpy(), found.level[0].cpu().numpy()

    return estimate


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bank", type=Path, required=True)
    parser.add_argument("--held-out", type=Path, nargs="*", default=[])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=4)
    parser.add_argument("--steps", type=int, default=0, help="train this many steps instead of minutes")
    parser.add_argument("--seconds", type=float, default=Recipe().seconds, help="seconds of sound in a batch")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", type=Path, default=None)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--most", type=int, default=200, help="held-out utterances to score")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
