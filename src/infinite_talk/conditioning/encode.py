"""The two doors of this room: ``encode`` once per video, ``guide_for`` once per window."""

from __future__ import annotations

from collections.abc import Callable

import torch

from infinite_talk.conditioning.image import References
from infinite_talk.conditioning.people import encode_people
from infinite_talk.conditioning.speech import encode_speech, listen, speech_window
from infinite_talk.conditioning.text import encode_texts, prompt_for
from infinite_talk.inputs.validate import prompts_of
from infinite_talk.ops.host import to_device
from infinite_talk.presets import given
from infinite_talk.request import Request
from infinite_talk.rooms import Rooms
from infinite_talk.types import Conditioning, Guide, Plan, Source, Window


def encode(
    source: Source,
    plan: Plan,
    request: Request,
    rooms: Rooms,
    between: Callable[[], object] = lambda: None,
) -> Conditioning:
    """Everything that is constant for the whole video. ``request`` is resolved.

    ``between`` is called after the texts and after each minute of speech; it may raise to stop.
    """
    texts = [*prompts_of(request.prompt), given(request.negative_prompt)]
    (*prompts, negative), notes = encode_texts(texts, rooms)
    between()
    speech = encode_speech(source, plan, request.compat, rooms, between)
    return Conditioning(
        prompts=tuple(prompts),
        negative=negative,
        speech=speech,
        hearing=listen(speech, plan, request.compat),
        token_masks=encode_people(source, request.compat, rooms),
        notes=notes,
    )


def guide_for(
    window: Window,
    conditioning: Conditioning,
    references: References,
    motion: torch.Tensor | None,
    rooms: Rooms,
) -> Guide:
    """What one window must obey.

    ``motion`` are the last finished frames before it, ``(3, overlap, H, W)`` in [-1, 1]; a window without
    overlap starts from its reference picture instead.
    """
    reference = references.at(window.reference)
    start = reference.start
    if window.overlap:
        assert motion is not None, "this window continues another one"
        start = rooms.encode_video(motion)
    return Guide(
        text=prompt_for(conditioning.prompts, window.index),
        negative=conditioning.negative,
        image=reference.features,
        reference=reference.latents,
        speech=to_device(
            speech_window(conditioning.speech, conditioning.hearing[window.index]), rooms.device
        ),
        token_masks=conditioning.token_masks,
        motion=start,
    )
