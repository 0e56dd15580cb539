"""Tiles for the codec that give the numbers of whole frames.

Attention exists only at the resolution of the latent, where whole frames cost little. All the rest are 3 x 3
convolutions: what a pixel depends on ends a fixed number of cells away (``decoder_reach``,
``encoder_reach``). So the middle sees whole frames, and each tile takes that many cells more on every side and
throws their results away: nothing is blended, and there are no seams.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from infinite_talk.models.vae.config import VAEConfig


@dataclass(frozen=True, slots=True)
class Span:
    """One tile along one axis, in latent cells: computed from ``first`` to ``last``, kept ``start`` to ``stop``."""

    first: int
    start: int
    stop: int
    last: int

    def kept(self, cell: int) -> slice:
        """The part of the computed that is kept, ``cell`` pixels for each latent cell."""
        return slice((self.start - self.first) * cell, (self.stop - self.first) * cell)


def spans(cells: int, tile: int, reach: int) -> tuple[Span, ...]:
    """Cut ``cells`` latent cells into tiles of at most ``tile``, evenly, each with ``reach`` more on either side."""
    count = -(-cells // max(1, tile))
    edges = [cells * i // count for i in range(count + 1)]
    return tuple(
        Span(max(0, start - reach), start, stop, min(cells, stop + reach)) for start, stop in pairwise(edges)
    )


def decoder_reach(config: VAEConfig) -> int:
    """Latent cells beyond a tile that its pixels depend on.

    A convolution looks one cell further at its own resolution: two of them in a residual block, one in each
    doubling, at the finer resolution, and one in the head. 13 cells for Wan2.1.
    """
    reach, cell = 0.0, 1.0
    for level in range(len(config.dim_mult)):
        reach += 2 * (config.num_res_blocks + 1) * cell
        if level < len(config.dim_mult) - 1:
            cell /= 2
            reach += cell
    return -int(-(reach + cell) // 1)


def encoder_reach(config: VAEConfig) -> int:
    """Latent cells beyond a tile that its features depend on.

    As in the decoder; a halving looks two of its input's cells further. 10 cells for Wan2.1.
    """
    cell = 1 / (1 << (len(config.dim_mult) - 1))
    reach = cell
    for level in range(len(config.dim_mult)):
        reach += 2 * config.num_res_blocks * cell
        if level < len(config.dim_mult) - 1:
            reach += 2 * cell
            cell *= 2
    return -int(-reach // 1)
