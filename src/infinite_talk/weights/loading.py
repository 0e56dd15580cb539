"""Loading onto a GPU: a few threads read tensors ahead, through pinned memory that is used again and again.

A tensor whose place in a file is known is read straight into the pinned memory; any other (unpacked, cut, of a
memory-mapped pickle or GGUF file) is copied there from where it is, its pages asked for ahead. So there is never
a whole tensor in the host's memory, let alone a model, and reading, copying to the GPU and packing overlap.
"""

from __future__ import annotations

import ctypes
import os
import queue
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from infinite_talk.errors import CheckpointError
from infinite_talk.ops.host import HostMemory
from infinite_talk.ops.linear import Packed
from infinite_talk.weights.origin import origin_of

Weights = Mapping[str, Tensor | Packed]

THREADS = 4
"""Readers. One copies 4 to 8 GB/s out of the page cache; a fast disk and a fast bus take two or three."""
AHEAD = 6
"""Tensors that are on their way or wait for their turn on the GPU, at most 0.14 GB each in a block."""
CHUNK = 32 << 20
"""Bytes that are read at once; each thread has two such pieces of pinned memory, in turn."""
_POPULATE_READ = 22  # MADV_POPULATE_READ (Linux 5.14): map a file's pages, reading what is not in memory


class Arrived(NamedTuple):
    """A weight on its device; ``after`` has to be waited for by the stream that uses it."""

    value: Tensor | Packed
    after: torch.cuda.Event | None


def arriving(
    weights: Weights, names: Iterable[str], device: torch.device
) -> Iterator[tuple[str, Tensor | Packed]]:
    """The weights ``names``, in this order, in their stored form: on a GPU, or on another device as they come.

    Raises:
        CheckpointError: a file cannot be read any more.
    """
    if device.type != "cuda":
        for name in names:
            yield name, weights[name]
        return
    stream = torch.cuda.current_stream(device)
    for name, arrived in _ahead(weights, names, stream):
        if arrived.after is not None:
            stream.wait_event(arrived.after)
        yield name, arrived.value


def _ahead(
    weights: Weights, names: Iterable[str], stream: torch.cuda.Stream | None
) -> Iterator[tuple[str, Arrived]]:
    """In order, some of them ahead of whoever asks."""
    carriers: queue.SimpleQueue[Carrier] = queue.SimpleQueue()
    for _ in range(THREADS):
        carriers.put(Carrier(stream))
    made = carriers.qsize()

    def bring(name: str) -> Arrived:
        carrier = carriers.get()
        try:
            return carrier.bring(weights[name])
        finally:
            carriers.put(carrier)

    pool = ThreadPoolExecutor(THREADS, "load")
    pending: deque[tuple[str, Future[Arrived]]] = deque()
    try:
        for name in names:
            pending.append((name, pool.submit(bring, name)))
            if len(pending) > AHEAD:
                first, future = pending.popleft()
                yield first, future.result()
        while pending:
            first, future = pending.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(cancel_futures=True)  # waits for what is under way
        for _ in range(made):
            carriers.get().close()


