"""Prompts: one per window, the last one holding to the end."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from infinite_talk.rooms import Rooms


@torch.inference_mode()
def encode_texts(texts: Sequence[str], rooms: Rooms) -> tuple[torch.Tensor, ...]:
    """Each text as ``(L, D)`` on the device of the run; equal texts are encoded once."""
    different = list(dict.fromkeys(texts))
    with rooms.using(rooms.text) as encoder:
        encoded = dict(zip(different, encoder.encode(different), strict=True))
    return tuple(encoded[text].to(rooms.device) for text in texts)


def prompt_for(prompts: Sequence[torch.Tensor], window_index: int) -> torch.Tensor:
    """The encoded prompt that holds in a window."""
    return prompts[min(window_index, len(prompts) - 1)]
