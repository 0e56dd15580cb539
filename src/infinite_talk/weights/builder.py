"""Strict building: a module without initial weights, then every tensor assigned; none missing, none over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from infinite_talk.errors import CheckpointError
from infinite_talk.ops.linear import Packed, PackedLinear
from infinite_talk.weights.gathering import Gathering, Group
from infinite_talk.weights.loading import arriving
from infinite_talk.weights.reader import check_finite, shapes_of

M = TypeVar("M", bound=nn.Module)


class Store(Protocol):
    """Decides in which form a tensor of a checkpoint is kept; a precision policy."""

    def store(self, name: str, value: Tensor | Packed, dtype: torch.dtype | None) -> Tensor | Packed: ...


def build(
    make: Callable[[], M],
    weights: Mapping[str, Tensor | Packed],
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    source: str = "the checkpoint",
    policy: Store | None = None,
    place: Callable[[str], torch.device | str] | None = None,
    together: Group | None = None,
) -> M:
    """Make a module and give it its weights; it comes back in evaluation mode.

    Parameters take no memory before their tensor arrives, and tensors arrive one by one, so that the peak is
    one copy of the model. To a GPU they are read ahead by a few threads (``loading.py``) and packed there; the
    host's memory then holds some pieces of tensors, and what is placed there. Buffers that no checkpoint holds
    keep the value and dtype of the constructor. A linear layer whose weight arrives packed becomes a
    ``PackedLinear``.

    Args:
        make: builds the module, e.g. ``lambda: WanTransformer(config)``.
        dtype: of the floating-point tensors; ``None`` keeps what is stored.
        source: what to call the weights in an error message.
        policy: packs and unpacks weights on their way; ``None`` leaves them as they come.
        place: the device of a tensor by name, where it is not ``device``.
        together: the submodule with which a weight is gathered in one piece of host memory, for streaming.

    Raises:
        CheckpointError: keys are missing, unexpected or of another shape; a weight is NaN or infinite.
    """
    with _WithoutMemory():
        module = make()
    expected = module.state_dict()
    check(expected, weights, source)
    tables = [name for name, _ in module.named_buffers() if name not in expected]
    device = torch.device(device)
    plain: dict[str, Tensor] = {}
    packed: dict[str, Packed] = {}
    with Gathering(expected, together or (lambda _name: None), device) as gathering:
        for name, value in arriving(weights, expected, device):
            home = device if place is None else place(name)
            kept = _kept(name, value, policy, dtype)
            if isinstance(kept, Packed) and _is_linear(module, name):
                packed[name] = kept.to(home)
            else:
                # What is no linear layer comes whole: a text encoder's embedding would take 4 GB in float32.
                whole = kept.unpack(dtype or torch.float32) if isinstance(kept, Packed) else kept
                plain[name] = _arrive(whole, dtype, home)
            gathering.arrived(name, plain, packed)
    for name, weight in packed.items():
        _pack(module, name, weight, plain, dtype)
    module.load_state_dict(plain, strict=not packed, assign=True)  # packed layers have other names by now
    for name in tables:
        owner, _, leaf = name.rpartition(".")
        setattr(module.get_submodule(owner), leaf, module.get_buffer(name).to(device))
    gathering.hand_over(module)
    return module.eval()


def _kept(
    name: str, value: Tensor | Packed, policy: Store | None, dtype: torch.dtype | None
) -> Tensor | Packed:
    """A weight in the form in which it is kept; policies look for NaN themselves."""
    if policy is None:
        check_finite(name, value)
        return value
    return policy.store(name, value, dtype)


def _is_linear(module: nn.Module, name: str) -> bool:
    owner, _, leaf = name.rpartition(".")
    return leaf == "weight" and isinstance(module.get_submodule(owner), nn.Linear)


def _pack(
    module: nn.Module, name: str, weight: Packed, plain: dict[str, Tensor], dtype: torch.dtype | None
) -> None:
    """Put a packed layer in the place of a linear one."""
    layer = name.rpartition(".")[0]
    parent, _, leaf = layer.rpartition(".")
    bias = plain.pop(f"{layer}.bias", None)
    setattr(module.get_submodule(parent), leaf, PackedLinear(weight, bias, dtype or torch.float32))


def check(expected: Mapping[str, Tensor], found: Mapping[str, Tensor | Packed], source: str) -> None:
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
