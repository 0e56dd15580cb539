"""Precision policies: which weights of the transformer are packed, in which format, and on what machine.

The formats are our own small values (``ops/linear``) rather than tensor classes of a library: a weight is then
a few plain tensors, which can be read strictly, streamed between host and device, and given a LoRA.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from infinite_talk.errors import CapabilityError, InfiniteTalkError, UsageError
from infinite_talk.ops.linear import Format, Packed
from infinite_talk.ops.linear.fast8 import (
    FP8_E4M3FN_FAST,
    FP8_E5M2_FAST,
    INT8_FAST,
    PLAIN_E4M3FN_FAST,
    PLAIN_E5M2_FAST,
)
from infinite_talk.ops.linear.float8 import PLAIN_E4M3FN, PLAIN_E5M2
from infinite_talk.ops.linear.mxfp4 import MXFP4
from infinite_talk.ops.linear.nf4 import NF4
from infinite_talk.ops.linear.nvfp4 import NVFP4, NVFP4_FAST
from infinite_talk.ops.linear.scaled import FP8_E4M3FN, FP8_E5M2, INT8, Scaled
from infinite_talk.settings import Quantization
from infinite_talk.weights.reader import check_finite

Capability = tuple[int, int]
"""Compute capability of an NVIDIA GPU, e.g. ``(9, 0)`` for Hopper."""

KEPT: Mapping[str, str] = {
    "patch_embedding": "all that follows sees the rounding of what first meets the latent",
    "time_embedding": "one vector steers every block; the model was trained with float32 here",
    "time_projection": "one vector steers every block; the model was trained with float32 here",
    "text_embedding": "runs once per window and feeds every block: nothing to gain, much to lose",
    "img_emb": "runs once per window and feeds every block: nothing to gain, much to lose",
    "audio_proj": "runs once per window and feeds every block; the lips follow it",
    "head": "its rounding goes straight into the velocity",
    "modulation": "multiplies whole channels of the stream",
    "norm": "multiplies whole channels of the stream",
    "bias": "a vector: nothing to gain",
}
"""What stays in the base precision, with the reason: modules by their first name, tensors by their last."""

_PLAIN = {torch.float8_e4m3fn: PLAIN_E4M3FN, torch.float8_e5m2: PLAIN_E5M2}
_WIDER = (torch.bfloat16, torch.float32, torch.float64)  # than float16


@dataclass(frozen=True, slots=True)
class Hardware:
    """What multiplies in a narrow format, and which policy has the same weights and runs anywhere."""

    gpu: Capability
    says: str
    instead: Quantization
    cpu: bool = False  # whether it runs there too

    def includes(self, capability: Capability | None) -> bool:
        """Whether a GPU of this capability (``None``: the CPU) is such hardware."""
        return self.cpu if capability is None else capability >= self.gpu


@dataclass(frozen=True, slots=True)
class Policy:
    """How the weights of a transformer are kept and multiplied; one value for each name that people know."""

    name: Quantization
    format: Format | None  # None: weights stay in the format of the file
    bits: float | None = (
        None  # of a weight as wide as the published model's, scales included; None: the file's
    )
    needs: Hardware | None = None  # None: runs on everything that the base precision runs on

    def store(self, name: str, value: Tensor | Packed, dtype: torch.dtype | None) -> Tensor | Packed:
        """The form in which one weight is kept.

        A plain weight of a linear layer inside a block is packed, whatever its dtype. A packed one stays as it
        is when the parts are the same (a file of scaled float8 under either scaled policy); otherwise it is
        unpacked in float32 and packed again, which adds the second format's rounding to the first's. What is
        in ``KEPT`` is unpacked. Without a format everything stays as the file has it.

        Args:
            name: our name of the weight.
            dtype: base precision, of what is unpacked.

        Raises:
            CheckpointError: a weight is NaN or infinite.
            CapabilityError: a weight does not fit a format without scales, or float16 as the base precision.
        """
        value = as_stored(name, value)
        check_range(name, value, dtype)
        if self.format is None:
            return value
        if not is_packed(name, value.shape):
            return value.unpack(dtype or torch.float32) if isinstance(value, Packed) else value
        if isinstance(value, Packed):
            if same_parts(value.format, self.format):
                return Packed(self.format, value.shape, value.parts)
            value = value.unpack(torch.float32)
        try:
            parts = self.format.pack(value)
        except InfiniteTalkError as error:
            raise type(error)(
                f"The weight {name} cannot be kept as {self.name}: {error.message}", code=error.code
            ) from error
        return Packed(self.format, (value.shape[0], value.shape[1]), parts)


def _fast8(name: Quantization, format: Format, instead: Quantization) -> Policy:  # noqa: A002
    says = "a GPU that multiplies float8 (compute capability 8.9: Ada, Hopper or newer)"
    return Policy(name, format, 8, Hardware((8, 9), says, instead))


_INT8_HARDWARE = Hardware(
    (7, 5),
    "a CPU, or a GPU that multiplies int8 (compute capability 7.5: Turing or newer)",
    Quantization.INT8,
    cpu=True,
)
_NVFP4_HARDWARE = Hardware(
    (10, 0),
    "a GPU that multiplies NVFP4 (compute capability 10: Blackwell or newer)",
    Quantization.FP4_SCALED,
)
POLICIES: Mapping[Quantization, Policy] = {
    policy.name: policy
    for policy in (
        Policy(Quantization.DISABLED, None),
        Policy(Quantization.FP8_E4M3FN, PLAIN_E4M3FN, 8),
        _fast8(Quantization.FP8_E4M3FN_FAST, PLAIN_E4M3FN_FAST, Quantization.FP8_E4M3FN),
        Policy(Quantization.FP8_E4M3FN_SCALED, FP8_E4M3FN, 8),
        _fast8(Quantization.FP8_E4M3FN_SCALED_FAST, FP8_E4M3FN_FAST, Quantization.FP8_E4M3FN_SCALED),
        Policy(Quantization.FP8_E5M2, PLAIN_E5M2, 8),
        _fast8(Quantization.FP8_E5M2_FAST, PLAIN_E5M2_FAST, Quantization.FP8_E5M2),
        Policy(Quantization.FP8_E5M2_SCALED, FP8_E5M2, 8),
        _fast8(Quantization.FP8_E5M2_SCALED_FAST, FP8_E5M2_FAST, Quantization.FP8_E5M2_SCALED),
        Policy(Quantization.INT8, INT8, 8),
        Policy(Quantization.INT8_FAST, INT8_FAST, 8, _INT8_HARDWARE),
        Policy(Quantization.NF4, NF4, 4.5),
        Policy(Quantization.FP4_EXPERIMENTAL, MXFP4, 4.25),
        Policy(Quantization.FP4_SCALED, NVFP4, 4.5),
        Policy(Quantization.FP4_SCALED_FAST, NVFP4_FAST, 4.5, _NVFP4_HARDWARE),
        Policy(Quantization.GGUF, None),
    )
}
FORMATS: Mapping[Quantization, Format | None] = {name: policy.format for name, policy in POLICIES.items()}


def check_range(name: str, value: Tensor | Packed, dtype: torch.dtype | None) -> None:
    """Refuse a weight that is NaN or infinite, or that would become infinite in the base precision.

    Raises:
        CheckpointError: it is NaN or infinite.
        CapabilityError: it is beyond float16, which is the base precision.
    """
    check_finite(name, value)
    if dtype is not torch.float16 or isinstance(value, Packed) or value.dtype not in _WIDER:
        return
    limit, (low, high) = torch.finfo(dtype).max, torch.stack(torch.aminmax(value)).tolist()
    if max(-low, high) > limit:
        raise CapabilityError(
            f"The weight {name} reaches {max(-low, high):g}, and fp16 ends at {limit:g}. Choose the precision "
            "bf16, which has no such limit.",
            code="out_of_range",
        )


def is_packed(name: str, shape: tuple[int, ...]) -> bool:
    """Whether policies pack this weight: a linear layer inside a block, and nothing of ``KEPT``."""
    return name.startswith("blocks.") and name.endswith(".weight") and len(shape) == 2


def why_kept(name: str) -> str | None:
    """The reason of ``KEPT`` for a weight, or ``None`` if policies pack it."""
    parts = name.split(".")
    if parts[0] in KEPT:
        return KEPT[parts[0]]
    if any(part.startswith("norm") for part in parts):
        return KEPT["norm"]
    return KEPT.get(parts[-1])


def as_stored(name: str, value: Tensor | Packed) -> Tensor | Packed:
    """A plain float8 tensor of a linear layer in a block is a packed weight without a scale."""
    if isinstance(value, Tensor) and value.dtype in _PLAIN and is_packed(name, value.shape):
        return Packed(_PLAIN[value.dtype], (value.shape[0], value.shape[1]), {"data": value})
    return value


@dataclass(frozen=True, slots=True)
class AsStored:
    """For the encoders and the codec, which no policy packs: each weight as the file has it, and looked at."""

    def store(self, name: str, value: Tensor | Packed, dtype: torch.dtype | None) -> Tensor | Packed:
        """Plain float8 matrices stay in 8 bits, as packed weights without a scale.

        Raises:
            CheckpointError: a weight is NaN or infinite.
            CapabilityError: a weight does not fit float16.
        """
        if isinstance(value, Tensor) and value.dtype in _PLAIN and value.dim() == 2:
            value = Packed(_PLAIN[value.dtype], (value.shape[0], value.shape[1]), {"data": value})
        check_range(name, value, dtype)
        return value


@dataclass(frozen=True, slots=True)
class EncoderFloat8:
    """For a text encoder that is to take half the memory: its matrices in plain 8-bit floats, the rest as stored."""

    def store(self, name: str, value: Tensor | Packed, dtype: torch.dtype | None) -> Tensor | Packed:
        """Tables of embeddings and biases of positions stay plain: they are looked up, not multiplied.

        Raises:
            CheckpointError: a weight is NaN or infinite.
            CapabilityError: a weight does not fit.
        """
        value = AsStored().store(name, value, dtype)
        table = name.endswith(
            ("embed_tokens.weight", "relative_attention_bias.weight", "pos_embedding.weight")
        )
        if isinstance(value, Packed) or value.dim() != 2 or table or not name.endswith(".weight"):
            return value
        return Packed(PLAIN_E4M3FN, (value.shape[0], value.shape[1]), PLAIN_E4M3FN.pack(value))


ENCODER_FLOAT8 = EncoderFloat8()


def same_parts(one: Format, other: Format) -> bool:
    """Whether two formats have the same parts with the same meaning and differ in the product only."""
    first, second = (getattr(kind, "stored", kind) for kind in (one, other))
    if isinstance(first, Scaled) and isinstance(second, Scaled):
        return first.dtype == second.dtype  # files have scales by row or by tensor, under several names
    return bool(first == second)


def policy_for(
    quantization: Quantization,
    capability: Capability | None,
    *,
    strict: bool = False,
    gguf: bool | None = None,
) -> tuple[Policy, str | None]:
    """What runs for what was asked, and one line if that is something else.

    Args:
        capability: of the GPU (``capability_of``), ``None`` for the CPU.
        strict: refuse instead of running something else.
        gguf: whether the transformer's weights come from a GGUF file; ``None``: not known.

    Raises:
        UsageError: ``gguf`` was asked for a file that is none.
        CapabilityError: ``strict``, and the machine cannot multiply in the format.
    """
    if quantization is Quantization.GGUF and gguf is False:
        raise UsageError(
            "The precision gguf keeps the weights of a GGUF file, and this model is none. Choose a .gguf file "
            "as the transformer, or another precision: nf4 and fp4_scaled are about as small."
        )
    note = None
    if gguf and quantization not in (Quantization.DISABLED, Quantization.GGUF):
        note = f"The GGUF weights are unpacked and packed again as {quantization}, which rounds them twice."
    policy = POLICIES[quantization]
    need = policy.needs
    if need is None or need.includes(capability):
        return policy, note
    here = "this runs on the CPU" if capability is None else f"this one has {capability[0]}.{capability[1]}"
    if strict:
        raise CapabilityError(
            f"{quantization} needs {need.says}; {here}. Choose {need.instead}, which has the same weights."
        )
    lesser = f"{quantization} needs {need.says}; {here}, so {need.instead} runs: the same weights, slower."
    return POLICIES[need.instead], f"{lesser} {note}" if note else lesser


def capability_of(device: torch.device) -> Capability | None:
    """Compute capability of a CUDA device, ``None`` for any other."""
    return torch.cuda.get_device_capability(device) if device.type == "cuda" else None
