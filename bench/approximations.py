"""How far do the step caches move a result, and how many passes of the model do they save?

    python -m bench.approximations                # the embedded model, two windows, on a CPU: about half an hour
    python -m bench.approximations --random-14b   # random weights of full size, on a GPU: error of the latents only
    python -m bench.approximations --table        # prints the table of docs/numerics.md from the files of results

Random weights are measured for the caches first, in the exact run; a trained model is smoother in time than they are.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.common import RATE, RESULTS, SAMPLES, parser, save, speech
from bench.precision import Film, Noting
from bench.sounds import write_wav
from infinite_talk import EasyCache, Engine, MagCache, Request, Settings, Speaker, TeaCache
from infinite_talk.denoise.caches import SkipCount, step_cache
from infinite_talk.denoise.caches.calibrate import Recorder
from infinite_talk.denoise.denoiser import Plain
from infinite_talk.denoise.loop import denoise
from infinite_talk.denoise.sampler import Sampler
from infinite_talk.engine import Job
from infinite_talk.generate import generate
from infinite_talk.lipsync.reader import load_reader, read_mouth
from infinite_talk.lipsync.scores import pearson
from infinite_talk.lipsync.voice import expected_opening
from infinite_talk.models.dit import DiTConfig, WanTransformer
from infinite_talk.ops.attention import AttentionCallable, sdpa
from infinite_talk.presets import OFFICIAL, Defaults, resolve
from infinite_talk.request import StepCache
from infinite_talk.rooms import Rooms
from infinite_talk.types import Guide
from infinite_talk.weights.bundle import load_bundle
from infinite_talk.weights.manifest import EMBEDDED

CACHES: tuple[StepCache, ...] = (
    TeaCache(threshold=0.1),
    TeaCache(threshold=0.2),
    MagCache(threshold=0.06),
    MagCache(threshold=0.12),
    EasyCache(threshold=0.05),
    EasyCache(threshold=0.1),
)
UNTRAINED = (*CACHES, TeaCache(threshold=0.5), EasyCache(threshold=0.3))
"""For random weights, which change more from step to step."""
SECONDS = 3.56
"""Of speech: 89 frames, two windows of the embedded model."""
STEPS = 12
"""The embedded model takes four by itself, of which nothing can be left out without harm."""


@dataclass(frozen=True)
class Row:
    """One cache against the same run without it."""

    passes: int  # of the blocks; branches, windows and steps together
    skipped: int
    seconds: float
    latent: float  # relative error of the latents
    psnr: float | None = None  # of the frames, dB
    level: float | None = None  # mean absolute difference of the frames, of 255
    mouth: float | None = None  # r of the mouth's opening with that of the exact run
    speech: float | None = None  # r of the mouth's opening with what the speech asks for


def title(cache: StepCache | None) -> str:
    """``MagCache 0.12``."""
    return "exact" if cache is None else f"{type(cache).__name__} {cache.threshold:g}"


def relative(found: Tensor, exact: Tensor) -> float:
    return float(f"{float((found - exact).norm() / exact.norm()):.3g}")


def film(job: Job, rooms: Rooms) -> tuple[Film, tuple[int, int], float]:
    """A whole video, its passes and how many of them were skipped, and its seconds."""
    noting = Noting(
        rooms.transformer, rooms.vae, rooms.text, rooms.vision, rooms.speech, rooms.defaults, rooms.device, rooms.dtype
    )  # fmt: skip
    object.__setattr__(noting, "latents", [])
    began = perf_counter()
    clips = list(generate(job.request, job.source, noting))
    counts = [count for clip in clips for count in clip.skipped.values()]
    steps = job.request.steps or 0
    branches = len(Sampler.of(job.request).guidance().branches)
    made = Film(torch.cat(noting.latents, dim=1), torch.cat([clip.frames for clip in clips]))
    return made, (branches * steps * len(clips), sum(counts)), perf_counter() - began


def of_embedded(asked: Any) -> Iterator[tuple[str, Row]]:
    """The embedded model on a CPU: frames and mouth too."""
    reader = load_reader()
    with tempfile.TemporaryDirectory() as name:
        said = speech(asked.seconds)
        recording = write_wav(Path(name) / "speech.wav", said, RATE)
        folder = asked.model or EMBEDDED
        request = Request(
            image=SAMPLES / "portrait.png",
            speakers=(Speaker(audio=recording),),
            seed=asked.seed,
            steps=asked.steps or STEPS,
        )
        engine = Engine(Settings(model=asked.model))
        rooms, exact = load_bundle(folder, torch.device("cpu"), torch.float32), None
        for cache in (None, *CACHES):
            job = engine.prepare(replace(request, step_cache=cache))
            made, (passes, skipped), seconds = film(job, rooms)
            exact = exact or made
            mouths = [read_mouth(one.frames, reader).opening for one in (made, exact)]
            wanted = expected_opening(said.astype(np.float32) / 32768, len(made.frames))
            difference = made.frames.float() - exact.frames.float()
            error = difference.square().mean() / 255**2
            yield (
                title(cache),
                Row(
                    passes,
                    skipped,
                    round(seconds, 1),
                    relative(made.latents, exact.latents),
                    psnr=round(float(-10 * torch.log10(error.clamp_min(1e-8))), 1),
                    level=round(float(difference.abs().mean()), 3),
                    mouth=round(pearson(*mouths), 4),
                    speech=round(pearson(mouths[0], wanted), 3),
                ),
            )


def random_transformer(
    config: DiTConfig, random: torch.Generator, attention: AttentionCallable
) -> WanTransformer:
    """bfloat16 weights, normal with deviation 1 / sqrt(columns), made in place: full size needs 38 GB."""
    with torch.device("meta"):
        model = WanTransformer(config, attention=attention).bfloat16()
    model.to_empty(device=random.device)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("bias"):
                value.zero_()
            elif value.dim() < 2:
                value.fill_(1.0)
            else:
                value.normal_(std=value[0].numel() ** -0.5, generator=random)
    return model.eval()


def random_guide(
    config: DiTConfig, grid: tuple[int, int, int], random: torch.Generator, dtype: torch.dtype
) -> Guide:
    """What one window has to obey, all noise: one speaker."""
    frames, height, width = grid

    def normal(*shape: int, of: torch.dtype = dtype) -> Tensor:
        return torch.randn(shape, generator=random, device=random.device, dtype=of)

    heard = (1, 4 * (frames - 1) + 1, config.audio_window, config.audio_blocks, config.audio_channels)
    return Guide(
        text=normal(config.text_len // 2, config.text_dim),
        negative=normal(config.text_len // 4, config.text_dim),
        image=normal(config.clip_tokens, config.clip_dim),
        reference=normal(config.reference_dim, *grid),
        speech=normal(*heard),
        token_masks=torch.ones(2, height, width, device=random.device),
        motion=normal(config.out_dim, 1, height, width, of=torch.float32),
    )


@torch.inference_mode()
def of_random(asked: Any, config: DiTConfig, device: torch.device) -> Iterator[tuple[str, Row]]:
    """One window of random weights, whose numbers for the caches are measured in the exact run: the latents' error."""
    random = torch.Generator(device).manual_seed(asked.seed)
    grid = tuple(int(part) for part in asked.grid.split(","))
    assert len(grid) == 3, "--grid wants latent frames, height and width"
    transformer = random_transformer(config, random, sdpa)
    guide = random_guide(config, grid, random, transformer.dtype)
    noise = torch.randn(guide.latent_shape, generator=random, device=device)
    rule = Sampler.of(resolve(_asked(asked, None), OFFICIAL))
    passes = rule.steps * len(rule.guidance().branches)
    recorder, began = Recorder(transformer, rule), perf_counter()
    exact = denoise(recorder, rule, guide, noise).cpu()
    yield title(None), Row(passes, 0, round(perf_counter() - began, 2), 0.0)
    measured = recorder.measured()
    own = Defaults(step_cache=measured.polynomial(), magcache=measured.ratios, shift=OFFICIAL.shift)
    for cache in UNTRAINED:
        used, skips = resolve(_asked(asked, cache), own), SkipCount()
        assert used.step_cache is not None
        denoiser, began = step_cache(Plain(transformer), rule, used.step_cache, skips), perf_counter()
        latent = denoise(denoiser, rule, guide, noise).cpu()
        seconds, skipped = round(perf_counter() - began, 2), sum(skips.take().values())
        yield title(cache), Row(passes, skipped, seconds, relative(latent, exact))


