"""The shape of a tiny decoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath


@dataclass(frozen=True, slots=True)
class TinyVAEConfig:
    """Sizes of a TAEHV decoder; the defaults are those of Wan2.1's (``taew2_1``, ``lighttaew2_1``)."""

    z_dim: int = 16  # channels of the latent
    widths: tuple[int, int, int, int] = (256, 128, 64, 64)  # channels of the three levels and of the output
    patch: int = 1  # pixels folded into channels at the output, per axis
    denormalise: bool = False
    """Whether the decoder was trained on latents before normalisation. LightTAE was, TAEHV was not, and the files
    look the same; see ``by_name``."""
    stored_growth: tuple[int, int, int] = (1, 2, 2)
    """Frames that a frame becomes in each level, as the file has it: files trained for another rhythm hold more
    than is needed, and the last of them is taken."""

    growth: tuple[int, int, int] = (1, 2, 2)

    def __post_init__(self) -> None:
        if any(stored % grown for stored, grown in zip(self.stored_growth, self.growth, strict=True)):
            raise ValueError(f"a file that grows by {self.stored_growth} cannot grow by {self.growth}")

    @property
    def dim(self) -> int:
        """Channels of the widest map, as in ``VAEConfig``."""
        return self.widths[-1]

    @property
    def temporal_stride(self) -> int:
        """Frames per latent frame, after the first one."""
        first, second, third = self.growth
        return first * second * third

    @property
    def spatial_stride(self) -> int:
        """Pixels per latent cell along each side."""
        return 8 * self.patch


def by_name(file: str) -> bool:
    """Whether a file of this name wants latents before normalisation (``denormalise``).

    LightX2V's own programs go by the name, since nothing in the files tells the two apart. So whoever loads one
    should say what was assumed, and let people say otherwise.
    """
    return "lighttae" in PurePath(file).name.lower()
