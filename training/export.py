"""Put trained weights together as the model folder that the package ships.

    python -m training.export --towers runs/towers/towers.safetensors --vae runs/vae/vae.safetensors \
        --vae-report runs/vae/vae.json --speech runs/speech --version 1.0

The large ones are stored in 8 bits with a scale per row, the two small towers in half precision.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open

from infinite_talk.presets import Defaults
from infinite_talk.weights.bundle import Store, Trained, save_bundle
from infinite_talk.weights.manifest import EMBEDDED, Manifest
from infinite_talk.weights.reader import TensorFiles
from training import embedded

NAME = "embedded"


def export(
    out: Path, *, towers: Path, vae: Path, vae_report: Path, speech: Path, version: str, defaults: Defaults
) -> Manifest:
    """Write the model folder ``out``.

    Args:
        towers: weights of ``towers.Towers``.
        vae: weights of the VAE; ``vae_report`` holds the statistics of its latents.
        speech: folder that ``speech.encoder.save`` wrote.
        version: of the weights; goes into every video's recipe.
    """
    together, listener = TensorFiles(towers), TensorFiles(speech / "encoder.safetensors")
    facts = json.loads(vae_report.read_text())
    ears = _speech_config(speech / "encoder.safetensors")
    hearing = {"audio_blocks": ears["num_hidden_layers"], "audio_channels": ears["hidden_size"]}
    codec = {**embedded.VAE, "mean": facts["latent_mean"], "std": facts["latent_std"]}
    parts = {
        "transformer": Trained(
            {**embedded.TRANSFORMER, **hearing}, _below("transformer.", together), Store.INT8
        ),
        "vae": Trained(codec, TensorFiles(vae), Store.INT8),
        "text": Trained(embedded.TEXT, _below("text.", together)),
        "vision": Trained(embedded.VISION, _below("vision.", together)),
        "speech": Trained(ears, listener, Store.INT8),
    }
    return save_bundle(out, name=NAME, version=version, parts=parts, defaults=defaults)


def _below(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of one module."""
    return {name.removeprefix(prefix): tensors[name] for name in tensors if name.startswith(prefix)}


def _speech_config(file: Path) -> dict[str, object]:
    with safe_open(file, "pt") as opened:
        return json.loads(opened.metadata()["config"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("towers", "vae", "vae-report", "speech"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=EMBEDDED)
    parser.add_argument("--version", required=True)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--shift", type=float, default=3.0)
    parser.add_argument("--audio-guidance", type=float, default=2.0)
    args = parser.parse_args()
    defaults = Defaults(
        size=f"{embedded.SIZE}x{embedded.SIZE}!",
        steps=args.steps,
        shift=args.shift,
        # Captions say little about a drawn portrait: guiding by them would cost a pass for nothing.
        text_guidance=1.0,
        audio_guidance=args.audio_guidance,
        window_frames=embedded.WINDOW,
        motion_frames=embedded.MOTION,
        negative_prompt="",
    )
    files = {name: getattr(args, name) for name in ("towers", "vae", "vae_report", "speech")}
    manifest = export(args.out, **files, version=args.version, defaults=defaults)
    print(f"{args.out}: {manifest.size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
