"""What the machine can do at best: products, attention and copies of the model's shapes, each under load."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from infinite_talk.benchmarks.clock import sustained
from infinite_talk.benchmarks.watch import Watch
from infinite_talk.memory.flops import Kind, Part
from infinite_talk.models.dit import DiTConfig
from infinite_talk.ops import ceilings as kernels
from infinite_talk.ops.attention import AttentionCallable

Shape = tuple[int, int]
_COPIED = 1 << 30


@dataclass(frozen=True, slots=True)
class Ceilings:
    """Operations and bytes per second."""

    gemm: dict[Shape, float]
    """In the base precision, by inputs and outputs of the weight."""
    float8: dict[Shape, float]
    """The same in float8; empty where the device has none, or none is used."""
    attention: float
    """The chosen kernel at the shape of the self-attention."""
    copy: float
    """Bytes per second, read and written counted."""
    power: dict[str, Any] = field(default_factory=dict)
    """Power and clock under each kind of load, where they can be read."""

    def seconds(self, part: Part, *, float8: bool) -> float:
        """The least time of a part; that of what only moves bytes is not counted."""
        if part.kind is Kind.ELEMENTWISE:
            return 0.0
        if part.kind is Kind.ATTENTION:
            return part.flops / self.attention
        rates = self.float8 if float8 and self.float8 and is_packed(part) else self.gemm
        return part.flops / rates.get(part.weight or (0, 0), rates[square(rates)])

    def limit(self, parts: Iterable[Part], *, float8: bool) -> float:
        """Seconds of the parts if each ran at its ceiling, one after another."""
        return sum(self.seconds(part, float8=float8) for part in parts)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: 1e12 operations per second, and 1e9 bytes per second."""
        return {
            "gemm_tflops": {_name(shape): rate / 1e12 for shape, rate in self.gemm.items()},
            "float8_tflops": {_name(shape): rate / 1e12 for shape, rate in self.float8.items()},
            "attention_tflops": self.attention / 1e12,
            "copy_gb_per_s": self.copy / 1e9,
            "power": self.power,
        }


def shapes_of(config: DiTConfig) -> tuple[Shape, ...]:
    """The weights of a block that nearly all of its products have."""
    dim, hidden = config.dim, config.ffn_dim
    return (dim, dim), (dim, 3 * dim), (dim, hidden), (hidden, dim)


def square(rates: dict[Shape, float]) -> Shape:
    """The shape that stands for those that were not measured: the smallest."""
    return min(rates)


def is_packed(part: Part) -> bool:
    """Whether a part multiplies with a weight of a block, which a format may narrow."""
    return part.kind is Kind.GEMM and part.name.startswith(("self", "cross", "speech q", "speech o", "feed"))


class Meter:
    """Measures ceilings once in a process for each shape."""

    def __init__(self, device: torch.device, seconds: float) -> None:
        self._device, self._seconds = device, seconds
        self._found: dict[object, tuple[float, dict[str, float] | None]] = {}

    def ceilings(
        self,
        config: DiTConfig,
        tokens: int,
        dtype: torch.dtype,
        attention: AttentionCallable,
        *,
        name: str,
        float8: bool,
    ) -> Ceilings:
        """All that one forward pass is compared with.

        Args:
            name: of the attention, for what was measured before.
            float8: also measure products in float8.
        """
        device = self._device
        power: dict[str, Any] = {}
        gemm: dict[Shape, float] = {}
        narrow: dict[Shape, float] = {}
        for inputs, outputs in shapes_of(config):
            flops = 2.0 * tokens * inputs * outputs
            shape = inputs, outputs
            make = partial(kernels.product, tokens, inputs, outputs, dtype, device)
            gemm[shape] = self._rate(("gemm", tokens, shape, dtype), flops, make, power)
            if float8 and (rate := self._float8(tokens, shape, flops, power)):
                narrow[shape] = rate
        key = ("attention", name, tokens, config.num_heads, config.head_dim, dtype)
        flops = 4.0 * tokens**2 * config.dim
        best = self._rate(key, flops, lambda: attention_call(attention, config, tokens, dtype, device), power)
        copied = _COPIED if device.type == "cuda" else _COPIED >> 6
        moved = self._rate(("copy",), 2.0 * copied, lambda: kernels.copy(copied, device), power)
        return Ceilings(gemm, narrow, best, moved, power)

    def _float8(self, tokens: int, shape: Shape, flops: float, power: dict[str, Any]) -> float | None:
        if kernels.float8_product(16, 16, 16, self._device) is None:
            return None

        def make() -> kernels.Call:
            call = kernels.float8_product(tokens, *shape, self._device)
            assert call is not None
            return call

        return self._rate(("float8", tokens, shape), flops, make, power)

    def _rate(
        self,
        key: tuple[object, ...],
        amount: float,
        make: Callable[[], kernels.Call],
        power: dict[str, Any],
    ) -> float:
        """``amount`` over the seconds of a call under load."""
        if key not in self._found:
            with torch.inference_mode(), Watch(self._device) as watch:
                seconds = sustained(make(), self._device, self._seconds)
            self._found[key] = amount / seconds, watch.summary()
        rate, seen = self._found[key]
        if seen is not None:
            power[" ".join(str(part) for part in key)] = seen
        return rate


def attention_call(
    attention: AttentionCallable, config: DiTConfig, tokens: int, dtype: torch.dtype, device: torch.device
) -> kernels.Call:
    """The self-attention of one block on random tensors, laid out as the model lays them out."""
    shape = (1, tokens, config.num_heads, config.head_dim)
    q, k, v = (torch.randn(shape, device=device, dtype=dtype).transpose(1, 2) for _ in range(3))
    return lambda: attention(q, k, v)


def _name(shape: Shape) -> str:
    return f"{shape[0]}x{shape[1]}"
