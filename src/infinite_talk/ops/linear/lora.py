"""LoRA at run time: low-rank terms beside a linear layer, or added to a plain parameter each time it is used.

All adapters of a layer are one pair of matrices, so that the cost is two small products however many there are.
Strengths are tensors that change in place between two denoising steps: nothing is compiled again, and nothing
waits for the device.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infinite_talk.ops.linear.fast8 import product
from infinite_talk.ops.linear.rows import Activations, Float8Rows

Columns = tuple[tuple[int, float, int], ...]
"""Who owns the columns of a layer's terms, in order: (adapter, factor beside its strength, number of columns)."""


class Strengths(nn.Module):
    """The strengths of all adapters at the current denoising step; one for a whole model.

    Layers with the same columns share one vector ``(columns,)``, float32. It belongs to this module and not to
    the layers, so that one copy is changed wherever their blocks are.

    Args:
        strengths: of each adapter: one number, or one for each step, of which the last holds on.
    """

    def __init__(self, strengths: Sequence[float | tuple[float, ...]]) -> None:
        super().__init__()
        lists = [s if isinstance(s, tuple) else (s,) for s in strengths]
        steps = max((len(row) for row in lists), default=1)
        rows = [tuple(row[min(step, len(row) - 1)] for row in lists) for step in range(steps)]
        self.distinct = tuple(dict.fromkeys(rows))
        """The different rows of strengths, one number for each adapter."""
        self._row_of_step = tuple(self.distinct.index(row) for row in rows)
        self._row = self._row_of_step[0]
        self._names: dict[Columns, str] = {}

    @property
    def varies(self) -> bool:
        """Whether steps differ, so that what is computed once per window has to be computed for each row."""
        return len(self.distinct) > 1

    def at_step(self, step: int) -> bool:
        """Set the strengths of a denoising step, counted from 0; whether they differ from those before."""
        row = self._row_of_step[min(step, len(self._row_of_step) - 1)]
        if row == self._row:
            return False
        self._row = row
        for name in self._names.values():
            self.get_buffer(name).copy_(self.get_buffer(f"{name}_rows")[row])
        return True

    def vector(self, columns: Columns, device: torch.device) -> str:
        """Have a vector for layers with these columns; its name, for ``get``."""
        if columns not in self._names:
            name = f"scale_{len(self._names)}"
            rows = [[row[i] * factor for i, factor, n in columns for _ in range(n)] for row in self.distinct]
            table = torch.tensor(rows, dtype=torch.float32, device=device)
            self.register_buffer(f"{name}_rows", table, persistent=False)
            self.register_buffer(name, table[self._row].clone(), persistent=False)
            self._names[columns] = name
        return self._names[columns]

    def get(self, name: str) -> Tensor:
        """The current vector of that name."""
        return self.get_buffer(name)


class Terms(nn.Module):
    """What all adapters add to one weight: ``up @ diag(s) @ down`` and ``sum_i t_i * whole_i``.

    The matrices are buffers, so they move and stream with the layer.

    Args:
        strengths: of the model; not a part of this module.
        low_rank: ``up (out, R)`` and ``down (R, in)`` with their columns, all adapters side by side.
        whole: additions that have no low rank, ``(K, *shape)`` with their columns.
    """

    def __init__(
        self,
        strengths: Strengths,
        low_rank: tuple[Tensor, Tensor, Columns] | None,
        whole: tuple[Tensor, Columns] | None,
    ) -> None:
        super().__init__()
        self._strengths = (strengths,)  # in a tuple, so that it does not become a part
        self._low_rank = self._whole = ""
        self.takes_float8 = whole is None
        """Whether ``add_product`` takes activations in 8 bits too."""
        if low_rank is not None:
            up, down, columns = low_rank
            self.register_buffer("up", up, persistent=False)
            self.register_buffer("down", down, persistent=False)
            self._low_rank = strengths.vector(columns, up.device)
        if whole is not None:
            self.register_buffer("whole", whole[0], persistent=False)
            self._whole = strengths.vector(whole[1], whole[0].device)

    def add_product(self, y: Tensor, x: Activations) -> Tensor:
        """``y (..., out)``, contiguous and nobody else's, plus ``x (..., in)`` times the terms; in place.

        Activations in 8 bits are multiplied in 8 bits, rounded as for the layer's own product. ``down`` is rounded
        too, which moves the adapter's answer by a few percent of itself.
        """
        rows = y.view(-1, y.shape[-1])
        if self._low_rank:
            # In place: multiplied in float32, because alpha / rank times a strength may be anything, and
            # rounded once without a float32 copy.
            inner = product(x, self.get_buffer("down")).mul_(self._strengths[0].get(self._low_rank))
            rows.addmm_(inner.flatten(0, -2), self.get_buffer("up").to(x.dtype).t())
        if isinstance(x, Float8Rows):
            assert not self._whole, "ask takes_float8 first"
            return y
        if self._whole:
            scales = self._strengths[0].get(self._whole)
            for scale, matrix in zip(scales, self.get_buffer("whole"), strict=True):
                rows.add_(F.linear(x, matrix.to(x.dtype)).mul_(scale).flatten(0, -2))
        return y

    def weight(self, like: Tensor) -> Tensor:
        """The sum of the terms, float32, in the shape of ``like``."""
        total = torch.zeros(like.shape, dtype=torch.float32, device=like.device)
        if self._low_rank:
            scale = self._strengths[0].get(self._low_rank)
            product = (self.get_buffer("up").float() * scale) @ self.get_buffer("down").float()
            total = total + product.reshape(like.shape)
        if self._whole:
            scale = self._strengths[0].get(self._whole)
            whole = self.get_buffer("whole").float().flatten(1)
            total = total + (scale[:, None] * whole).sum(0).reshape(like.shape)
        return total


class LoRALinear(nn.Module):
    """A linear layer, plain or packed, and the terms of adapters beside it."""

    def __init__(self, base: nn.Module, terms: Terms) -> None:
        super().__init__()
        self.base = base
        self.terms = terms

    @property
    def weight(self) -> Tensor:
        """The whole plain weight, computed anew each time: the slow twin of ``forward`` is a product with it."""
        base: Tensor = self.base.weight  # type: ignore[assignment]
        return (base.float() + self.terms.weight(base)).to(base.dtype)

    @property
    def bias(self) -> Tensor | None:
        bias: Tensor | None = self.base.bias  # type: ignore[assignment]
        return bias

    def forward(self, x: Activations) -> Tensor:
        return self.terms.add_product(self.base(x), x)


class Added(nn.Module):
    """A parametrisation (``torch.nn.utils.parametrize``): a plain parameter plus the terms of adapters."""

    def __init__(self, terms: Terms) -> None:
        super().__init__()
        self.terms = terms

    def forward(self, original: Tensor) -> Tensor:
        """The sum is float32 and rounded once."""
        return (original.float() + self.terms.weight(original)).to(original.dtype)
