"""How well an estimated mouth follows the true one: correlation by channel, lag, rest in silence."""

from collections import defaultdict
from collections.abc import Callable

import numpy as np

from training.speech.bank import SpeechBank
from training.speech.phonemes import CHANNELS, SILENCE
from training.speech.tracks import to_frames

# Normalised sound (S,) and a number of frames -> estimated mouth (F, 6) and level (F,).
Estimator = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's r of two sequences, 0 where one of them is constant."""
    first, second = first - first.mean(), second - second.mean()
    scale = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / scale if scale > 1e-9 else 0.0


def best_lag(estimate: np.ndarray, truth: np.ndarray, reach: int = 6) -> int:
    """Frames by which the estimate comes late (> 0) or early, at the highest correlation."""
    count = len(truth)
    lags = range(-reach, reach + 1)
    values = [
        correlation(estimate[max(0, lag) : count + min(0, lag)], truth[max(0, -lag) : count - max(0, lag)])
        for lag in lags
    ]
    return int(np.argmax(values)) - reach


def evaluate(bank: SpeechBank, estimator: Estimator, most: int = 64) -> dict[str, object]:
    """Score an estimator on the utterances of a bank (at most `most`), at 25 fps."""
    by_voice: dict[str, list[list[float]]] = defaultdict(list)
    lags, resting, others = [], [], []
    last: np.ndarray | None = None
    for i in range(min(len(bank), most)):
        sound, truth100 = bank.sound_of(i), bank.mouth_of(i)
        frames = int(len(sound) / 16000 * 25)
        mouth, _ = estimator(normalise(sound), frames)
        truth = to_frames(truth100, frames)
        by_voice[bank.voice_of(i)].append(
            [correlation(mouth[:, c], truth[:, c]) for c in range(len(CHANNELS))]
        )
        lags.append(best_lag(mouth[:, 0], truth[:, 0]))
        silent = to_frames((bank.classes[bank.frames_of(i)] == SILENCE).astype(np.float32), frames) > 0.99
        silent &= truth[:, 0] < 0.02
        resting.append(float(mouth[silent, 0].mean()) if silent.any() else 0.0)
        if last is not None:
            both = min(len(last), frames)
            others.append(correlation(mouth[:both, 0], last[:both]))
        last = truth[:, 0]
    rows = np.array([row for rows in by_voice.values() for row in rows])
    return {
        "utterances": len(rows),
        "r": {name: round(float(rows[:, c].mean()), 4) for c, name in enumerate(CHANNELS)},
        "r_open_lowest": round(float(rows[:, 0].min()), 4),
        "r_open_by_voice": {
            voice: round(float(np.mean(r, 0)[0]), 4) for voice, r in sorted(by_voice.items())
        },
        "r_open_other_clip": round(float(np.mean(np.abs(others))), 4) if others else None,
        "lag_frames": {"mean": round(float(np.mean(lags)), 3), "most": int(np.max(np.abs(lags)))},
        "open_in_silence": round(float(np.mean(resting)), 4),
    }


def normalise(sound: np.ndarray) -> np.ndarray:
    """Zero mean and unit variance over the whole clip, as wav2vec 2.0 asks."""
    return ((sound - sound.mean()) / np.sqrt(sound.var() + 1e-7)).astype(np.float32)
