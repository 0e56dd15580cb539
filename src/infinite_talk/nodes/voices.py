"""What ``multitalk_embeds`` say: who speaks, where in the picture, and how strongly it is followed.

Scripts build the dict by hand, so the keys are the node pack's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from infinite_talk.conditioning.people import places as on_grid
from infinite_talk.errors import UsageError
from infinite_talk.nodes.declare import known_keys
from infinite_talk.nodes.numbers import scales
from infinite_talk.plan.people import person_masks, with_background
from infinite_talk.plan.speech import REACH
from infinite_talk.types import Size

Embeds = Mapping[str, Any]

MAX_SCALE = 100.0
"""Largest ``audio_scale`` and ``audio_cfg_scale``, as MultiTalkWav2VecEmbeds declares them."""
LOOP_MARGIN = 0.1
"""What the places of two people without masks leave free of their halves; the official program has half of it."""


@dataclass(frozen=True, slots=True, eq=False)
class Speech:
    """What MultiTalkWav2VecEmbeds says."""

    features: tuple[torch.Tensor, ...]  # per person (N, K, D); N may differ
    frames: int  # of the video that is to speak: the longest N, or fewer
    places: torch.Tensor | None  # (P or P + 1, H, W): masks of the people, and of the background
    scale: float
    audio: tuple[float, ...]  # ``audio_cfg_scale``, or the official scale
    official: bool  # which of both
    windows: torch.Tensor | None = None  # (P, F, 5, K, D): cut into the windows of one video already


SPEECH_KEYS = (
    "audio_features",
    "audio_scale",
    "audio_cfg_scale",
    "audio_guide_scale",
    "ref_target_masks",
    "audio_emb_slice",
    "num_frames",
)


def speech_of(multitalk_embeds: Embeds | torch.Tensor, layers: int, width: int) -> Speech:
    """Read ``multitalk_embeds``: a dict, or one person's features alone.

    Args:
        layers: K, of the speech encoder.
        width: D.

    Raises:
        UsageError: a key is unknown, or the features are not of this model's speech encoder.
    """
    values: Embeds = (
        {"audio_features": multitalk_embeds}
        if isinstance(multitalk_embeds, torch.Tensor)
        else multitalk_embeds
    )
    known_keys("multitalk_embeds", values, SPEECH_KEYS)
    if (ready := values.get("audio_emb_slice")) is not None:
        return _ready(ready, values, layers, width)
    found = values.get("audio_features")
    people = [found] if isinstance(found, torch.Tensor) else list(found or ())
    if not people:
        raise UsageError("multitalk_embeds has no audio_features; MultiTalkWav2VecEmbeds gives them.")
    features = tuple(_features(own, layers, width) for own in people)
    longest = max(len(own) for own in features)
    audio, official = audio_scales(values)
    return Speech(
        features,
        min(longest, int(values.get("num_frames") or longest)),
        values.get("ref_target_masks"),
        _loudness(values),
        audio,
        official,
    )


def _ready(windows: torch.Tensor, values: Embeds, layers: int, width: int) -> Speech:
    """``audio_emb_slice``: ``(P, F, 5, K, D)``."""
    found = windows[None] if windows.dim() == 4 else windows
    if found.dim() != 5 or tuple(found.shape[2:]) != (2 * REACH + 1, layers, width):
        raise UsageError(
            f"audio_emb_slice has the shape {tuple(windows.shape)}; it is (people, frames, {2 * REACH + 1}, {layers}, "
            f"{width})."
        )
    audio, official = audio_scales(values)
    scale = _loudness(values)
    return Speech((), found.shape[1], values.get("ref_target_masks"), scale, audio, official, found.float())


def _loudness(values: Embeds) -> float:
    """``audio_scale``, which is one number for all steps."""
    found = scales("audio_scale", values.get("audio_scale", 1.0), MAX_SCALE)
    if len(set(found)) > 1:
        raise UsageError(
            f"audio_scale is {list(found)}; give one number. audio_cfg_scale may differ between steps."
        )
    return found[0]


def audio_scales(values: Embeds) -> tuple[tuple[float, ...], bool]:
    """The scales of the guidance by speech, and whether they are official ``audio_guide_scale``s.

    Raises:
        UsageError: both are given.
    """
    ours, official = values.get("audio_cfg_scale"), values.get("audio_guide_scale")
    if official is None:
        return scales("audio_cfg_scale", 1.0 if ours is None else ours, MAX_SCALE), False
    if ours is not None and scales("audio_cfg_scale", ours, MAX_SCALE) != (1.0,):
        raise UsageError(
            "multitalk_embeds has audio_cfg_scale and audio_guide_scale, which are two names for the strength of the "
            "speech; give one of them. audio_guide_scale is cfg times audio_cfg_scale."
        )
    return scales("audio_guide_scale", official, MAX_SCALE), True


def _features(own: torch.Tensor, layers: int, width: int) -> torch.Tensor:
    """One person's features ``(N, K, D)``."""
    found = own.squeeze(0) if own.dim() == 4 else own
    if found.dim() != 3 or tuple(found.shape[1:]) != (layers, width) or not len(found):
        raise UsageError(
            f"audio_features have the shape {tuple(own.shape)}; this model takes (frames, {layers}, {width}) for each "
            "person, from its own speech encoder."
        )
    return found.float()


def people_masks(places: torch.Tensor | None, people: int, size: Size) -> torch.Tensor:
    """Masks of each person and of the background on the latent grid, ``(P + 1, h, w)`` in {0, 1}.

    Two people without masks own most of the left and of the right half.

    Raises:
        UsageError: masks are missing for more people, or their number does not fit.
        InputError: one has nothing in it.
    """
    if places is None or people == 1:  # the masks of one person alone are not read by the model
        masks = person_masks(size.height, size.width, [None] * people, margin=LOOP_MARGIN)
    else:
        given = (places > 0).reshape(-1, *places.shape[-2:]).cpu().numpy().astype(np.bool_)
        if len(given) not in (people, people + 1):
            raise UsageError(
                f"ref_target_masks has {len(given)} masks for {people} people; give one for each."
            )
        masks = with_background(given) if len(given) == people else given
    return torch.from_numpy(on_grid(masks, size).astype(np.float32))