def _asked(asked: Any, cache: StepCache | None) -> Request:
    return Request(
        steps=asked.steps or STEPS,
        text_guidance=asked.text_guidance,
        audio_guidance=asked.audio_guidance,
        step_cache=cache,
    )


def table(results: Path = RESULTS) -> str:
    """As in ``docs/numerics.md``; random weights where they were measured."""
    found = json.loads((results / "approximations.json").read_text())["rows"]
    large = results / "approximations_14b.json"
    errors = json.loads(large.read_text())["rows"] if large.is_file() else {}
    titles = (
        *("cache, threshold", "passes left out", "speed-up in passes", "latents", "frames", "levels of 255"),
        *("mouth", "speech", "random 14B: left out, latents"),
    )
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for name in dict.fromkeys((*found, *errors)):
        own, other = _cells(found.get(name)), errors.get(name)
        random = "" if other is None else f"{other['skipped'] / other['passes']:.0%}, {other['latent']:.1%}"
        lines.append(f"| {' | '.join((name, *own, random))} |")
    return "\n".join(lines)


def _cells(row: dict[str, Any] | None) -> tuple[str, ...]:
    """What is told of the embedded model; empty for a cache that was not tried on it."""
    if row is None:
        return ("",) * 7
    return (
        f"{row['skipped']} of {row['passes']}",
        f"{row['passes'] / (row['passes'] - row['skipped']):.2f}",
        f"{row['latent']:.1%}",
        "the same" if row["psnr"] >= 80 else f"{row['psnr']:.1f} dB",
        f"{row['level']:.2f}",
        f"{row['mouth']:.3f}",
        f"{row['speech']:.2f}",
    )


