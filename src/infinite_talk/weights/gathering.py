"""Gathering: the weights of a submodule, once they are as they will be kept, move into one piece of host memory.

Blocks that are streamed later need not be copied a second time then, and the device never holds more than one
of them while a model is loaded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import torch
from torch import Tensor, nn

from infinite_talk.ops.host import HostMemory, aligned, view
from infinite_talk.ops.linear import Packed

ATTRIBUTE = "host_memory"
"""Where a gathered submodule has its ``HostMemory``, until somebody takes it over (``memory/parcel.py``)."""

Group = Callable[[str], str | None]
"""The submodule with which a weight, by name, is gathered; ``None``: it is not."""


class Gathering:
    """One build's gathered submodules.

    Args:
        names: of all weights.
        group: which of them belong together.
        device: from which they come, and for which the memory is pinned.
    """

    def __init__(self, names: Iterable[str], group: Group, device: torch.device) -> None:
        self._device = device
        self._members: dict[str, list[str]] = {}
        self._group: dict[str, str] = {}
        for name in names:
            if (chosen := group(name)) is not None:
                self._group[name] = chosen
                self._members.setdefault(chosen, []).append(name)
        self._left = Counter(self._group.values())
        self._memory: dict[str, HostMemory] = {}
        # Pinning a gigabyte takes a few tenths of a second: the next piece is made while its weights arrive.
        self._pool = ThreadPoolExecutor(1, "pin")
        self._next: Future[HostMemory] | None = None

    def __enter__(self) -> Gathering:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        if self._device.type == "cuda":
            torch.cuda.current_stream(self._device).synchronize()  # copies to the host are still under way

    def arrived(self, name: str, plain: dict[str, Tensor], packed: dict[str, Packed]) -> None:
        """A weight is there, in one of the two; the last one of a submodule moves them all, in place."""
        group = self._group.get(name)
        if group is None:
            return
        self._left[group] -= 1
        if self._left[group]:
            return
        names = self._members[group]
        size = sum(aligned(t.nbytes) for n in names for t in _tensors(plain, packed, n))
        memory = self._memory[group] = self._new(size)
        start = 0
        for n in names:
            moved = []
            for tensor in _tensors(plain, packed, n):
                there = view(memory.bytes, start, tensor)
                moved.append(there.copy_(tensor, non_blocking=True))
                start += aligned(tensor.nbytes)
            if n in packed:
                parts = dict(zip(packed[n].parts, moved, strict=True))
                packed[n] = Packed(packed[n].format, packed[n].shape, parts)
            else:
                plain[n] = moved[0]

    def hand_over(self, module: nn.Module) -> None:
        """Leave the memory at the submodules whose weights are in it."""
        for group, memory in self._memory.items():
            setattr(module.get_submodule(group), ATTRIBUTE, memory)

    def _new(self, size: int) -> HostMemory:
        memory = self._next.result() if self._next is not None else None
        if memory is None or memory.bytes.numel() != size:
            memory = self._make(size)
        more = any(left for left in self._left.values())
        self._next = self._pool.submit(self._make, size) if more else None  # blocks are all of one size
        return memory

    def _make(self, size: int) -> HostMemory:
        memory = HostMemory(size)
        memory.pin(self._device)  # whoever streams pins again if this failed, and says so
        return memory


def _tensors(plain: dict[str, Tensor], packed: dict[str, Packed], name: str) -> list[Tensor]:
    """All tensors of one weight, in a layout that can lie in a row."""
    found = list(packed[name].parts.values()) if name in packed else [plain[name]]
    return [
        t if t.is_contiguous() or (t.dim() == 2 and t.t().is_contiguous()) else t.contiguous() for t in found
    ]
