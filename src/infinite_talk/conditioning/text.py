"""Prompts: one per window, the last one holding to the end."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from infinite_talk.rooms import Rooms


@torch.inference_mode()
def encode_texts(texts: Sequence[str], rooms: Rooms) -> tuple[tuple[torch.Tensor, ...], tuple[str, ...]]:
    """Each text as ``(L, D)`` on the device of the run, and a line for each that was too long for the model.

    Equal texts are encoded once. The model's own negative prompt is nobody's to shorten, and not told.
    """
    different = list(dict.fromkeys(texts))
    with rooms.using(rooms.text) as encoder:
        encoded = dict(zip(different, encoder.encode(different), strict=True))
        notes = encoder.notes([text for text in different if text != rooms.defaults.negative_prompt])
    return tuple(encoded[text].to(rooms.device) for text in texts), notes


def prompt_for(prompts: Sequence[torch.Tensor], window_index: int) -> torch.Tensor:
    """The encoded prompt that holds in a window."""
    return prompts[min(window_index, len(prompts) - 1)]