class Carrier:
    """One thread's way to the device: pinned memory, a copy stream, and the files it has open.

    Args:
        stream: whose memory the results take, and whose turn comes after the copies; ``None``: no GPU, the
            results are ordinary copies (for tests).
        chunk: bytes at once.
    """

    def __init__(self, stream: torch.cuda.Stream | None, chunk: int = CHUNK) -> None:
        self._stream = stream
        self._device = torch.device("cpu") if stream is None else stream.device
        self._memory = [HostMemory(chunk) for _ in range(2)]
        self._copies: torch.cuda.Stream | None = None
        self._free: list[torch.cuda.Event | None] = [None, None]
        self._files: dict[Path, int] = {}
        self._next = 0
        if stream is not None:
            self._copies = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
            self._free = [_event(), _event()]
            for memory in self._memory:
                memory.pin(self._device)  # unpinned it is slower, and right

    @torch.no_grad()
    def bring(self, value: Tensor | Packed) -> Arrived:
        """A weight from the host on the device."""
        if isinstance(value, Tensor):
            value = self._carry(value)
        else:
            parts = {name: self._carry(part) for name, part in value.parts.items()}
            value = Packed(value.format, value.shape, parts)
        if self._copies is None:
            return Arrived(value, None)
        after = _event()
        after.record(self._copies)
        return Arrived(value, after)

    def close(self) -> None:
        """Give pinned memory and files back."""
        if self._copies is not None:
            self._copies.synchronize()
        for memory in self._memory:
            memory.unpin()
        for file in self._files.values():
            os.close(file)

    def _carry(self, tensor: Tensor) -> Tensor:
        if (
            tensor.device.type != "cpu"
        ):  # made there, not read: a difference that was computed, a test's model
            with torch.cuda.stream(self._stream):
                return tensor.to(self._device)
        read = self._reader(tensor)
        there = self._room(tensor)
        if not there.numel():
            return there
        target = there.view(-1).view(torch.uint8)
        for start in range(0, target.numel(), self._memory[0].bytes.numel()):
            turn, self._next = self._next, 1 - self._next
            piece = self._memory[turn].bytes[: target.numel() - start]
            free = self._free[turn]
            if free is not None:
                free.synchronize()  # the copy that used this memory before
            read(piece, start)
            with torch.cuda.stream(self._copies):  # nothing without a GPU
                target[start : start + piece.numel()].copy_(piece, non_blocking=True)
            if free is not None:
                free.record(self._copies)
        return there

    def _room(self, tensor: Tensor) -> Tensor:
        """Memory of the stream that will use it; copies begin when what it did there before is done."""
        with torch.cuda.stream(self._stream):
            there = torch.empty(tensor.shape, dtype=tensor.dtype, device=self._device)
        if self._copies is not None:
            ready = _event()
            ready.record(self._stream)
            self._copies.wait_event(ready)
        return there

    def _reader(self, tensor: Tensor) -> _Read:
        origin = origin_of(tensor)
        if origin is None or not hasattr(os, "preadv") or not tensor.is_contiguous():
            return _FromMemory(tensor)
        if origin.path not in self._files:
            self._files[origin.path] = os.open(origin.path, os.O_RDONLY)
        return _FromFile(self._files[origin.path], origin.start, tensor.nbytes, origin.path)


class _Read:
    """Fills a piece of memory with the bytes of a tensor from ``start`` on."""

    def __call__(self, piece: Tensor, start: int) -> None:
        raise NotImplementedError


class _FromFile(_Read):
    def __init__(self, file: int, begin: int, nbytes: int, path: Path) -> None:
        self._file, self._begin, self._path = file, begin, path
        if hasattr(os, "posix_fadvise"):
            with suppress(OSError):  # not all file systems take advice
                os.posix_fadvise(file, begin, nbytes, os.POSIX_FADV_WILLNEED)

    def __call__(self, piece: Tensor, start: int) -> None:
        memory, done = piece.numpy().data, 0
        while done < len(memory):
            try:
                count = os.preadv(self._file, [memory[done:]], self._begin + start + done)
            except OSError as error:
                raise CheckpointError(
                    f"The model file {self._path} cannot be read any more ({error.strerror}). Check the disk, "
                    "or download it again.",
                    code="checkpoint_corrupt",
                ) from error
            if not count:
                raise CheckpointError(
                    f"The model file {self._path} has become shorter while it was read. Download it again.",
                    code="checkpoint_corrupt",
                )
            done += count


class _FromMemory(_Read):
    """From wherever the tensor is; of a memory-mapped file the pages are read in one go, not one by one."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor.detach().contiguous()  # holds the memory
        self._advise = _populate()

    def __call__(self, piece: Tensor, start: int) -> None:
        address = self._tensor.data_ptr() + start
        if self._advise is not None and piece.numel() > 1 << 20:
            page = mmap_page()
            first = address // page * page
            self._advise(first, address + piece.numel() - first, _POPULATE_READ)  # advice: may be refused
        ctypes.memmove(piece.data_ptr(), address, piece.numel())  # lets other threads run


def mmap_page() -> int:
    """Bytes of a page."""
    return os.sysconf("SC_PAGE_SIZE")


def _populate() -> ctypes._NamedFuncPointer | None:
    if os.name != "posix":
        return None
    advise = getattr(ctypes.CDLL(None), "madvise", None)
    if advise is not None:
        advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return advise


def _event() -> torch.cuda.Event:
    return torch.cuda.Event()  # type: ignore[no-untyped-call]
