"""Merging: adapters are added to the weights once, in float32, before a weight is rounded or packed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from infinite_talk.errors import CapabilityError, CheckpointError
from infinite_talk.ops.linear import Format, Packed
from infinite_talk.request import Compat
from infinite_talk.weights.builder import Store
from infinite_talk.weights.lora.adapter import Adapter, read_adapter
from infinite_talk.weights.lora.deltas import Scaling, Shape
from infinite_talk.weights.precision import as_stored


class Merging:
    """A precision policy that adds LoRAs to the weights on their way; for ``build(policy=...)``.

    A weight is unpacked to float32, all additions are summed in float32, and the policy inside rounds or packs
    the sum once. One weight is in memory at a time, on the device on which it comes.

    A weight that comes packed and stays as it is cannot take additions: its numbers lie on the format's steps,
    and most of what is smaller than half a step would round away (of a LoRA with 5 % of the weights' size 76 %
    in nf4, 7 % in float8). It is left alone, and ``rest`` has what must be computed beside it. Only a DoRA,
    which has to be merged, is packed again.

    Args:
        adapters: LoRAs with one strength each; those of strength 0 do nothing.
        policy: what weights go to afterwards; ``None`` keeps their form.
        shapes: of all weights of the model, by our names.
        fallback: a format for a DoRA on weights whose own format can be read only.

    Raises:
        CheckpointError: an adapter does not fit; no weight has been read.
    """

    def __init__(
        self,
        adapters: Sequence[Adapter],
        policy: Store | None,
        shapes: Mapping[str, Shape],
        fallback: Format | None = None,
    ) -> None:
        for adapter in adapters:
            adapter.check(shapes)
            assert isinstance(adapter.strength, float), "a strength per step cannot be merged"
        self._adapters = [adapter for adapter in adapters if not adapter.off]
        self._policy = policy
        self._fallback = fallback
        self._notes = [note for adapter in self._adapters for note in adapter.notes(shapes)]
        self._left: list[str] = []
        self._repacked: Counter[tuple[str, str]] = Counter()

    @property
    def rest(self) -> tuple[Adapter, ...]:
        """What has not been merged, for ``attach``; complete when the model is built."""
        parts = (adapter.only(self._left) for adapter in self._adapters)
        return tuple(part for part in parts if part.additions)

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks for people; complete when the model is built."""
        left = (
            f"{len(self._left)} weights stay packed as the file has them, where merging would round a LoRA away; "
            "it is computed beside them.",
        )
        repacked = (
            f"{count} weights with DoRA were unpacked from {old} and packed again as {new}; a part of it is "
            "rounded away."
            for (old, new), count in self._repacked.items()
        )
        return (*self._notes, *(left if self._left else ()), *repacked)

    @torch.no_grad()
    def store(self, name: str, value: Tensor | Packed, dtype: torch.dtype | None) -> Tensor | Packed:
        """The form in which a weight is kept, see ``Policy.store``.

        Raises:
            CheckpointError: an addition is NaN or infinite.
            CapabilityError: the sum does not fit the format.
        """
        adapters = [adapter for adapter in self._adapters if name in adapter.additions]
        if not adapters:
            return self._store(name, value, dtype)
        value = as_stored(name, value)
        kept = self._store(name, value, dtype) if isinstance(value, Packed) else None
        stays = isinstance(value, Packed) and isinstance(kept, Packed) and kept.parts is value.parts
        if kept is not None and stays and not any(adapter.must_merge(name) for adapter in adapters):
            self._left.append(name)
            return kept
        wide = value.unpack(torch.float32) if isinstance(value, Packed) else value.float()
        wide = wide + added(name, wide, adapters)
        if isinstance(kept, Packed) and stays:
            return self._packed_again(name, kept, wide)
        # Without a dtype a weight keeps that of the file; the builder rounds to the given one.
        plain = wide.to(value.dtype) if isinstance(value, Tensor) and dtype is None else wide
        return self._store(name, plain, dtype)

    def _store(self, name: str, value: Tensor | Packed, dtype: torch.dtype | None) -> Tensor | Packed:
        return value if self._policy is None else self._policy.store(name, value, dtype)

    def _packed_again(self, name: str, kept: Packed, wide: Tensor) -> Packed:
        """The sum in the format that the weight has."""
        new = kept.format
        try:
            parts = new.pack(wide)
        except CapabilityError as error:
            if self._fallback is None or error.code == "out_of_range":
                raise CapabilityError(
                    f"The weight {name} with its LoRA cannot be kept as {new.name}: {error.message}",
                    code=error.code,
                ) from error
            new = self._fallback
            parts = new.pack(wide)
        self._repacked[kept.format.name, new.name] += 1
        return Packed(new, kept.shape, parts)


def added(name: str, weight: Tensor, adapters: Sequence[Adapter]) -> Tensor:
    """The sum of what adapters of one strength add to a weight (float32).

    Raises:
        CheckpointError: it is NaN or infinite.
    """
    total = torch.zeros_like(weight)
    for adapter in adapters:
        for addition in adapter.additions.get(name, ()):
            total += adapter.strength_at(0) * addition.delta.of(weight)
    if not bool(torch.isfinite(total).all()):
        raise not_finite(name, adapters)
    return total


def not_finite(name: str, adapters: Sequence[Adapter]) -> CheckpointError:
    """The error for additions that are NaN or infinite."""
    sources = ", ".join(adapter.source for adapter in adapters)
    return CheckpointError(
        f"{sources} would make the weight {name} NaN or infinite: the file is damaged, or its strength is far too "
        "large. Download it again, or take a smaller strength.",
        code="checkpoint_corrupt",
    )


@torch.no_grad()
def merge_lora(
    parameters: Mapping[str, Tensor],
    adapter: Mapping[str, Tensor],
    scale: float = 1.0,
    *,
    compat: Compat = Compat.FIXED,
    source: str = "the LoRA",
) -> tuple[str, ...]:
    """Merge an adapter into ``parameters`` in place; sums are float32 and rounded once.

    Args:
        parameters: by name, e.g. ``dict(model.named_parameters())``; dequantised if they were quantised.
        adapter: the tensors of the adapter's file.
        scale: strength chosen by the user.
        compat: the published InfiniteTalk program ignores ``alpha`` and ``lora_A/lora_B``; ``OFFICIAL`` does too.

    Returns:
        The names of the changed parameters.

    Raises:
        CheckpointError: a key or shape of the adapter fits no parameter, or a sum is NaN or infinite; nothing
            has been changed.
    """
    opened = read_adapter(
        adapter, source=source, strength=float(scale), scaling=Scaling(ignored=compat is Compat.OFFICIAL)
    )
    opened.check({name: tuple(parameter.shape) for name, parameter in parameters.items()})
    for name in opened.touches:
        added(name, parameters[name].float(), [opened])  # all that can go wrong, before anything is written
    for name in opened.touches:
        wide = parameters[name].float()
        parameters[name].copy_(wide + added(name, wide, [opened]))
    return opened.touches
