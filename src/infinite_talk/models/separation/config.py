"""Sizes of a Mel-Band RoFormer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SeparatorConfig:
    """The defaults are those of the vocal model by K. Jensen, whose file workflows name (228 million weights)."""

    dim: int = 384
    depth: int = 6
    heads: int = 8
    dim_head: int = 64
    bands: int = 60
    rate: int = 44_100
    n_fft: int = 2048
    hop: int = 441
    chunk: int = 352_800
    """Samples that are worked on at a time, 8 s: what the model was trained with; a multiple of ``hop``."""

    @property
    def bins(self) -> int:
        """Frequencies of a spectrum."""
        return self.n_fft // 2 + 1
