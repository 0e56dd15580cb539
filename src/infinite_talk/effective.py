"""``Effective``: what runs for what was asked, with a line for each thing that is something else."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import torch

from infinite_talk.device import choose_device, choose_dtype, codec_dtype, precision_of
from infinite_talk.errors import CapabilityError
from infinite_talk.ops.attention import Resolved, resolve
from infinite_talk.ops.compiling import Compilation, why_not_compiled
from infinite_talk.ops.fused import EAGER, FusedOps, fused_ops
from infinite_talk.ops.products import Products, products_for
from infinite_talk.settings import Precision, Quantization, Settings
from infinite_talk.weights.precision import Policy, capability_of, policy_for

_WORDS = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


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
    codec: torch.dtype | None = None  # what was asked for the video codec; None: its own
    compiled: Compilation | None = None

    @property
    def extras(self) -> str:
        """What else numbers depend on: ``"tf32, compiled, codec fp32"``; empty where nothing was asked."""
        said = [str(self.products), "compiled" if self.compiled else ""]
        said.append("" if self.codec is None else f"codec {_WORDS[self.codec]}")
        return ", ".join(word for word in said if word)

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
        extras = f", {self.extras}" if self.extras else ""
        return f"{self.device.type}, {self.precision}, {quantization}attention {self.attention.name}{extras}"


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
    compiled, uncompiled = _compilation(settings, device)
    notes = tuple(note for note in (packing_note, attention.note, ops_note, *more, uncompiled) if note)
    precision = precision_of(settings, device)
    codec = codec_dtype(settings, device)
    return Effective(device, precision, dtype, policy, attention, ops, notes, products, codec, compiled)


def _compilation(settings: Settings, device: torch.device) -> tuple[Compilation | None, str]:
    """What the compiler is told, or a line that says why there is none."""
    asked = settings.compile
    if asked is None:
        return None, ""
    if reason := why_not_compiled(device):
        if settings.strict:
            raise CapabilityError(f"{reason}. Leave compile out, or do not ask for strict.", code="compile")
        return None, f"{reason}, so the blocks run as they are."
    return Compilation(**asdict(asked)), ""
