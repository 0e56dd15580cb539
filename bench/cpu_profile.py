"""Where does the time of the embedded model go on a CPU? Seconds per phase and per kind of operation, 1 and 2 threads.

``python -m bench.cpu_profile --label after`` measures each phase of a clip of five seconds apart, the best of three,
and keeps the rows of other labels that the file holds. Processor seconds count beside those of the clock: another
program on the same cores lengthens the latter only.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from bench.common import RESULTS, SAMPLES, machine, parser, save
from infinite_talk import Engine, Request, Speaker
from infinite_talk.conditioning import References, encode, guide_for
from infinite_talk.denoise.denoiser import Plain
from infinite_talk.denoise.loop import denoise
from infinite_talk.denoise.noise import seeded
from infinite_talk.denoise.sampler import Sampler
from infinite_talk.engine import Job
from infinite_talk.generate import shot_colours, to_bytes
from infinite_talk.media.colour import match_colour
from infinite_talk.media.encode import write_segment
from infinite_talk.memory.costs import pass_flops
from infinite_talk.memory.flops import decode_flops
from infinite_talk.models.dit import Condition
from infinite_talk.presets import given
from infinite_talk.rooms import Rooms
from infinite_talk.runtime import work_of
from infinite_talk.types import FPS
from infinite_talk.weights.bundle import load_bundle

SECONDS = 5
KINDS = {
    "convolution": ("conv",),
    "attention": ("scaled_dot", "softmax"),
    "matrix": ("addmm", "::mm", "bmm", "baddbmm"),
    "activation": ("gelu", "silu", "sigmoid", "tanh"),
    "norm": ("norm", "rsqrt", "::pow", "clamp_min"),
    "copy": ("copy", "cat", "upsample", "index", "shuffle", "fill", "zero"),
    "arithmetic": ("add", "sub", "mul", "div"),
}
"""Kinds of operations by parts of torch's names for them; the first that fits counts."""


