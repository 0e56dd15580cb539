"""What the trained encoder hears in recordings: correlation of its opening with loudness, and rest in pauses.

    python -m training.speech.listen --model runs/speech --out chart.png recording.wav ...

A recording has no true mouth track, so this is a plausibility check: people open their mouths wider where
they are louder, and close them where they are silent.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from scipy.signal import resample_poly

from training.speech.encoder import SpeechTrainer, load
from training.speech.score import best_lag, correlation, normalise
from training.speech.tracks import speech_level, to_frames


def read_sound(path: Path) -> np.ndarray:
    """Mono float32 at 16 kHz."""
    import soundfile

    sound, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    mono = sound.mean(1)
    return mono if rate == 16000 else resample_poly(mono, 16000, rate).astype(np.float32)


def listen(model: SpeechTrainer, sound: np.ndarray) -> tuple[dict[str, float], np.ndarray, np.ndarray]:
    """Scores, the estimated mouth (F, 6) and the loudness (F,) of a recording."""
    frames = int(len(sound) / 16000 * 25)
    mouth = model.estimate(torch.from_numpy(normalise(sound))[None], frames).mouth[0].numpy()
    level = to_frames(speech_level(sound), frames)
    opening, loudness = mouth[:, 0], np.log(level + 0.03)
    pauses = gaussian_filter1d(level, 2.0) < 0.03
    scores = {
        "seconds": round(len(sound) / 16000, 2),
        "r_open_loudness": round(correlation(opening, loudness), 3),
        "lag_frames": best_lag(opening, loudness),
        "pause_share": round(float(pauses.mean()), 3),
        "open_in_pauses": round(float(opening[pauses].mean()), 3) if pauses.any() else 0.0,
        "open_in_speech": round(float(opening[level > 0.3].mean()), 3),
        "open_std": round(float(opening.std()), 3),
        "closed_share_in_speech": round(float((opening[~pauses] < 0.06).mean()), 3),
    }
    return scores, mouth, level


def chart(found: list[tuple[str, np.ndarray, np.ndarray]], out: Path) -> None:
    """Draw the first 10 s of each: loudness, opening, rounding."""
    from matplotlib.figure import Figure

    figure = Figure((16, 2.6 * len(found)))
    for i, (name, mouth, level) in enumerate(found):
        axes = figure.add_subplot(len(found), 1, i + 1)
        time = np.arange(min(len(level), 250)) / 25
        axes.fill_between(time, level[:250], color="0.85", label="loudness")
        axes.plot(time, mouth[:250, 0], label="open")
        axes.plot(time, mouth[:250, 2], label="round", linewidth=0.8)
        axes.set_title(name)
        axes.legend(loc="upper right")
    figure.tight_layout()
    figure.savefig(str(out), dpi=70)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=None, help="chart to draw")
    parser.add_argument("files", type=Path, nargs="+")
    args = parser.parse_args()
    model = load(args.model)
    found = []
    for path in args.files:
        scores, mouth, level = listen(model, read_sound(path))
        print(path.name, json.dumps(scores))
        found.append((path.name, mouth, level))
    if args.out:
        chart(found, args.out)


if __name__ == "__main__":
    main()
