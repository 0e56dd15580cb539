"""``Speed``: what a machine does in a second, measured or from a table of cards."""

from __future__ import annotations

from dataclasses import dataclass

GIB = float(1 << 30)


@dataclass(frozen=True, slots=True)
class Speed:
    """Operations and bytes per second that the models really reach."""

    transformer: float  # operations, in the base precision
    codec: float  # operations, in the codec's precision
    link: float  # bytes between host and device
    fast: float = 1.0  # how much faster a product is in a ``_fast`` format
    name: str = "this machine"


@dataclass(frozen=True, slots=True)
class Card:
    """A GPU as its data sheet describes it. Dense products summed in float32; no sparsity."""

    name: str
    gib: float
    bf16: float  # 1e12 operations per second
    link: float  # 1e9 bytes per second that a pinned copy reaches
    fast: bool  # multiplies float8

    def speed(self) -> Speed:
        """What is expected of it."""
        return Speed(
            transformer=SHARE * self.bf16 * 1e12,
            codec=CODEC_SHARE * self.bf16 * 1e12,
            link=self.link * 1e9,
            fast=1.6 if self.fast else 1.0,
            name=self.name,
        )


SHARE = 0.6
"""Of the data sheet's products: 0.68 with FlashAttention 3 and 0.61 with torch's attention were measured on an H200
(bench/results/speed_bf16.json, speed_diffusers.json); others have not been."""
CODEC_SHARE = 0.25
"""The same for the codec's convolutions: 0.4 with our kernels on an H200 (speed_fp8.json); elsewhere cuDNN works, which
reached 0.23 there."""
OF_PRODUCT, CODEC_OF_PRODUCT = 0.8, 0.35
"""Of what one large product reaches on this GPU for a moment: 0.87 and 0.5 on that H200."""
OF_CPU, CODEC_OF_CPU = 0.7, 1.0
"""The same on a CPU, where the codec computes half of the products that are counted (cpu_profile.json)."""

LINK = 20e9
"""Bytes per second between host and GPU where nothing was measured."""

CARDS = (
    Card("RTX 4060", 8, 30, 12, True),
    Card("RTX 3060 12 GB", 12, 26, 22, False),
    Card("RTX 4060 Ti 16 GB", 16, 44, 12, True),
    Card("RTX 4090", 24, 165, 25, True),
    Card("L40S", 48, 362, 25, True),
    Card("H100", 80, 989, 50, True),
    Card("H200", 141, 989, 50, True),
)
"""One card for each size of memory, smallest first."""


def card_with(gib: float) -> Card:
    """The smallest card with this much memory, or the largest one."""
    return next((card for card in CARDS if card.gib >= gib), CARDS[-1])


def measured_speed(flops: float, *, gpu: bool, fast: bool = False) -> Speed:
    """From operations per second of one large product on this machine."""
    transformer, codec = (OF_PRODUCT, CODEC_OF_PRODUCT) if gpu else (OF_CPU, CODEC_OF_CPU)
    return Speed(transformer * flops, codec * flops, LINK, 1.6 if fast else 1.0)