def used(children: bool = False) -> tuple[float, float]:
    """Seconds of the clock, and of the processor in the program and for it in the kernel."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN if children else resource.RUSAGE_SELF)
    return time.perf_counter(), usage.ru_utime + usage.ru_stime


def measured(work: Callable[[], object], repeats: int = 3, *, children: bool = False) -> dict[str, float]:
    """The best of some runs, by each clock."""
    walls, cpus = [], []
    for _ in range(repeats):
        before = used(children)
        work()
        after = used(children)
        walls.append(after[0] - before[0])
        cpus.append(after[1] - before[1])
    return {"wall": round(min(walls), 4), "cpu": round(min(cpus), 4)}


def ceilings() -> dict[str, float]:
    """What a large matrix product and a convolution of the decoder reach here, in GFLOP/s."""
    a, b = torch.randn(2, 2048, 2048).unbind()
    x = torch.randn(4, 48, 96, 96).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(48, 48, 3, 3)
    matrix = measured(lambda: a @ b, 6)["wall"]
    convolution = measured(lambda: torch.conv2d(x, weight, padding=1), 10)["wall"]
    return {
        "matrix": round(2 * 2048**3 / matrix / 1e9, 1),
        "convolution": round(2 * weight.numel() * 4 * 96**2 / convolution / 1e9, 1),
    }


def kinds_of(work: Callable[[], object]) -> dict[str, float]:
    """Seconds in each kind of operation, of one run under the profiler."""
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        work()
    seconds: Counter[str] = Counter()
    for event in seen.key_averages():
        kind = next((k for k, names in KINDS.items() if any(n in event.key for n in names)), "other")
        seconds[kind] += event.self_cpu_time_total / 1e6
    return {kind: round(seconds[kind], 4) for kind in (*KINDS, "other")}


@torch.inference_mode()
def phases(job: Job, rooms: Rooms) -> dict[str, Any]:
    """Each phase of the second window, and what happens once for a video."""
    request, source, plan = job.request, job.source, job.plan
    sampler, noise = Sampler.of(request), seeded(request.seed)
    denoiser = Plain(rooms.transformer)  # type: ignore[arg-type] - a bundle's models are built
    conditioning = encode(source, plan, request, rooms)
    references = References(source, given(request.window_frames), rooms)
    references.at(0)
    window = plan.windows[1]
    colours = shot_colours(plan, window, references)
    motion = torch.rand(3, window.overlap, source.size.height, source.size.width) * 2 - 1
    guide = guide_for(window, conditioning, references, motion, rooms)
    branch = sampler.guidance().branches[0]
    condition: Condition = denoiser.condition(guide, branch)
    latent = noise(window, guide.latent_shape)
    at = sampler.times_on(rooms.device)[0]
    made = denoise(denoiser, sampler, guide, latent)
    video = rooms.decode_video(made)
    frames = to_bytes(video, request.compat)
    forward = lambda: rooms.transformer(latent[None], at, condition)  # noqa: E731
    decode = lambda: rooms.decode_video(made)  # noqa: E731
    work = {
        "read media": lambda: Engine().prepare(request),
        "load models": lambda: load_bundle(SAMPLES, rooms.device, rooms.dtype),
        "encode text and speech": lambda: encode(source, plan, request, rooms),
        "encode reference": lambda: References(source, given(request.window_frames), rooms).at(0),
        "guide: encode motion": lambda: guide_for(window, conditioning, references, motion, rooms),
        "condition, one branch": lambda: denoiser.condition(guide, branch),
        "transformer, one pass": forward,
        "decode": decode,
        "colour": lambda: match_colour(video, colours, request.colour_strength),
        "bytes": lambda: to_bytes(video, request.compat),
        "mp4": lambda: _encode(frames),
    }
    seconds = {name: measured(one) for name, one in work.items()}
    passes = sampler.steps * len(sampler.guidance().branches)
    tokens = made[0].numel() // 4
    useful = {
        "transformer, one pass": sum(pass_flops(rooms.transformer.config, tokens)),  # type: ignore[union-attr]
        "decode": decode_flops(rooms.vae.config, work_of(request, source, plan)),  # type: ignore[union-attr]
    }
    return {
        "passes_per_window": passes,
        "new_frames_per_window": window.new,
        "cpu_seconds_per_second_of_video": round(_window(seconds, passes) / (window.new / FPS), 2),
        "phases": seconds,
        "useful_gflops": {name: round(f / 1e9, 1) for name, f in useful.items()},
        "gflops_per_cpu_second": {n: round(f / 1e9 / seconds[n]["cpu"], 1) for n, f in useful.items()},
        "kinds": {"transformer, one pass": kinds_of(forward), "decode": kinds_of(decode)},
    }


def _window(seconds: dict[str, dict[str, float]], passes: int) -> float:
    """Processor seconds of one window, of what is not done once for a video."""
    each = ("guide: encode motion", "decode", "colour", "bytes", "mp4")
    branches = 2 * seconds["condition, one branch"]["cpu"]
    return sum(seconds[n]["cpu"] for n in each) + branches + passes * seconds["transformer, one pass"]["cpu"]


def _encode(frames: torch.Tensor) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_segment(Path(folder) / "one.mp4", frames.numpy(), crf=18)


def clip(threads: int) -> dict[str, float]:
    """The whole program, from the command to the file."""
    program = "from infinite_talk.frontends.cli.main import main; main()"
    with tempfile.TemporaryDirectory() as folder:
        asked = ["--image", "portrait.png", "--audio", "speech.flac", "--audio-end", str(SECONDS)]
        command = [sys.executable, "-c", program, "generate", *asked, "-q", "--threads", str(threads)]
        command += ["--seed", "1", "-o", str(Path(folder) / "clip.mp4")]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        return measured(
            lambda: subprocess.run(command, cwd=SAMPLES, env=environment, check=True, capture_output=True),
            1,
            children=True,
        )


def start() -> dict[str, float]:
    """Importing what a run needs, in a new process."""
    command = [sys.executable, "-c", "import infinite_talk.runtime, infinite_talk.generate"]
    return measured(lambda: subprocess.run(command, check=True), children=True)


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--label", required=True, help="of these rows, as 'before' and 'after'")
    options.add_argument("--no-clip", action="store_true", help="phases only, not the whole program")
    asked = options.parse_args()
    image, sound = SAMPLES / "portrait.png", SAMPLES / "speech.flac"
    request = Request(image=image, speakers=(Speaker(audio=sound),), seed=1, audio_end=float(SECONDS))
    job = Engine().prepare(request)
    rooms = load_bundle(SAMPLES, torch.device("cpu"), torch.float32)
    found: dict[str, Any] = {"machine": machine(), "imports": start()}
    for threads in (1, 2) if asked.threads is None else (asked.threads,):
        torch.set_num_threads(threads)
        found[f"threads {threads}"] = {"ceilings_gflops": ceilings()} | phases(job, rooms)
        if not asked.no_clip:
            found[f"threads {threads}"]["clip of 5 s"] = clip(threads)
        print(json.dumps(found[f"threads {threads}"]["phases"]), flush=True)
    path = asked.out or RESULTS / "cpu_profile.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else {}
    save("cpu_profile", asked.out, {"seconds_of_video": SECONDS, "rows": rows | {asked.label: found}})


if __name__ == "__main__":
    main()
