"""How fast does a model load, against reading the same files and doing nothing with them?

``python -m bench.load --folder /somewhere/large --gigabytes 20`` writes random shards in the official layout, reads
them plainly (with one thread and with four, the faster counts), then builds the transformer from them, cold (the
pages dropped from the cache before) and warm, plain, packed and with streamed blocks.
"""

from __future__ import annotations

import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bench.common import parser, save
from infinite_talk.memory.streaming import stream_blocks, together
from infinite_talk.models.dit import DiTConfig, WanTransformer
from infinite_talk.settings import Quantization
from infinite_talk.weights.builder import build
from infinite_talk.weights.loading import CHUNK, THREADS
from infinite_talk.weights.precision import POLICIES
from infinite_talk.weights.reader import TensorFiles

SHARD = 5e9  # bytes of a published shard


def config_of(gigabytes: float) -> DiTConfig:
    """The published widths, as many layers as fit."""
    sizes = [_bytes(replace(DiTConfig(), num_layers=layers)) for layers in (1, 2)]
    block = sizes[1] - sizes[0]
    return replace(DiTConfig(), num_layers=max(1, min(40, int((gigabytes * 1e9 - sizes[0]) // block) + 1)))


def shapes_of(config: DiTConfig) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in WanTransformer(config).state_dict().items()}


def _bytes(config: DiTConfig) -> int:
    return sum(2 * torch.Size(shape).numel() for shape in shapes_of(config).values())


def write(folder: Path, shapes: dict[str, tuple[int, ...]]) -> list[Path]:
    """Shards of random bfloat16 with an index."""
    folder.mkdir(parents=True, exist_ok=True)
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    filled = 0
    for name, shape in sorted(shapes.items()):
        size = 2 * torch.Size(shape).numel()
        if filled + size > SHARD and shards[-1]:
            shards.append({})
            filled = 0
        shards[-1][name] = shape
        filled += size
    noise = (torch.randn(1 << 27) * 0.02).to(torch.bfloat16).view(torch.uint8).numpy().data
    files = []
    for i, shard in enumerate(shards, 1):
        path = folder / f"diffusion_pytorch_model-{i:05}-of-{len(shards):05}.safetensors"
        _write_shard(path, shard, noise)
        files.append(path)
    index = {name: path.name for shard, path in zip(shards, files, strict=True) for name in shard}
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return files


def _write_shard(path: Path, shard: dict[str, tuple[int, ...]], noise: memoryview) -> None:
    header: dict[str, Any] = {}
    end = 0
    for name, shape in shard.items():
        size = 2 * torch.Size(shape).numel()
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        left = end
        while left:
            left -= file.write(noise[: min(left, len(noise))])
        file.flush()
        os.fsync(file.fileno())


def forget(files: list[Path]) -> None:
    """Drop the files from the page cache."""
    for path in files:
        handle = os.open(path, os.O_RDONLY)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def read_plainly(files: list[Path], threads: int) -> float:
    """Seconds to read all bytes into the same few buffers."""
    pieces = [(path, at) for path in files for at in range(0, path.stat().st_size, CHUNK)]
    local = threading.local()

    def read(piece: tuple[Path, int]) -> None:
        if not hasattr(local, "buffer"):
            local.buffer = bytearray(CHUNK)
        handle = os.open(piece[0], os.O_RDONLY)
        os.preadv(handle, [local.buffer], piece[1])
        os.close(handle)

    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(read, pieces))
    return time.perf_counter() - began


class Watch:
    """The most anonymous host memory above that at the start; file-backed pages do not count."""

    def __enter__(self) -> Watch:
        self._start, self.most, self._over = _anonymous(), 0, threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def _look(self) -> None:
        while not self._over.wait(0.02):
            self.most = max(self.most, _anonymous() - self._start)

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def _anonymous() -> int:
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon"))


def load(
    folder: Path, config: DiTConfig, device: torch.device, kind: Quantization, swap: int
) -> dict[str, Any]:
    """Build the transformer once; seconds and host memory."""
    policy = POLICIES[kind]
    with Watch() as watch:
        began = time.perf_counter()
        model = build(
            lambda: WanTransformer(config),
            TensorFiles(folder),
            dtype=torch.bfloat16,
            device=device,
            policy=policy,
            together=together(config.num_layers, swap) if swap else None,
        )
        stream = stream_blocks(model, swap, 1, device) if swap else None
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds = time.perf_counter() - began
    streamed = 0 if stream is None else stream.host_bytes
    return {
        "seconds": round(seconds, 2),
        "host_bytes": watch.most,
        "host_bytes_streamed": streamed,
        "host_bytes_extra": watch.most - streamed,
        "note": None if stream is None else stream.note,
    }


def measure(options: Any, device: torch.device, config: DiTConfig, files: list[Path]) -> list[dict[str, Any]]:
    size = sum(path.stat().st_size for path in files)
    rows: list[dict[str, Any]] = []
    for state in ("cold", "warm"):
        raw: dict[int, float] = {}
        for threads in (1, THREADS):
            if state == "cold":
                forget(files)
            raw[threads] = read_plainly(files, threads)
        best = min(raw.values())
        rows.append(
            {"state": state, "what": "plain read", "gb_per_s": {t: size / 1e9 / s for t, s in raw.items()}}
        )
        for kind in (Quantization.DISABLED, Quantization.FP8_E4M3FN_SCALED):
            for swap in (0, config.num_layers // 2):
                if state == "cold":
                    forget(files)
                found = load(options.folder, config, device, kind, swap)
                found |= {"gb_per_s": size / 1e9 / found["seconds"], "of_plain_read": best / found["seconds"]}
                rows.append({"state": state, "what": f"{kind}, {swap} blocks streamed", **found})
                print(rows[-1], flush=True)
                if device.type == "cuda":
                    torch.cuda.empty_cache()
    return rows


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--folder", type=Path, required=True, help="where the shards are written")
    options.add_argument("--gigabytes", type=float, default=20)
    options.add_argument("--device", default="cuda")
    options.add_argument("--keep", action="store_true", help="leave the shards there")
    asked = options.parse_args()
    device, config = torch.device(asked.device), config_of(asked.gigabytes)
    if device.type == "cuda":
        torch.zeros(1, device=device)  # the context is not part of loading
    shapes = shapes_of(config)
    began = time.perf_counter()
    files = write(asked.folder, shapes)
    written = time.perf_counter() - began
    try:
        rows = measure(asked, device, config, files)
    finally:
        if not asked.keep:
            for path in files:
                path.unlink()
    size = sum(2 * torch.Size(shape).numel() for shape in shapes.values())
    about = {"layers": config.num_layers, "bytes": size, "written_gb_per_s": size / 1e9 / written}
    save("load", asked.out, {**about, "rows": rows})


if __name__ == "__main__":
    main()
