"""``Residency``: where each model lives, and how it comes to the device for the time of its use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

import torch
from torch import nn

from infinite_talk.memory.parcel import Parcel, tensors_of
from infinite_talk.memory.streaming import BlockStream

M = TypeVar("M", bound=nn.Module)


class Home(StrEnum):
    """Where a model is while nobody uses it, and where it computes."""

    DEVICE = "device"
    """Always on the device."""
    VISITS = "visits"
    """On the host; on the device while it is used."""
    HOST = "host"
    """Always on the host, and computes there: slow, for a model that does not fit in any other way."""


@dataclass(slots=True, eq=False)
class _Guest:
    """A model that visits."""

    model: nn.Module  # kept, so that its ``id`` stays its own
    parcel: Parcel | None = None  # from the first visit on
    inside: int = 0  # how many uses are under way
    streams: list[BlockStream] = field(default_factory=list)


class Residency:
    """Moves models between host and device.

    A visiting model keeps one pinned copy on the host; arriving is one copy into fresh device memory, leaving
    frees that memory and copies nothing, since weights do not change. Blocks that are streamed
    (``stream_blocks``) stay out of this: they come one by one, and their slots are freed at the end of a visit.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._homes: dict[int, Home] = {}
        self._guests: dict[int, _Guest] = {}

    def settle(self, model: nn.Module, home: Home) -> None:
        """Say where a model lives from now on, and move it there. It must not be in use."""
        guest = self._guests.pop(id(model), None)
        if guest is not None:
            assert not guest.inside, "a model in use cannot move"
            self._part(guest)
        self._homes[id(model)] = home
        for tensor in tensors_of(_without_streams(model)):
            tensor.data = tensor.data.to(self.device if home is Home.DEVICE else "cpu")
        if home is Home.VISITS:
            self._guests[id(model)] = _Guest(model, streams=streams_of(model))

    def home(self, model: nn.Module) -> Home:
        """Where a model lives; one that was never settled is taken to be on the device."""
        return self._homes.get(id(model), Home.DEVICE)

    @contextmanager
    def using(self, model: M) -> Iterator[M]:
        """Have ``model`` where it computes for as long as the block lasts. Uses may be nested."""
        guest = self._guests.get(id(model))
        if guest is None:
            yield model
            return
        guest.inside += 1
        try:
            if guest.inside == 1:
                self._arrive(guest)
            yield model
        finally:
            guest.inside -= 1
            if not guest.inside:
                self._leave(guest)

    def close(self) -> None:
        """Let go of pinned memory; the models stay where they are."""
        for guest in self._guests.values():
            self._part(guest)
        self._guests.clear()

    def _arrive(self, guest: _Guest) -> None:
        if guest.parcel is None:
            guest.parcel = Parcel(_without_streams(guest.model), self.device)
        with torch.inference_mode(False):
            memory = torch.empty(guest.parcel.nbytes, dtype=torch.uint8, device=self.device)
        memory.copy_(guest.parcel.bytes, non_blocking=True)  # in order with the computation that follows
        guest.parcel.to_slot(memory)

    def _leave(self, guest: _Guest) -> None:
        for stream in guest.streams:
            stream.release()
        if guest.parcel is not None:
            guest.parcel.to_host()
            guest.parcel.forget_slots()  # the last to hold the device's memory

    def _part(self, guest: _Guest) -> None:
        self._leave(guest)
        if guest.parcel is not None:
            guest.parcel.leave()


def streams_of(model: nn.Module) -> list[BlockStream]:
    """The streamed blocks inside a model."""
    return [part for part in model.modules() if isinstance(part, BlockStream)]


def _without_streams(model: nn.Module) -> nn.Module:
    """A module with the tensors of ``model`` that are not in streamed blocks, the same objects."""
    streamed = {id(t) for stream in streams_of(model) for b in stream.swapped for t in tensors_of(stream[b])}
    own = [tensor for tensor in tensors_of(model) if id(tensor) not in streamed]
    rest = nn.Module()
    for i, tensor in enumerate(own):
        rest.register_buffer(str(i), tensor)
    return rest
