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


SHARE = 0.45
"""Of the data sheet's products: 0.37 (diffusers) to 0.7 (LightX2V) are published for Wan2.1-14B on an H100."""
CODEC_SHARE = 0.25
"""The same for the codec's convolutions: cuDNN reaches 0.2 in 16 bits on an H200 (81 frames of 832 x 480, 274e12
operations, in 1.36 s)."""

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


def measured_speed(flops: float, *, link: float = 20e9, fast: bool = False) -> Speed:
    """From operations per second of one large product on this machine; the shares are those of the cards."""
    return Speed(SHARE * flops, CODEC_SHARE * flops, link, 1.6 if fast else 1.0)
