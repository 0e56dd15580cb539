"""Host memory that a GPU copies from at full speed: whole pages, pinned as long as they are held.

torch's own pinned memory is rounded up to a power of two, which for a block of 0.87 GiB wastes a sixth; here
plain pages are registered with the driver instead, exactly as many as are needed.
"""

from __future__ import annotations

import mmap
import sys
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

ALIGNMENT = 256
"""Where a tensor may begin: what CUDA's own allocations have, and more than any kernel or vector load asks for."""
_HUGE = 8 << 20  # from this size on large pages are worth asking for: a fraction of the work of pinning them
_PORTABLE = 1  # cudaHostRegisterPortable: pinned for all GPUs


class HostMemory:
    """``nbytes`` of zeros, as a flat tensor ``bytes``. Pages that nobody writes to cost nothing.

    The memory lives as long as any tensor that looks into it; the pinning as long as this object, or until
    ``unpin``.
    """

    def __init__(self, nbytes: int) -> None:
        pages = _pages(max(nbytes, 1))
        with torch.inference_mode(False):  # views of it are given to parameters
            self.bytes: Tensor = torch.frombuffer(pages, dtype=torch.uint8)[:nbytes]
        self._unpin: Callable[[], object] | None = None

    @property
    def pinned(self) -> bool:
        return self._unpin is not None

    def pin(self, device: torch.device) -> str | None:
        """Pin the pages for copies to a CUDA device; for another one there is nothing to do.

        Returns:
            Why it could not be done, or ``None``. Copies from pages that are not pinned are right but make
            the program wait for them.
        """
        if device.type != "cuda" or self.pinned or not self.bytes.numel():
            return None
        address, size = self.bytes.data_ptr(), self.bytes.numel()
        with torch.cuda.device(device):
            outcome = _driver().cudaHostRegister(address, size, _PORTABLE)
            if int(outcome) == 0:
                self._unpin = weakref.finalize(self, _unregister, address)
                self._unpin.atexit = False  # the system does it faster
                return None
            with suppress(RuntimeError):  # the next launch would report this error as its own
                torch.zeros(1, device=device)
        return (
            f"{size / 2**30:.2f} GiB of host memory could not be pinned (CUDA error {int(outcome)}), so copies "
            "to the GPU are slower and the program waits for them. Raise the limit of locked memory "
            "(ulimit -l), under WSL the memory of the virtual machine, or swap fewer blocks."
        )

    def unpin(self) -> None:
        """Wait for copies under way and let the pages go."""
        if self._unpin is not None:
            self._unpin()
            self._unpin = None


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on ``device``; the program does not wait for the copy, and nobody may write to the
    tensor afterwards."""
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def to_host(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Tensors of one device in host memory, complete; the program waits once for all of them."""
    device = tensors[0].device
    if device.type != "cuda":
        return tuple(tensor.cpu() for tensor in tensors)
    copies = tuple(torch.empty(t.shape, dtype=t.dtype, pin_memory=True) for t in tensors)
    for copy, tensor in zip(copies, tensors, strict=True):
        copy.copy_(tensor, non_blocking=True)
    torch.cuda.current_stream(device).synchronize()
    return copies


def aligned(position: int) -> int:
    """The next place in bytes where a tensor may begin."""
    return -(-position // ALIGNMENT) * ALIGNMENT


def view(flat: Tensor, start: int, like: Tensor) -> Tensor:
    """The part of flat bytes from ``start`` on as a tensor of the dtype, shape and strides of ``like``."""
    piece = flat[start : start + like.numel() * like.element_size()]
    return piece.view(like.dtype).as_strided(like.shape, like.stride())


def _pages(nbytes: int) -> mmap.mmap:
    if sys.platform == "win32":
        return mmap.mmap(-1, nbytes)
    pages = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if nbytes >= _HUGE and hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without them
            pages.madvise(mmap.MADV_HUGEPAGE)
    return pages


def _unregister(address: int) -> None:
    torch.cuda.synchronize()
    _driver().cudaHostUnregister(address)


def _driver() -> Any:  # noqa: ANN401
    return torch.cuda.cudart()  # type: ignore[no-untyped-call]
