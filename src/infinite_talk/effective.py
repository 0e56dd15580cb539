"""``Effective``: what runs for what was asked, with a line for each thing that is something else."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from infinite_talk.device import choose_device, choose_dtype, precision_of
from infinite_talk.ops.attention import Resolved, resolve
from infinite_talk.ops.fused import EAGER, FusedOps, fused_ops
from infinite_talk.ops.products import Products, products_for
from infinite_talk.settings import Precision, Quantization, Settings
from infinite_talk.weights.precision import Policy, capability_of, policy_for


@dataclass(frozen=True, slots=True)
class Effective:
    """The choices of one engine, made before any weight is read."""

    device: torch.device
    precision: Precision  # never AUTO
    dtype: torch.dtype  # the same, as torch calls it
    policy: Policy
    attention: Resolved
    ops: FusedOps
    notes: tuple[str, ...]  # one line for each thing that is not what was asked for
    products: Products

    @property
    def quantization(self) -> Quantization:
        """How the transformer's large matrices are kept and multiplied."""
        return self.policy.name

    @property
    def fused(self) -> bool:
        """Whether the work between the transformer's matrix products is done in fused kernels."""
        return self.ops is not EAGER

    def __str__(self) -> str:
        quantization = "" if self.quantization is Quantization.DISABLED else f"{self.quantization}, "
        products = f", {self.products}" if str(self.products) else ""
        return (
            f"{self.device.type}, {self.precision}, {quantization}attention {self.attention.name}{products}"
        )


def effective(settings: Settings, *, gguf: bool, head_dim: int) -> Effective:
    """Make the choices.

    Args:
        gguf: whether the transformer's weights come from a GGUF file.
        head_dim: of the transformer's attention.

    Raises:
        CapabilityError: this machine cannot run what was asked, and nothing stands in for it or
            ``settings.strict`` forbids that.
        UsageError: ``gguf`` was asked for another kind of file.
    """
    device = choose_device(settings)
    dtype = choose_dtype(settings, device)
    policy, packing_note = policy_for(
        settings.quantization, capability_of(device), strict=settings.strict, gguf=gguf
    )
    attention = resolve(settings.attention, device, dtype, strict=settings.strict, head_dim=head_dim)
    ops, ops_note = fused_ops(device)
    products, more = products_for(settings, capability_of(device))
    attention = replace(attention, kernel=products.inputs_of(attention.kernel))
    notes = tuple(note for note in (packing_note, attention.note, ops_note, *more) if note)
    precision = precision_of(settings, device)
    return Effective(device, precision, dtype, policy, attention, ops, notes, products)
