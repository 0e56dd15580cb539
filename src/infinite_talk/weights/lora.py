"""LoRA adapters, merged into the weights of a model: ``W += scale * alpha / rank * (up @ down)``.

Accepted are the usual spellings: ``lora_down/lora_up`` and ``lora_A/lora_B`` pairs with or without ``alpha``,
plain differences of weights, biases and modulations (``diff``, ``diff_b``, ``diff_m``), with the prefixes of
the programs that write them. A key that fits nothing is an error, and then no weight has been touched.

The published InfiniteTalk program ignores ``alpha`` and ``lora_A/lora_B``; ``Compat.OFFICIAL`` does the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from infinite_talk.errors import CheckpointError
from infinite_talk.request import Compat
from infinite_talk.weights.builder import listed

_PREFIXES = (
    "base_model.model.",
    "model.diffusion_model.",
    "diffusion_model.",
    "diffusion.model.",
    "transformer.",
    "pipe.dit.",
)
_FLAT_PREFIXES = ("lora_unet__", "lora_unet_")  # followed by the module's name with _ for .

# How a key ends -> what it holds.
_ENDINGS = {
    ".lora_down.weight": "down",
    ".lora_up.weight": "up",
    ".lora_A.weight": "a",
    ".lora_B.weight": "b",
    ".lora_A.default.weight": "a",
    ".lora_B.default.weight": "b",
    ".alpha": "alpha",
    ".diff": "diff",
    ".diff_b": "diff_b",
    ".diff_m": "diff_m",
}


@dataclass(slots=True)
class _Parts:
    """All tensors of an adapter that concern one module."""

    tensors: dict[str, Tensor] = field(default_factory=dict)

    def pair(self, compat: Compat) -> tuple[Tensor, Tensor] | None:
        """``(up, down)`` if the module has a low-rank update."""
        names = [("up", "down")] if compat is Compat.OFFICIAL else [("up", "down"), ("b", "a")]
        for up, down in names:
            if up in self.tensors and down in self.tensors:
                return self.tensors[up], self.tensors[down]
        return None

    def factor(self, rank: int, compat: Compat) -> float:
        if compat is Compat.OFFICIAL or "alpha" not in self.tensors:
            return 1.0
        return float(self.tensors["alpha"]) / rank

    @property
    def whole(self) -> bool:
        """No half of a pair without the other, and something to add."""
        there = self.tensors.keys()
        halves = ("up" in there) == ("down" in there) and ("a" in there) == ("b" in there)
        return halves and bool(there - {"alpha"})


@dataclass(frozen=True, slots=True)
class _Update:
    """One addition to one parameter."""

    name: str
    parts: tuple[Tensor, ...]  # (difference,) or (up, down)
    factor: float

    def fits(self, parameter: Tensor) -> bool:
        if len(self.parts) == 1:
            return self.parts[0].shape == parameter.shape
        up, down = self.parts  # of a convolution, both have its kernel or ones behind the two axes
        rows, columns = parameter.shape[0], parameter[0].numel()
        inner, outer = up.flatten(1).shape[1], down.flatten(1).shape
        return parameter.dim() > 1 and (up.shape[0], inner, outer[1]) == (rows, outer[0], columns)

    def describe(self, parameters: Mapping[str, Tensor]) -> str:
        shapes = " @ ".join(str(tuple(part.shape)) for part in self.parts)
        return f"{self.name}: {shapes} into {tuple(parameters[self.name].shape)}"

    def delta(self, like: Tensor) -> Tensor:
        """The addition in float32, shaped and placed as the parameter."""
        parts = [part.to(like.device, torch.float32) for part in self.parts]
        whole = parts[0] if len(parts) == 1 else parts[0].flatten(1) @ parts[1].flatten(1)
        return whole.reshape(like.shape) * self.factor


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

    Returns:
        The names of the changed parameters.

    Raises:
        CheckpointError: a key or shape of the adapter fits no parameter; nothing has been changed.
    """
    updates = _updates(parameters, adapter, compat, source)
    wrong = [update.describe(parameters) for update in updates if not update.fits(parameters[update.name])]
    if wrong:
        raise CheckpointError(
            f"{source} does not fit this model: {listed('updates of another shape', wrong)}. "
            "It was made for a model of another size.",
            code="lora_mismatch",
        )
    for update in updates:
        target = parameters[update.name]
        target.copy_(target.float() + scale * update.delta(target))
    return tuple(dict.fromkeys(update.name for update in updates))


def _updates(
    parameters: Mapping[str, Tensor], adapter: Mapping[str, Tensor], compat: Compat, source: str
) -> list[_Update]:
    """All additions of an adapter; every key must be understood and have its parameter."""
    modules, unknown = _grouped(adapter, parameters)
    updates: list[_Update] = []
    for module, parts in modules.items():
        own = _updates_of(module, parts, parameters, compat)
        if parts.whole and all(update.name in parameters for update in own):
            updates.extend(own)
        else:
            unknown.extend(f"{module}.{kind}" for kind in parts.tensors)
    if unknown:
        raise CheckpointError(
            f"{source} does not fit this model: {listed('keys without a target', unknown)}. "
            "It was made for another model or written in a form that is not supported.",
            code="lora_mismatch",
        )
    if not updates:
        raise CheckpointError(
            f"{source} holds no update of any weight; is it a LoRA file?", code="lora_mismatch"
        )
    return updates


def _updates_of(
    module: str, parts: _Parts, parameters: Mapping[str, Tensor], compat: Compat
) -> list[_Update]:
    """The additions for one module, named by parameter whether or not that exists."""
    # A bare parameter such as a modulation is its own "module".
    weight = module if module in parameters else f"{module}.weight"
    updates = []
    if pair := parts.pair(compat):
        updates.append(_Update(weight, pair, parts.factor(pair[1].shape[0], compat)))
    for kind, name in (("diff", weight), ("diff_b", f"{module}.bias"), ("diff_m", f"{module}.modulation")):
        if kind in parts.tensors:
            updates.append(_Update(name, (parts.tensors[kind],), 1.0))
    return updates


def _grouped(
    adapter: Mapping[str, Tensor], parameters: Mapping[str, Tensor]
) -> tuple[dict[str, _Parts], list[str]]:
    """Tensors by module and kind, and the keys that end in none of the known ways."""
    flat = {
        name.removesuffix(".weight").replace(".", "_"): name.removesuffix(".weight") for name in parameters
    }
    modules: dict[str, _Parts] = {}
    unknown = []
    for key in adapter:
        ending = next((e for e in _ENDINGS if key.endswith(e)), None)
        if ending is None:
            unknown.append(key)
            continue
        module = _module_name(key.removesuffix(ending), flat)
        modules.setdefault(module, _Parts()).tensors[_ENDINGS[ending]] = adapter[key]
    return modules, unknown


def _module_name(name: str, flat: Mapping[str, str]) -> str:
    for prefix in _FLAT_PREFIXES:
        if name.startswith(prefix) and (module := flat.get(name.removeprefix(prefix))):
            return module
    for prefix in _PREFIXES:  # wrappers nest, so each is tried once
        name = name.removeprefix(prefix)
    return name
