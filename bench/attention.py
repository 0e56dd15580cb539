"""How fast and how exact is each attention kernel at the sizes of the 14B model?

    python -m bench.attention --size 480p

For every kernel that runs here and every attention of one block: median milliseconds, TFLOP/s (``4 B heads L
keys d`` operations), and the distance from the definition in float32, on a sample of heads and queries, for
random inputs and for hard ones: keys with a large common offset and a few channels that stand out, as trained
models have them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from bench.common import parser, save
from infinite_talk.ops.attention import KERNELS, AttentionCallable, eager, native
from infinite_talk.ops.attention.machine import here
from infinite_talk.ops.attention.matrix import attention_matrix
from infinite_talk.ops.attention.registry import Unusable, ready
from infinite_talk.ops.attention.stopwatch import seconds_of

SIZES = {"tiny": (48, 3, 3, 16), "480p": (1560, 21, 40, 128), "720p": (3600, 21, 40, 128)}
"""Tokens of a latent frame, frames, heads, head size."""
SAMPLE = (2, 256)
"""Heads and queries whose error is computed."""
MOST_SCORES = 16 << 30
"""Bytes of scores up to which the definition itself is timed."""


@dataclass(frozen=True)
class Shape:
    """One attention of a block."""

    name: str
    batch: int
    heads: int
    queries: int
    keys: int
    head_dim: int

    @property
    def operations(self) -> float:
        return 4.0 * self.batch * self.heads * self.queries * self.keys * self.head_dim

    @property
    def score_bytes(self) -> int:
        return 4 * self.batch * self.heads * self.queries * self.keys


def shapes(size: str) -> list[Shape]:
    per_frame, frames, heads, width = SIZES[size]
    tokens = per_frame * frames
    return [
        Shape("self", 1, heads, tokens, tokens, width),
        Shape("text", 1, heads, tokens, 512, width),
        Shape("image", 1, heads, tokens, 257, width),
        Shape("speech", frames, heads, per_frame, 32, width),
        Shape("speech of two people", frames, heads, per_frame, 64, width),
        Shape("class maps", 1, heads, tokens, per_frame, width),
    ]


def tensors(shape: Shape, device: torch.device, dtype: torch.dtype, seed: int, *, hard: bool) -> list[Tensor]:
    """q, k, v ``(B, heads, L, d)``, split off rows of tokens as in the model."""
    generator = torch.Generator(device).manual_seed(seed)
    made = []
    for length, scale in ((shape.queries, 1.0), (shape.keys, 1.0), (shape.keys, 1.0)):
        size = (shape.batch, length, shape.heads, shape.head_dim)
        made.append(torch.randn(size, generator=generator, device=device) * scale)
    if hard:
        made[1] += 3 * torch.randn(shape.head_dim, generator=generator, device=device)
        made[0][..., ::31] *= 6
    return [x.to(dtype).transpose(1, 2) for x in made]


def error(attend: AttentionCallable, q: Tensor, k: Tensor, v: Tensor) -> dict[str, float]:
    """Relative, largest and mean distance over the sample."""
    heads, queries = SAMPLE
    found = attend(q, k, v)[:, :heads, :queries].float()
    expected = eager(q[:, :heads, :queries].float(), k[:, :heads].float(), v[:, :heads].float())
    apart = (found - expected).abs()
    return {
        "relative": float(apart.norm() / expected.norm()),
        "largest": float(apart.max()),
        "mean": float(apart.mean()),
    }


def measure(
    name: str, shape: Shape, device: torch.device, dtype: torch.dtype, seed: int, repeats: int
) -> dict[str, Any]:
    """One kernel at one shape; what it cannot do is said in words."""
    found = ready(KERNELS[name], here(device), dtype, shape.head_dim)
    if isinstance(found, Unusable):
        return {"unusable": found.why}
    if name == "eager" and shape.score_bytes > MOST_SCORES:
        return {"unusable": f"holds {shape.score_bytes / 1e9:.0f} GB of scores in memory"}
    q, k, v = tensors(shape, device, dtype, seed, hard=False)
    seconds = seconds_of(lambda: found.attend(q, k, v), device, repeats=repeats)
    result: dict[str, Any] = {
        "package": found.version,
        "milliseconds": round(1000 * seconds, 4),
        "tflops": round(shape.operations / seconds / 1e12, 2),
        "left_to_sdpa": not getattr(found.attend, "takes", lambda *_: True)(q, k, v),
        "error": error(found.attend, q, k, v),
        "error_hard": error(found.attend, *tensors(shape, device, dtype, seed, hard=True)),
    }
    if name == "sdpa" and device.type == "cuda":
        result["backend"] = str(native._CHOSEN.get(native.kind_of(q, k, v)))
        result["backends_ms"] = {
            one.name: None if (took := native._seconds(one, q, k, v)) is None else round(1000 * took, 4)
            for one in native.BACKENDS
        }
    return result


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--size", choices=SIZES, help="default is 480p on a GPU, tiny on a CPU")
    options.add_argument(
        "--dtype", choices=("bf16", "fp16", "fp32"), help="default is bf16 on a GPU, fp32 on a CPU"
    )
    options.add_argument("--only", nargs="*", choices=list(KERNELS), help="kernels; default is all")
    options.add_argument("--repeats", type=int, default=10)
    asked = options.parse_args()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    size = asked.size or ("480p" if device.type == "cuda" else "tiny")
    kinds = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
    dtype = asked.dtype or ("bf16" if device.type == "cuda" else "fp32")
    results: dict[str, dict[str, Any]] = {}
    with torch.no_grad():
        for shape in shapes(size):
            for name in asked.only or KERNELS:
                row = measure(name, shape, device, kinds[dtype], asked.seed, asked.repeats)
                results.setdefault(shape.name, {})[name] = row
                print(f"{shape.name:<22}{name:<16}{row.get('unusable') or _line(row)}")
        matrix = [asdict(row) for row in attention_matrix(device)]
    save(
        "attention",
        asked.out,
        {
            "question": (__doc__ or "").splitlines()[0],
            "size": size,
            "dtype": dtype,
            "shapes": {shape.name: asdict(shape) for shape in shapes(size)},
            "results": results,
            "doctor": matrix,
        },
    )


def _line(row: dict[str, Any]) -> str:
    where = f" ({row['backend']})" if "backend" in row else " (sdpa)" if row["left_to_sdpa"] else ""
    errors = f"{row['error']['relative']:.1e}, hard {row['error_hard']['relative']:.1e}"
    return f"{row['milliseconds']:>9.3f} ms {row['tflops']:>8.1f} TFLOP/s  error {errors}{where}"


if __name__ == "__main__":
    main()
