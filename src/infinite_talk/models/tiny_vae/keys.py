"""Names of a tiny decoder's weights: TAEHV's own, which are ours, and what shapes tell of the model."""

from __future__ import annotations

from math import isqrt

import torch

from infinite_talk.errors import CheckpointError
from infinite_talk.models.keymap import Entry, KeyMap
from infinite_talk.models.shapes import Shapes, matrix
from infinite_talk.models.tiny_vae.config import TinyVAEConfig
from infinite_talk.models.tiny_vae.model import GROW, TinyVAE
from infinite_talk.models.vae.config import WAN_MEAN

DTYPE = torch.float16
"""As published (taew2_1), on a GPU. A CPU is slow in it: there, float32."""

_PREFIXES = ("", "taehv.")


def dialects(config: TinyVAEConfig) -> tuple[KeyMap, ...]:
    """TAEHV's names, bare or below ``taehv.``; the encoder is passed over."""
    with torch.device("meta"):
        names = list(TinyVAE(config).state_dict())
    entries = {name: Entry(name) for name in names}
    for place, stored, grown in zip(GROW, config.stored_growth, config.growth, strict=True):
        name = f"decoder.{place}.conv.weight"
        parts = stored // grown
        entries[name] = Entry(name, parts - 1, parts)
    return tuple(
        KeyMap(
            "taehv",
            {name: Entry(prefix + entry.stored, entry.part, entry.parts) for name, entry in entries.items()},
            ignored=(f"{prefix}encoder.",),
            part="tiny decoder",
        )
        for prefix in _PREFIXES
    )


def recognises(shapes: Shapes) -> bool:
    """Whether these are the names of a tiny decoder."""
    return _prefix(shapes) is not None


def config_of(shapes: Shapes) -> TinyVAEConfig:
    """Sizes of the decoder whose tensors have these shapes.

    ``denormalise`` cannot be told from them; see ``config.by_name``. Nor can the decoders for Wan2.1 and for
    HunyuanVideo (``taehv``), which have the same shapes.

    Raises:
        CheckpointError: it decodes another model's latents, or its tensors contradict each other.
    """
    prefix = _prefix(shapes) or ""
    here = {name.removeprefix(prefix): tuple(shape) for name, shape in shapes.items()}
    first, z_dim, *_ = matrix(here, "decoder.1.weight", 4)
    if z_dim != len(WAN_MEAN):
        raise CheckpointError(
            f"This tiny decoder is for latents of {z_dim} channels; those of Wan2.1 have {len(WAN_MEAN)}. "
            "Take taew2_1 or lighttaew2_1.",
            code="checkpoint_mismatch",
        )
    grown = [matrix(here, f"decoder.{place}.conv.weight", 4) for place in GROW]
    second, third, last = (matrix(here, f"decoder.{place + 1}.weight", 4)[0] for place in GROW)
    one, two, three = (rows // width for rows, width, *_ in grown)
    pixels = matrix(here, f"decoder.{GROW[-1] + 3}.weight", 4)[0]
    try:
        return TinyVAEConfig(
            z_dim=z_dim,
            widths=(first, second, third, last),
            patch=isqrt(pixels // 3),
            stored_growth=(one, two, three),
        )
    except ValueError as error:
        raise CheckpointError(
            f"This tiny decoder does not make Wan2.1's 4 frames of a latent frame ({error}). Take taew2_1 or "
            "lighttaew2_1.",
            code="checkpoint_mismatch",
        ) from error


def _prefix(shapes: Shapes) -> str | None:
    names = "decoder.1.weight", f"decoder.{GROW[0]}.conv.weight"
    fits = (prefix for prefix in _PREFIXES if all(len(shapes.get(prefix + name, ())) == 4 for name in names))
    return next(fits, None)
