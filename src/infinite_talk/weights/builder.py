"""Strict building: a module without initial weights, then every tensor assigned; none missing, none over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from infinite_talk.errors import CheckpointError
from infinite_talk.weights.reader import shapes_of

M = TypeVar("M", bound=nn.Module)


def build(
    make: Callable[[], M],
    weights: Mapping[str, Tensor],
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    source: str = "the checkpoint",
) -> M:
    """Make a module and give it its weights; it comes back in evaluation mode.

    Parameters take no memory before their tensor arrives, and tensors arrive one by one, so that the peak is
    one copy of the model. Buffers that no checkpoint holds keep the value and dtype of the constructor.

    Args:
        make: builds the module, e.g. ``lambda: WanTransformer(config)``.
        dtype: of the floating-point tensors; ``None`` keeps what is stored.
        source: what to call the weights in an error message.

    Raises:
        CheckpointError: keys are missing, unexpected or of another shape.
    """
    with _WithoutMemory():
        module = make()
    check(module.state_dict(), weights, source)
    arrived = {name: _arrive(weights[name], dtype, device) for name in module.state_dict()}
    module.load_state_dict(arrived, strict=True, assign=True)
    for name, buffer in list(module.named_buffers()):
        if name not in arrived:
            owner, _, leaf = name.rpartition(".")
            setattr(module.get_submodule(owner), leaf, buffer.to(device))
    return module.eval()


def check(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], source: str) -> None:
    """Compare names and shapes of a model's state with those of a checkpoint.

    Raises:
        CheckpointError: they differ; the message counts the differences and names the first five of each.
    """
    shapes = shapes_of(found)
    missing = [name for name in expected if name not in shapes]
    unexpected = [name for name in shapes if name not in expected]
    misshapen = [
        f"{name} {shapes[name]} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in shapes and shapes[name] != tuple(tensor.shape)
    ]
    parts = [
        listed(heading, names)
        for heading, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", misshapen),
        )
        if names
    ]
    if parts:
        raise CheckpointError(
            f"{source} does not fit the model: {'; '.join(parts)}. It belongs to another model or another "
            "configuration; check that the files were published together.",
            code="checkpoint_mismatch",
        )


def listed(heading: str, names: Iterable[str]) -> str:
    """``"7 missing (a, b, c, d, e, ...)"``."""
    names = list(names)
    return f"{len(names)} {heading} ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"


def _arrive(tensor: Tensor, dtype: torch.dtype | None, device: torch.device | str) -> Tensor:
    return tensor.to(device, dtype if tensor.is_floating_point() else None)


class _WithoutMemory(TorchFunctionMode):
    """Inside, ``torch.empty`` gives tensors without memory.

    Layers make their parameters with it. Other factories work as usual, so that tables which a constructor
    computes, and no checkpoint holds, have their values.
    """

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        kwargs = dict(kwargs or {})
        if func is torch.empty:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)
