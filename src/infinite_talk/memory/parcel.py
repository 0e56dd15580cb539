"""``Parcel``: all tensors of a module in one piece of host memory, so that one copy brings them to a device."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from infinite_talk.ops.host import ALIGNMENT, HostMemory, aligned, view


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """One tensor of the module and its view of the host's piece, which also tells dtype, shape and strides."""

    tensor: Tensor
    start: int
    home: Tensor


class Parcel:
    """The parameters and buffers of a module, packed or plain, in one flat piece of host memory.

    The module's own tensor objects stay what they are; only the memory they look at changes (``Tensor.data``).
    So a ``PackedLinear``, a LoRA beside it, or a compiled block notice nothing.
    """

    def __init__(self, module: nn.Module, device: torch.device, stay: Container[int] = ()) -> None:
        """Move the tensors of ``module`` into host memory, or take the piece over in which
        loading has put them (``weights/gathering.py``).

        Args:
            device: what the memory is pinned for.
            stay: ``address_of`` tensors that are left where they are.
        """
        tensors = [tensor for tensor in tensors_of(module) if address_of(tensor) not in stay]
        memory = _gathered(module, tensors)
        self._memory = memory or HostMemory(sum(aligned(tensor.nbytes) for tensor in tensors))
        self.note = self._memory.pin(device)  # before the tensors move in: copies to pinned memory are faster
        self._places = _places(tensors, self._memory.bytes, fresh=memory is None)
        if memory is None:
            for place in self._places:
                # A tensor that was made in inference mode is written there only.
                with torch.inference_mode(place.home.is_inference()):
                    place.home.copy_(place.tensor.detach())
        self._views: dict[int, list[Tensor]] = {}
        self.bytes: Tensor = self._memory.bytes[: self._end()]
        self.to_host()

    @property
    def nbytes(self) -> int:
        """What a slot must have, alignment included."""
        return self.bytes.numel()

    def to_host(self) -> None:
        """Let the module look at the host's memory."""
        for place in self._places:
            place.tensor.data = place.home

    def to_slot(self, memory: Tensor) -> None:
        """Let the module look at ``memory``, to which ``bytes`` were copied. Views are made once per slot."""
        key = memory.data_ptr()
        if key not in self._views:
            self._views[key] = [_look(memory, p.start, p.home, p.tensor) for p in self._places]
        for place, there in zip(self._places, self._views[key], strict=True):
            place.tensor.data = there

    def forget_slots(self) -> None:
        """Drop the views of device memory, which would keep it from being freed."""
        self._views.clear()

    def leave(self, device: torch.device | None = None) -> None:
        """Give the tensors memory of their own on ``device``, or leave them on the host, no longer pinned."""
        self.forget_slots()
        self.to_host()
        if device is not None:
            for place in self._places:
                place.tensor.data = place.home.to(device, copy=True)
        self._memory.unpin()

    def _end(self) -> int:
        return max((p.start + p.home.numel() * p.home.element_size() for p in self._places), default=0)


def tensors_of(module: nn.Module) -> Iterator[Tensor]:
    """Parameters and buffers of a module and its parts, each once, none without elements."""
    seen: set[int] = set()
    for part in module.modules():
        for tensor in (*part._parameters.values(), *part._buffers.values()):
            if tensor is not None and tensor.numel() and id(tensor) not in seen:
                seen.add(id(tensor))
                yield tensor


def address_of(tensor: Tensor) -> int:
    """Where a tensor begins in memory; the same for two tensors that show the same numbers."""
    return tensor.data_ptr()


def _gathered(module: nn.Module, tensors: list[Tensor]) -> HostMemory | None:
    """The host memory in which loading has put all of the tensors, taken away from the module."""
    memory = module.__dict__.pop("host_memory", None)
    if not isinstance(memory, HostMemory):
        return None
    first, size = memory.bytes.data_ptr(), memory.bytes.numel()
    places = [
        tensor.data_ptr() - first for tensor in tensors if tensor.device.type == "cpu" and _dense(tensor)
    ]
    inside = [start for start in places if 0 <= start < size and not start % ALIGNMENT]
    return memory if len(inside) == len(tensors) else None


def _places(tensors: list[Tensor], memory: Tensor, *, fresh: bool) -> list[_Place]:
    places, start = [], 0
    for tensor in tensors:
        if not fresh:
            start = tensor.data_ptr() - memory.data_ptr()
        places.append(_Place(tensor, start, _look(memory, start, _layout(tensor), tensor)))
        start += aligned(tensor.nbytes)
    return places


def _look(memory: Tensor, start: int, like: Tensor, owner: Tensor) -> Tensor:
    """A view that ``owner.data`` can become: what was made in inference mode needs one made there, and others
    one that was not, wherever this is called.
    """
    with torch.inference_mode(owner.is_inference()):
        return view(memory, start, like)


def _dense(tensor: Tensor) -> bool:
    """Contiguous, or a transposed matrix that is: weights of some kernels lie column by column."""
    return tensor.is_contiguous() or (tensor.dim() == 2 and tensor.t().is_contiguous())


def _layout(tensor: Tensor) -> Tensor:
    """Something with the strides that ``tensor`` gets in a parcel."""
    return (
        tensor
        if _dense(tensor)
        else torch.empty_like(tensor, memory_format=torch.contiguous_format, device="meta")
    )
