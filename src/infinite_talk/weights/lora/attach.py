"""``attach``: adapters on a transformer that is there, computed at run time beside its weights.

Linear layers of blocks, plain or packed, get low-rank terms beside them and stay as they are. The other
parameters (norms, biases, modulations, embeddings, head) are plain and small: a constant strength is added to
them once, a strength per step each time they are used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from infinite_talk.errors import UsageError
from infinite_talk.models.dit import WanTransformer
from infinite_talk.ops.linear import PackedLinear
from infinite_talk.ops.linear.lora import Added, Columns, LoRALinear, Strengths, Terms
from infinite_talk.weights.lora.adapter import Adapter
from infinite_talk.weights.lora.deltas import Decomposed, LowRank, LowRankPair
from infinite_talk.weights.lora.merge import added, not_finite
from infinite_talk.weights.precision import is_packed

Numbered = Sequence[tuple[int, Adapter]]
"""Adapters with their numbers in ``Strengths``."""


@torch.no_grad()
def attach(transformer: WanTransformer, adapters: Sequence[Adapter]) -> Strengths:
    """Put adapters on a transformer, once, before its blocks are streamed or compiled.

    Their tensors go to the device of the weight that they belong to, in the transformer's dtype; they become
    buffers of the layer. Adapters of strength 0 are left out.

    Returns:
        The strengths, which are a part of the transformer too; call ``at_step`` before each denoising step
        if they vary.

    Raises:
        CheckpointError: an adapter does not fit, or is NaN or infinite.
        UsageError: an adapter can be merged only.
        In each case the transformer is as it was.
    """
    assert not any(isinstance(m, Strengths) for m in transformer.modules()), (
        "a transformer gets adapters once"
    )
    shapes = shapes_of_parameters(transformer)
    for adapter in adapters:
        adapter.check(shapes)
    numbered = list(enumerate(adapter for adapter in adapters if not adapter.off))
    strengths = Strengths([adapter.strength for _, adapter in numbered])
    plans = [
        _plan(transformer, name, numbered, strengths)
        for name in dict.fromkeys(name for _, adapter in numbered for name in adapter.touches)
    ]
    for plan in sorted(plans, key=lambda plan: plan.beside):  # a wrapped layer has other names
        _carry_out(transformer, plan)
    transformer.add_module("lora", strengths)
    return strengths


def shapes_of_parameters(transformer: nn.Module) -> Mapping[str, tuple[int, ...]]:
    """Shapes of all parameters by their names in checkpoints, packed weights included."""
    shapes = {name: tuple(parameter.shape) for name, parameter in transformer.named_parameters()}
    for name, module in transformer.named_modules():
        if isinstance(module, PackedLinear):
            shapes[f"{name}.weight"] = (module.out_features, module.in_features)
    return shapes


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """What happens to one parameter."""

    name: str
    terms: Terms | None = None
    beside: bool = False  # terms beside a linear layer, or in the parameter each time it is used
    value: Tensor | None = None  # the parameter with what is constant


def _plan(transformer: nn.Module, name: str, numbered: Numbered, strengths: Strengths) -> _Plan:
    owner, _, leaf = name.rpartition(".")
    layer = transformer.get_submodule(owner)
    concerned = [(i, adapter) for i, adapter in numbered if name in adapter.additions]
    if leaf == "weight" and isinstance(layer, PackedLinear):
        like = torch.empty(0, device=next(layer.buffers()).device, dtype=layer.dtype)
        shape = (layer.out_features, layer.in_features)
        return _Plan(name, _terms(name, shape, like, concerned, strengths), True)
    parameter = layer.get_parameter(leaf)
    if isinstance(layer, nn.Linear) and is_packed(name, tuple(parameter.shape)):
        return _Plan(name, _terms(name, tuple(parameter.shape), parameter, concerned, strengths), True)
    constant = [adapter for _, adapter in concerned if isinstance(adapter.strength, float)]
    varying = [(i, adapter) for i, adapter in concerned if isinstance(adapter.strength, tuple)]
    wide = parameter.float()
    value = (wide + added(name, wide, constant)).to(parameter.dtype) if constant else None
    terms = _terms(name, tuple(parameter.shape), parameter, varying, strengths) if varying else None
    return _Plan(name, terms, False, value)


def _terms(
    name: str, shape: tuple[int, ...], like: Tensor, numbered: Numbered, strengths: Strengths
) -> Terms:
    """The additions to one weight, on the device and in the dtype of ``like``."""
    pairs: list[tuple[int, LowRankPair]] = []
    whole: list[tuple[int, Tensor]] = []
    for i, adapter in numbered:
        for addition in adapter.additions[name]:
            if isinstance(addition.delta, Decomposed):
                raise UsageError(
                    f"{adapter.source} is a DoRA, which depends on the weights and cannot be computed beside them. "
                    "Merge it: one strength, and merging switched on."
                )
            if isinstance(addition.delta, LowRank) and math.prod(addition.delta.shape or ()) == math.prod(
                shape
            ):
                pairs.append((i, addition.delta.pair(like.device)))
            else:  # differences, other products, and patches of a text-to-video model
                whole.append((i, addition.delta.of(torch.zeros(shape, device=like.device))))
    low_rank: tuple[Tensor, Tensor, Columns] | None = None
    if pairs:
        up = torch.cat([pair.up for _, pair in pairs], dim=1).to(like.dtype)
        down = torch.cat([pair.down for _, pair in pairs]).to(like.dtype)
        low_rank = up, down, tuple((i, pair.factor, pair.down.shape[0]) for i, pair in pairs)
        _check_finite(name, [up, down], numbered)
    wholes: tuple[Tensor, Columns] | None = None
    if whole:
        wholes = torch.stack([t for _, t in whole]).to(like.dtype), tuple((i, 1.0, 1) for i, _ in whole)
        _check_finite(name, [wholes[0]], numbered)
    return Terms(strengths, low_rank, wholes)


def _check_finite(name: str, tensors: Sequence[Tensor], numbered: Numbered) -> None:
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
        raise not_finite(name, [adapter for _, adapter in numbered])


def _carry_out(transformer: nn.Module, plan: _Plan) -> None:
    owner, _, leaf = plan.name.rpartition(".")
    layer = transformer.get_submodule(owner)
    if plan.value is not None:
        layer.get_parameter(leaf).copy_(plan.value)
    if plan.terms is None:
        return
    if plan.beside:
        parent, _, place = owner.rpartition(".")
        setattr(transformer.get_submodule(parent), place, LoRALinear(layer, plan.terms))
    else:
        parametrize.register_parametrization(layer, leaf, Added(plan.terms), unsafe=True)
