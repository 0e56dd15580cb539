"""What TeaCache and MagCache need to know of a model: how its blocks' work changes from step to step.

python -m bench.calibrate                      # the embedded model, its sample: prints the entries of model.json
python -m bench.calibrate --model FOLDER --write  # and puts them there
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import torch

from bench.common import RATE, SAMPLES, parser, save, speech
from bench.sounds import write_wav
from infinite_talk import Engine, Request, Settings, Speaker
from infinite_talk.conditioning import References, encode, guide_for
from infinite_talk.denoise.caches.calibrate import Measured, Recorder
from infinite_talk.denoise.loop import denoise
from infinite_talk.denoise.noise import seeded
from infinite_talk.denoise.sampler import Sampler
from infinite_talk.presets import given
from infinite_talk.weights.bundle import load_bundle
from infinite_talk.weights.manifest import EMBEDDED, read_manifest, write_manifest

STEPS = 20
"""Of the schedule that is measured: the steps are close, and other numbers of steps are interpolated."""


def measure(folder: Path, request: Request, windows: int) -> tuple[Measured, Request]:
    """Run the first window of the sample with different noise."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    job = Engine(Settings(model=folder)).prepare(request)
    rooms, window = load_bundle(folder, device, dtype), job.plan.windows[0]
    sampler = Sampler.of(job.request)
    conditioning = encode(job.source, job.plan, job.request, rooms)
    references = References(job.source, given(job.request.window_frames), rooms)
    with rooms.using(rooms.transformer) as transformer:
        recorder = Recorder(transformer, sampler)
        guide = guide_for(window, conditioning, references, None, rooms)
        for number in range(windows):
            noise = seeded(given(job.request.seed) + number)(window, guide.latent_shape)
            denoise(recorder, sampler, guide, noise)
    return recorder.measured(), job.request


def main() -> None:
    """Command line."""
    options = parser(__doc__ or "")
    options.add_argument("--windows", type=int, default=1)
    options.add_argument("--write", action="store_true", help="put the numbers into model.json")
    asked = options.parse_args()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    folder, began = asked.model or EMBEDDED, perf_counter()
    with tempfile.TemporaryDirectory() as name:
        recording = write_wav(Path(name) / "speech.wav", speech(1.96), RATE)
        request = Request(
            image=SAMPLES / "portrait.png",
            speakers=(Speaker(audio=recording),),
            seed=asked.seed,
            steps=asked.steps or STEPS,
        )
        measured, used = measure(folder, request, asked.windows)
    entries = {
        "step_cache": measured.polynomial(),
        "magcache": measured.ratios,
        "magcache_shift": given(used.shift),
    }
    pairs = [(float(f"{pair.moved:.4g}"), float(f"{pair.changed:.4g}")) for pair in measured.pairs]
    seconds = round(perf_counter() - began, 1)
    save("calibrate", asked.out, {"steps": used.steps, **entries, "pairs": pairs, "seconds": seconds})
    if asked.write:
        manifest = read_manifest(folder)
        write_manifest(replace(manifest, defaults=replace(manifest.defaults, **entries)))


if __name__ == "__main__":
    main()
