"""How matrix products run, apart from the format of their weights: TF32, the GPU's library, fused QKV, dense inputs.

Each is a wish of ``Settings``; ``products_for`` says which of them this machine can follow, with a line for each that
it cannot. TF32 (NVIDIA Ampere and newer) multiplies float32 with 10 bits of mantissa and adds in float32.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from infinite_talk.errors import CapabilityError
from infinite_talk.ops.attention import AttentionCallable, Dense
from infinite_talk.settings import Gemm, Settings

_AMPERE = (8, 0)
"""The first compute capability with TF32."""
_LIBRARIES = {Gemm.CUBLAS: "cublas", Gemm.CUBLASLT: "cublaslt"}
"""As ``torch.backends.cuda.preferred_blas_library`` calls them."""


@dataclass(frozen=True, slots=True)
class Products:
    """What runs for what was asked. A plain ``Products()`` leaves everything as torch has it."""

    tf32: bool | None = None
    gemm: Gemm = Gemm.AUTO
    fuse_qkv: bool = False
    contiguous: bool = False

    def __str__(self) -> str:
        names = {None: "", True: "tf32", False: "no tf32"}
        said = [names[self.tf32], "" if self.gemm is Gemm.AUTO else f"gemm {self.gemm}"]
        said += ["fused qkv" if self.fuse_qkv else "", "contiguous inputs" if self.contiguous else ""]
        return ", ".join(word for word in said if word)

    def apply(self) -> None:
        """Tell torch, which keeps TF32 and the library once for the process: call it before each run."""
        if self.tf32 is not None:
            torch.set_float32_matmul_precision("high" if self.tf32 else "highest")
        if self.gemm is not Gemm.AUTO:
            torch.backends.cuda.preferred_blas_library(_LIBRARIES[self.gemm])

    def inputs_of(self, attention: AttentionCallable) -> AttentionCallable:
        """The attention kernel, given dense inputs if they are wanted."""
        return Dense(attention) if self.contiguous else attention


def products_for(settings: Settings, capability: tuple[int, int] | None) -> tuple[Products, tuple[str, ...]]:
    """What runs on a machine, and a line for each wish that it cannot follow.

    Args:
        capability: of the GPU, ``None`` for the CPU.

    Raises:
        CapabilityError: there is such a line, and ``settings.strict``.
    """
    wanted = Products(settings.tf32, settings.gemm, settings.fuse_qkv, settings.contiguous)
    notes = []
    if wanted.tf32 is not None and (capability is None or capability < _AMPERE):
        if wanted.tf32:
            notes.append(
                f"tf32 needs an NVIDIA GPU of compute capability 8.0 (Ampere) or newer; {_here(capability)}, "
                "so float32 is multiplied in full."
            )
        wanted = replace(wanted, tf32=None)
    if wanted.gemm is not Gemm.AUTO and capability is None:
        notes.append(
            f"gemm {wanted.gemm} is a library for NVIDIA GPUs; {_here(capability)}, with torch's own products."
        )
        wanted = replace(wanted, gemm=Gemm.AUTO)
    if notes and settings.strict:
        raise CapabilityError(f"{notes[0]} Leave the option out, or do not ask for strict.", code="products")
    return wanted, tuple(notes)


def _here(capability: tuple[int, int] | None) -> str:
    return "this runs on the CPU" if capability is None else f"this one has {capability[0]}.{capability[1]}"
