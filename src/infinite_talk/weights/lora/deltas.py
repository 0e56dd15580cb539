"""What an adapter adds to one weight, in each of the forms that files have; read when it is needed.

Each form has its formula beside it. Numbers are float32 on the device of the weight, whatever the file's dtype.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from infinite_talk.weights.lora.names import Kind

Shape = tuple[int, ...]
PATCHES = "patch_embedding.weight"
"""The one weight whose input is wider in image-to-video models than in the text-to-video ones they grew from."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """How ``alpha`` counts in a file."""

    alpha: float | None = None  # where the file has no tensor for it; None: as large as the rank
    root: bool = False  # rank-stabilised LoRA (Kalajdzievski, 2023): alpha / sqrt(rank)
    ignored: bool = False  # the published InfiniteTalk program knows no alpha


PLAIN = Scaling()


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """The tensors of a file that concern one layer."""

    tensors: Mapping[str, Tensor]
    keys: Mapping[Kind, str]
    shapes: Mapping[Kind, Shape]
    scaling: Scaling

    def read(self, kind: Kind, device: torch.device) -> Tensor:
        return self.tensors[self.keys[kind]].to(device, torch.float32)

    def factor(self, rank: int) -> float:
        """``alpha / rank``, or what takes its place."""
        if self.scaling.ignored:
            return 1.0
        alpha = self.scaling.alpha
        if Kind.ALPHA in self.keys:
            alpha = float(self.tensors[self.keys[Kind.ALPHA]])
        if alpha is None:
            return 1.0
        return alpha / (math.sqrt(rank) if self.scaling.root else rank)


class LowRankPair(NamedTuple):
    """``factor * up @ down``, both float32."""

    up: Tensor  # (out, rank)
    down: Tensor  # (rank, in), kernels of convolutions flattened into ``in``
    factor: float


class Delta(Protocol):
    """An addition to one parameter."""

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The tensors that it is made of."""
        ...

    @property
    def shape(self) -> Shape | None:
        """Of the addition; ``None`` when its tensors do not fit each other. Kernels may be flattened."""
        ...

    def of(self, weight: Tensor) -> Tensor:
        """The addition at strength 1, float32, in the shape of ``weight`` (float32)."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Difference:
    """``W + D``: of a weight, a bias, a norm or a modulation."""

    parts: Parts
    kind: Kind

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return (self.kind,)

    @property
    def shape(self) -> Shape | None:
        return self.parts.shapes[self.kind]

    def of(self, weight: Tensor) -> Tensor:
        return widened(self.parts.read(self.kind, weight.device), weight)


@dataclass(frozen=True, slots=True, eq=False)
class LowRank:
    """LoRA (Hu et al., 2021): ``W + alpha / rank * up @ down``.

    Of a convolution, ``down`` has its kernel and ``up`` a kernel of ones.
    """

    parts: Parts
    up: Kind
    down: Kind

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return (self.up, self.down)

    @property
    def shape(self) -> Shape | None:
        up, down = self.parts.shapes[self.up], self.parts.shapes[self.down]
        if len(up) < 2 or len(down) < 2 or math.prod(up[1:]) != down[0]:
            return None
        return (up[0], *down[1:])

    def of(self, weight: Tensor) -> Tensor:
        up, down, factor = self.pair(weight.device)
        shape = self.shape
        assert shape is not None, "check the adapter first"
        whole = (up @ down).reshape(shape if len(shape) == weight.dim() else weight.shape)
        return widened(whole * factor, weight)

    def pair(self, device: torch.device) -> LowRankPair:
        """The addition as two factors."""
        up, down = (self.parts.read(kind, device).flatten(1) for kind in self.kinds)
        return LowRankPair(up, down, self.parts.factor(down.shape[0]))


@dataclass(frozen=True, slots=True, eq=False)
class Hadamard:
    """LoHa (Hyeon-Woo et al., FedPara, 2021): ``W + alpha / rank * (A1 @ B1) * (A2 @ B2)``, number by number."""

    parts: Parts

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return (Kind.W1A, Kind.W1B, Kind.W2A, Kind.W2B)

    @property
    def shape(self) -> Shape | None:
        first, second = (self._product(a, b) for a, b in ((Kind.W1A, Kind.W1B), (Kind.W2A, Kind.W2B)))
        return first if first == second else None

    def of(self, weight: Tensor) -> Tensor:
        a1, b1, a2, b2 = (self.parts.read(kind, weight.device) for kind in self.kinds)
        return ((a1 @ b1) * (a2 @ b2)).reshape(weight.shape) * self.parts.factor(b1.shape[0])

    def _product(self, a: Kind, b: Kind) -> Shape | None:
        return product_shape(self.parts.shapes[a], self.parts.shapes[b])


@dataclass(frozen=True, slots=True, eq=False)
class Kronecker:
    """LoKr (Yeh et al., LyCORIS, 2023): ``W + f * kron(K1, K2)``, where a ``K`` may be a product ``A @ B``.

    ``f`` is alpha / rank if one of them is a product, and 1 if both are whole, as LyCORIS has it.
    """

    parts: Parts
    first: tuple[Kind, ...]  # the whole matrix, or its two factors
    second: tuple[Kind, ...]

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return self.first + self.second

    @property
    def shape(self) -> Shape | None:
        first, second = self._shape(self.first), self._shape(self.second)
        if first is None or second is None:
            return None
        return first[0] * second[0], math.prod(first[1:]) * math.prod(second[1:])

    def of(self, weight: Tensor) -> Tensor:
        first, second = self._matrix(self.first, weight.device), self._matrix(self.second, weight.device)
        factored = next((kinds for kinds in (self.second, self.first) if len(kinds) == 2), None)
        factor = 1.0 if factored is None else self.parts.factor(self.parts.shapes[factored[1]][0])
        return torch.kron(first, second).reshape(weight.shape) * factor

    def _shape(self, kinds: tuple[Kind, ...]) -> Shape | None:
        shapes = [self.parts.shapes[kind] for kind in kinds]
        return shapes[0] if len(shapes) == 1 else product_shape(shapes[0], shapes[1])

    def _matrix(self, kinds: tuple[Kind, ...], device: torch.device) -> Tensor:
        factors = [self.parts.read(kind, device).flatten(1) for kind in kinds]
        return factors[0] if len(factors) == 1 else factors[0] @ factors[1]


@dataclass(frozen=True, slots=True, eq=False)
class Decomposed:
    """DoRA (Liu et al., 2024): ``m * (W + D) / |W + D|`` instead of ``W + D``.

    The lengths ``m`` are of rows ``(out,)`` or ``(out, 1)``, or of columns ``(1, in)``. A strength between 0 and
    1 goes straight from the one weight to the other.
    """

    parts: Parts
    inner: Delta

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return (*self.inner.kinds, Kind.MAGNITUDE)

    @property
    def shape(self) -> Shape | None:
        shape, lengths = self.inner.shape, self.parts.shapes[Kind.MAGNITUDE]
        if shape is None or math.prod(lengths) not in (shape[0], shape[1]):
            return None
        return shape

    def of(self, weight: Tensor) -> Tensor:
        lengths = self.parts.read(Kind.MAGNITUDE, weight.device)
        updated = (weight + self.inner.of(weight)).flatten(1)
        columns = lengths.dim() > 1 and lengths.shape[0] == 1 and lengths.numel() != 1
        norms = torch.linalg.vector_norm(updated, dim=0 if columns else 1, keepdim=True)
        scale = lengths.reshape(1, -1) if columns else lengths.reshape(-1, 1)
        # A direction of zeros has no length to set.
        return (updated * torch.where(norms > 0, scale / norms, 1.0)).reshape(weight.shape) - weight


def product_shape(a: Shape, b: Shape) -> Shape | None:
    """Shape of ``A @ B``, ``None`` if there is none."""
    return (a[0], b[1]) if len(a) == len(b) == 2 and a[1] == b[0] else None


def widened(delta: Tensor, weight: Tensor) -> Tensor:
    """An addition for fewer input channels, with zeros for the others."""
    missing = weight.shape[1] - delta.shape[1] if delta.dim() == weight.dim() > 2 else 0
    if not missing:
        return delta.reshape(weight.shape)
    return torch.cat([delta, delta.new_zeros(delta.shape[0], missing, *delta.shape[2:])], dim=1)


def fits(name: str, found: Shape | None, shape: Shape, latent_channels: int) -> bool:
    """Whether an addition of shape ``found`` is one to the parameter ``name`` of shape ``shape``.

    Kernels may be flattened. Patches may lack the channels of the reference picture: a LoRA made for the
    text-to-video model knows the noisy latent only, which comes first.
    """
    if found is None:
        return False
    if found == shape or (len(shape) > 2 and found == (shape[0], math.prod(shape[1:]))):
        return True
    return name == PATCHES and found == (shape[0], latent_channels, *shape[2:])


def deltas_of(module: str, parts: Parts, pairs: Sequence[tuple[Kind, Kind]]) -> list[tuple[str, Delta]]:
    """The additions that the tensors of one layer make, each with the name of its parameter.

    Args:
        module: our name of the layer, or of a bare parameter such as a modulation.
        pairs: spellings of low-rank pairs that count.
    """
    weight = module if module.endswith("modulation") else f"{module}.weight"
    there = parts.keys.keys()
    found: list[Delta] = [LowRank(parts, up, down) for up, down in pairs if {up, down} <= there]
    if {Kind.W1A, Kind.W1B, Kind.W2A, Kind.W2B} <= there:
        found.append(Hadamard(parts))
    first, second = _factor(there, Kind.K1, Kind.K1A, Kind.K1B), _factor(there, Kind.K2, Kind.K2A, Kind.K2B)
    if first and second:
        found.append(Kronecker(parts, first, second))
    if Kind.MAGNITUDE in there and len(found) == 1:
        found = [Decomposed(parts, found[0])]
    differences = (
        (weight, Kind.DIFF),
        (f"{module}.bias", Kind.DIFF_BIAS),
        (f"{module}.modulation", Kind.DIFF_MODULATION),
    )
    return [
        *((weight, delta) for delta in found),
        *((name, Difference(parts, kind)) for name, kind in differences if kind in there),
    ]


def _factor(there: Set[Kind], whole: Kind, a: Kind, b: Kind) -> tuple[Kind, ...]:
    """The tensors of one factor of a Kronecker product; empty if it is not complete."""
    if whole in there:
        return (whole,)
    return (a, b) if {a, b} <= there else ()
