"""What a transformer block does between its matrix products, as one small set of operations.

A block asks for what it needs; how many passes over memory that takes is decided here. ``EAGER`` is the slow,
obvious twin in plain torch and the only one that can be differentiated; ``triton_ops`` does each in one pass.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from infinite_talk.ops.linear.rows import Activations
from infinite_talk.ops.rope import Rotation


class FusedOps(Protocol):
    """Operations on tokens ``(B, n, D)`` in the dtype of the stream; float32 inside.

    ``narrow`` asks for the answer as ``Float8Rows``, ready for a product in 8 bits. ``own`` says that nobody
    else needs the first argument, so that it may be overwritten.
    """

    @property
    def name(self) -> str:
        """For logs and results."""
        ...

    def norm(
        self, x: Tensor, factor: Tensor, shift: Tensor, eps: float, *, narrow: bool = False
    ) -> Activations:
        """LayerNorm of each token, times ``factor`` plus ``shift``: ``(D,)``, or ``(B, 1, D)`` float32."""
        ...

    def add_norm(
        self,
        x: Tensor,
        update: Tensor,
        amount: Tensor | None,
        factor: Tensor,
        shift: Tensor,
        eps: float,
        *,
        narrow: bool = False,
        own: bool = False,
    ) -> tuple[Tensor, Activations]:
        """``y = x + update * amount`` with ``amount`` ``(B, 1, D)`` (``None``: 1), and ``norm`` of ``y``."""
        ...

    def add(self, x: Tensor, update: Tensor, amount: Tensor, *, own: bool = False) -> Tensor:
        """``x + update * amount``."""
        ...

    def rms_rotate(self, x: Tensor, norm: nn.Module, heads: int, rotation: Rotation | None) -> Tensor:
        """RMS norm over all heads, split ``(B, n, heads, d)``, turned. ``x`` may be overwritten."""
        ...

    def total(self, x: Tensor, other: Tensor | None, *, narrow: bool = False) -> Activations:
        """``x + other``; ``x`` may be overwritten."""
        ...

    def gelu(self, layer: nn.Module, x: Activations, *, narrow: bool = False) -> Activations:
        """GELU (tanh form) of a linear layer's answer."""
        ...

    def grouped_attention(
        self,
        x: Tensor,
        k: Tensor,
        v: Tensor,
        queries: nn.Module,
        answers: nn.Module,
        rotation: Rotation | None = None,
    ) -> Tensor:
        """``answers(attention(queries(x), k, v))`` for groups of tokens with few keys each.

        Args:
            x: tokens of G groups, ``(G, S, D)``.
            k, v: keys and values of each group, ``(G, heads, L, d)``.
            queries, answers: the linear layers ``D -> D`` before and after the attention.
            rotation: of the queries, ``(G, S, d / 2)``.
        """
        ...