def main() -> None:
    """Command line."""
    options = parser(__doc__ or "")
    options.add_argument("--seconds", type=float, default=SECONDS, help="of speech")
    options.add_argument("--random-14b", action="store_true", help="random weights of full size, on a GPU")
    options.add_argument(
        "--grid", default="21,60,104", help="latent frames, height, width; default 81 frames at 480p"
    )
    options.add_argument("--text-guidance", type=float, default=1.0, help="with --random-14b")
    options.add_argument("--audio-guidance", type=float, default=1.0, help="with --random-14b")
    options.add_argument("--table", action="store_true", help="print the table and measure nothing")
    asked = options.parse_args()
    if asked.table:
        print(table())
        return
    if asked.threads:
        torch.set_num_threads(asked.threads)
    began, steps = perf_counter(), asked.steps or STEPS
    if asked.random_14b:
        out, about = asked.out or RESULTS / "approximations_14b.json", {"grid": asked.grid, "steps": steps}
        rows = of_random(asked, DiTConfig(), torch.device("cuda"))
    else:
        out, about = (
            asked.out or RESULTS / "approximations.json",
            {"seconds_of_speech": asked.seconds, "steps": steps},
        )
        rows = of_embedded(asked)
    done: dict[str, Any] = {}
    for name, row in rows:  # written after each, in case the rest takes longer than there is time
        done[name] = {key: value for key, value in asdict(row).items() if value is not None}
        save("approximations", out, {**about, "rows": done, "seconds": round(perf_counter() - began, 1)})


if __name__ == "__main__":
    main()
