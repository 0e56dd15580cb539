"""Block streaming: some blocks of a model live in host memory and come to the device when their turn is near.

While a block computes, a copy stream brings the next ones into slots, pieces of device memory that are
allocated once. Events keep the order on both sides: a copy waits until the block that used its slot has
computed, a block waits until it has arrived. The host never waits. After the last streamed block the first
ones of the next pass are fetched, so that the copies go on between steps.

Which blocks: evenly spread ones. With c seconds for a block's computation and t for its copy, n of N blocks
take ``(N - n) c + n max(c, t)`` if they are neighbours, but ``max(N c, n t)`` if they are spread, because the
blocks between two streamed ones hide copies too. Where t <= c both are ``N c``; with t = 2 c and half of 40
blocks streamed it is 60 c against 40 c. Simulated with two slots, both formulas hold; more slots change nothing,
and one slot (no prefetch) does as well while t <= c and every other block stays.

A block of the 14B model is 0.93 GB in bfloat16, 37 ms at 25 GB/s, and 50 TFLOP of work for 32,760 tokens, 100 ms
on an H100: at 480p they are hidden, on slower GPUs behind slower buses as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from infinite_talk.memory.parcel import Parcel, address_of, tensors_of


@dataclass(slots=True, eq=False)
class _Slot:
    """Device memory for one block at a time."""

    memory: Tensor  # (bytes of the largest streamed block,) uint8
    holds: int | None = None
    arrived: torch.cuda.Event | None = None
    computed: torch.cuda.Event | None = None


def stream_blocks(
    owner: nn.Module, swap: int, prefetch: int, device: torch.device, *, name: str = "blocks"
) -> BlockStream:
    """Let ``swap`` of the blocks of ``owner`` live in host memory; the others go to the device and stay.

    Nothing else of ``owner`` moves. LoRAs are attached before. Whoever iterates over the blocks finds each on
    the device in its turn; so does the model itself, which knows nothing of this.

    Args:
        swap: number of blocks, 0 .. all.
        prefetch: how many copies run ahead of the block that computes.
        name: the attribute with the ``nn.ModuleList``, ``"a.b"`` for one further inside.
    """
    path, _, leaf = name.rpartition(".")
    holder = owner.get_submodule(path)
    blocks = holder.get_submodule(leaf)
    assert isinstance(blocks, nn.ModuleList)
    stream = BlockStream(blocks.children(), device)
    stream.swap(swap, prefetch)
    setattr(holder, leaf, stream)
    return stream


class BlockStream(nn.ModuleList):
    """Blocks of which some are on the device only while they compute.

    Iterating yields every block in order, ready to compute until the next one is asked for. One iteration at a
    time: beginning another ends the first. At any other time, and for ``state_dict`` and indexing, a streamed
    block's tensors are on the host. ``to`` moves the other blocks and changes where the streamed ones come to.

    Numbers may be written to streamed tensors after ``release`` only: a slot may hold the old ones.

    Device memory of the streamed blocks is ``slots`` times the largest of them, from the first iteration
    until ``release``.
    """

    def __init__(self, blocks: Iterable[nn.Module], device: torch.device) -> None:
        super().__init__(blocks)
        self.device = device
        self.prefetch = 1
        self._parcels: dict[int, Parcel] = {}
        self._slots: list[_Slot] = []
        self._turn = 0
        self._here: int | None = None  # the streamed block whose turn it is
        self._copies: torch.cuda.Stream | None = None

    # What streams

    def swap(self, count: int, prefetch: int | None = None) -> None:
        """Stream ``count`` blocks from now on; they are moved, not read again.

        Newly streamed blocks leave the device before others come back to it.
        """
        if not 0 <= count <= len(self) or (prefetch is not None and prefetch < 0):
            raise ValueError(f"{count} of {len(self)} blocks cannot be streamed {prefetch} ahead")
        self.release()
        self.prefetch = self.prefetch if prefetch is None else prefetch
        chosen = spread(len(self), count)
        stay = self._shared()
        for i in chosen:
            if i not in self._parcels:
                self._parcels[i] = Parcel(self._block(i), self.device, stay)
        for i in [i for i in self._parcels if i not in chosen]:
            self._parcels.pop(i).leave(self.device)
        for i, block in enumerate(self.children()):
            self._bring(block, stay if i in self._parcels else None)

    @property
    def swapped(self) -> tuple[int, ...]:
        """Which blocks are streamed, in order."""
        return tuple(sorted(self._parcels))

    @property
    def slots(self) -> int:
        """How many streamed blocks are on the device at a time: the one that computes, and those ahead."""
        return min(self.prefetch + 1, len(self._parcels))

    @property
    def device_bytes(self) -> int:
        """Device memory of all slots."""
        return self.slots * max((parcel.nbytes for parcel in self._parcels.values()), default=0)

    @property
    def host_bytes(self) -> int:
        """Host memory of the streamed blocks."""
        return sum(parcel.nbytes for parcel in self._parcels.values())

    @property
    def note(self) -> str | None:
        """Why copies are slower than they could be, in a sentence for people."""
        return next((parcel.note for parcel in self._parcels.values() if parcel.note), None)

    def release(self) -> None:
        """Free the slots; the next iteration allocates them again. Blocks are on the host afterwards."""
        self._turn += 1  # an iteration under way is over
        if self._copies is not None:
            self._copies.synchronize()
        self._go_home()
        for parcel in self._parcels.values():
            parcel.forget_slots()
        self._slots.clear()

    def close(self) -> None:
        """Stop streaming: slots and pinning go, the streamed blocks stay on the host as plain modules."""
        self.release()
        for parcel in self._parcels.values():
            parcel.leave()
        self._parcels.clear()

    # The pass over the blocks

    def __iter__(self) -> Iterator[nn.Module]:
        if not self._parcels:
            yield from self.children()
            return
        turn = self._begin()
        order = self.swapped
        for i, block in enumerate(self.children()):
            if turn != self._turn:
                raise RuntimeError("another pass over streamed blocks began before this one had ended")
            if i not in self._parcels:
                yield block
                continue
            slot = self._arrive(i)
            try:
                yield block
            finally:
                if turn == self._turn:
                    self._depart(slot)
            self._fetch_from(order.index(i) + 1)

    def _begin(self) -> int:
        self._turn += 1
        if not self._slots:
            self._slots = self._new_slots()
        for slot in self._slots:  # whatever an unfinished pass has left to compute comes before new copies
            self._computed(slot)
        self._go_home()
        self._fetch_from(0)
        return self._turn

    def _new_slots(self) -> list[_Slot]:
        size = max(parcel.nbytes for parcel in self._parcels.values())
        cuda = self.device.type == "cuda"
        if cuda and self._copies is None:
            self._copies = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        slots = []
        with torch.inference_mode(False):
            for _ in range(self.slots):
                memory = torch.empty(size, dtype=torch.uint8, device=self.device)
                slots.append(_Slot(memory, None, *((_event(), _event()) if cuda else (None, None))))
        return slots

    def _fetch_from(self, position: int) -> None:
        """Start copies of those of the next streamed blocks, from ``position`` around, that have no slot yet."""
        order = self.swapped
        wanted = [order[(position + i) % len(order)] for i in range(len(self._slots))]
        free = [slot for slot in self._slots if slot.holds not in wanted]
        held = {slot.holds for slot in self._slots}
        for i in wanted:
            if i not in held:
                self._fetch(i, free.pop(0))

    def _fetch(self, i: int, slot: _Slot) -> None:
        there, here = slot.memory[: self._parcels[i].nbytes], self._parcels[i].bytes
        slot.holds = i
        if self._copies is None:
            there.copy_(here)
            return
        assert slot.arrived is not None and slot.computed is not None
        self._copies.wait_event(slot.computed)
        with torch.cuda.stream(self._copies):
            there.copy_(here, non_blocking=True)
        slot.arrived.record(self._copies)

    def _arrive(self, i: int) -> _Slot:
        slot = next(slot for slot in self._slots if slot.holds == i)
        if slot.arrived is not None:
            torch.cuda.current_stream(self.device).wait_event(slot.arrived)
        self._here = i
        self._parcels[i].to_slot(slot.memory)
        return slot

    def _depart(self, slot: _Slot) -> None:
        self._computed(slot)
        self._go_home()

    def _go_home(self) -> None:
        """The block that has had its turn looks at the host's memory again, also after a pass that broke off."""
        if self._here is not None:
            self._parcels[self._here].to_host()
            self._here = None

    def _computed(self, slot: _Slot) -> None:
        if slot.computed is not None:
            slot.computed.record(torch.cuda.current_stream(self.device))

    # The rest

    def _block(self, i: int) -> nn.Module:
        return self.get_submodule(str(i))

    def _bring(self, block: nn.Module, only: Container[int] | None) -> None:
        """Have the tensors of a block on the device; those alone that are in ``only``, if given."""
        for tensor in tensors_of(block):
            if tensor.device != self.device and (only is None or address_of(tensor) in only):
                tensor.data = tensor.data.to(self.device)

    def __getitem__(self, index: int | slice) -> nn.Module:  # type: ignore[override]
        if isinstance(index, slice):
            return nn.ModuleList(list(self.children())[index])
        return super().__getitem__(index)

    def _shared(self) -> set[int]:
        """Tensors of several blocks at once, such as the strengths of a LoRA, which change between steps: these
        are never streamed. They have to be the same objects, or to be on the device already.
        """
        found = Counter(
            address
            for i, block in enumerate(self.children())
            for address in {address_of(tensor) for tensor in tensors_of(block)}
        )
        return {address for address, count in found.items() if count > 1}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: ARG002
        """What ``to``, ``half`` and the like do: block by block, so that streamed ones never add up, and not at
        all to streamed ones that keep their dtypes.
        """
        self.release()
        with torch.inference_mode(False):
            device = fn(torch.empty(0, device=self.device)).device
        for i, block in enumerate(self.children()):
            if i not in self._parcels:
                block._apply(fn)  # type: ignore[no-untyped-call]
            elif any(fn(torch.empty(0, dtype=t.dtype)).dtype != t.dtype for t in tensors_of(block)):
                self._parcels.pop(i).leave()
                block._apply(fn)  # type: ignore[no-untyped-call]
                self._parcels[i] = Parcel(block, device, self._shared())
        self.device, self._copies = device, None
        stay = self._shared()
        for i in self._parcels:
            self._bring(self._block(i), stay)
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> nn.ModuleList:
        raise TypeError("streamed blocks cannot be copied; copy the model before its blocks are streamed")


def together(total: int, swap: int, *, name: str = "blocks") -> Callable[[str], str | None]:
    """For ``build(together=...)``: weights of the blocks that ``stream_blocks`` will stream, block by block.

    Args:
        total: number of blocks.
        swap, name: as for ``stream_blocks``.
    """
    streamed = {f"{name}.{i}" for i in spread(total, swap)}
    depth = name.count(".") + 2

    def group(weight: str) -> str | None:
        block = ".".join(weight.split(".", depth)[:depth])
        return block if block in streamed else None

    return group


def spread(total: int, count: int) -> tuple[int, ...]:
    """``count`` of ``total`` places, evenly spread; the last one is among them."""
    return tuple((i + 1) * total // count - 1 for i in range(count))


def _event() -> torch.cuda.Event:
    return torch.cuda.Event()  # type: ignore[no-untyped-call]
