"""What the embedded model reaches, as text for the model card and ``docs/numerics.md``.

    python -m bench.figures    # writes it between the marks of both, from bench/results/embedded_*.json

``tests/contract/test_documents.py`` holds that it is there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.approximations import table as approximations
from bench.common import RESULTS, SAMPLES
from bench.precision_tables import tables

NUMERICS = Path(__file__).parent.parent / "docs" / "numerics.md"
CARD = SAMPLES / "MODEL_CARD.md"
# What is said of a measure, its name in the file, digits, unit.
ROWS = (
    ("r of the mouth's opening, reader on the frames", "r opening", 2, ""),
    ("the same without a reader (area that is not skin)", "r opening without reader", 2, ""),
    ("lag in frames", "lag", 0, ""),
    ("amplitude, generated over true", "amplitude", 2, ""),
    ("r of the width", "r width", 2, ""),
    ("r of the rounding", "r rounding", 2, ""),
    ("r with another clip's speech", "r with another clip", 2, ""),
    ("outside the mouth against true motion, window 1", "psnr outside, window 1", 1, " dB"),
    ("a still picture against true motion, window 1", "psnr outside of a still picture, window 1", 1, " dB"),
    ("outside the mouth against true motion, window 6", "psnr outside, window 6", 1, " dB"),
    ("a still picture against true motion, window 6", "psnr outside of a still picture, window 6", 1, " dB"),
    ("colour drift in window 6, of 255", "colour drift, window 6", 1, ""),
)


def embedded(results: Path = RESULTS) -> str:
    """The table and the sentences below it."""
    talk, vae, speech, speed = (_read(results, name) for name in ("talk", "vae", "speech", "speed"))
    assert talk["clips"] == 20 and talk["windows"] == 6  # as the heading says
    lines = ["| twenty portraits, six windows (249 frames) each | mean | range |", "|---|---|---|"]
    for says, name, digits, unit in ROWS:
        row = {
            key: f"{value + 0.0:.{digits}f}" for key, value in talk["result"][name].items() if key != "clips"
        }
        lines.append(f"| {says} | {row['mean']}{unit} | {row['least']} to {row['most']}{unit} |")
    kept, heard = vae["result"], speech["result"]
    below = (
        f"The autoencoder alone keeps unseen clips at {kept['psnr']:.1f} dB (worst {kept['psnr_worst']:.1f}), "
        f"{kept['psnr_mouth']:.1f} dB in the mouth (worst {kept['psnr_mouth_worst']:.1f}). The speech encoder's own "
        f"estimate follows unseen voices at r = {heard['held_out']['r']['open']:.2f} (espeak-ng voices "
        f"{heard['held_espeak']['r']['open']:.2f}). A clip of five seconds takes "
        f"{speed['result']['seconds_wall']:.0f} s on two CPU cores, loading included."
    )
    return "\n".join(lines) + "\n\n" + below


def _read(results: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((results / f"embedded_{name}.json").read_text())
    return found


def between(text: str, mark: str) -> str:
    """What stands between ``<!-- mark:begin -->`` and ``<!-- mark:end -->``."""
    return text.partition(f"<!-- {mark}:begin -->\n")[2].partition(f"\n<!-- {mark}:end -->")[0]


def put(path: Path, mark: str, new: str) -> None:
    """Replace it. Both marks must be there."""
    text = path.read_text("utf-8")
    old = between(text, mark)
    if f"<!-- {mark}:begin -->\n" not in text or f"<!-- {mark}:end -->" not in text:
        raise SystemExit(f"{path} has no marks for {mark}")
    path.write_text(
        text.replace(f"begin -->\n{old}\n<!-- {mark}:end", f"begin -->\n{new}\n<!-- {mark}:end"), "utf-8"
    )


def main() -> None:
    """Command line."""
    put(NUMERICS, "figures", embedded())
    put(CARD, "figures", embedded())
    put(NUMERICS, "precision", tables(RESULTS))
    put(NUMERICS, "approximations", approximations())


if __name__ == "__main__":
    main()
