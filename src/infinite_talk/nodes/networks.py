"""Networks of adapters by the names of their files, and what their nodes have in common."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import nn

from infinite_talk.errors import CapabilityError, CheckpointError, InputError, UsageError
from infinite_talk.nodes.declare import Files
from infinite_talk.nodes.handles import say
from infinite_talk.nodes.host import EMBEDDED_NAME, host, locate
from infinite_talk.nodes.opening import DTYPES

M = TypeVar("M", bound=nn.Module)
PRECISIONS = ("fp32", "bf16", "fp16")
NONE = "none"
"""Stands in a list of files that would be empty."""


@dataclass(frozen=True, slots=True, eq=False)
class AdapterModel(Generic[M]):
    """An adapter that is loaded (WANVIDEOCONTROLNET, FANTASYTALKINGMODEL, FANTASYPORTRAITMODEL)."""

    network: M
    title: str
    """The name of its file."""


def pictures_of(what: str, images: object) -> torch.Tensor:
    """Pictures of the graph ``(F, H, W, 3)`` in 0..1 as ``(F, 3, H, W)``; a fourth channel is dropped.

    Raises:
        InputError: they are none.
    """
    if (
        not isinstance(images, torch.Tensor)
        or images.dim() != 4
        or images.shape[-1] not in (3, 4)
        or not len(images)
    ):
        shape = tuple(images.shape) if isinstance(images, torch.Tensor) else f"a {type(images).__name__}"
        raise InputError(f"{what} is {shape}; expected pictures (frames, height, width, 3) in 0..1.")
    return images[..., :3].permute(0, 3, 1, 2).float().contiguous()


def network_names(kind: str) -> Files:
    """Names of files; there is no embedded adapter, and a list must not be empty."""
    return Files(host().places.names(kind) or [NONE])


def network_path(kind: str, name: str, what: str) -> Path:
    """The file of a name.

    Raises:
        CheckpointError: it is nowhere.
        CapabilityError: the embedded model is meant, which has no adapters.
    """
    if host().embedded or name == EMBEDDED_NAME:
        raise CapabilityError(
            f"The embedded model has no {what}. Choose its file and the full-size model that it was made for, or "
            "leave it out."
        )
    if name == NONE:
        raise CheckpointError(f"There is no file for {what}: put one into {kind}.", code="checkpoint_missing")
    return locate(kind, name)


def network_dtype(precision: str, device: torch.device, name: str) -> torch.dtype:
    """In what a network runs, with a line where that is not what was asked for."""
    if device.type == "cpu" and precision == "fp16":
        say(f"{name} runs in fp32 instead of fp16, which CPUs are slow in.")
        return torch.float32
    return DTYPES[precision]


def need_network(model: object, network: type[nn.Module], what: str, loader: str) -> None:
    """Refuse what is not the handle of such a network.

    Raises:
        UsageError: it is something else.
    """
    if not isinstance(getattr(model, "network", None), network):
        raise UsageError(f"{what} is a {type(model).__name__}; connect {loader} of this pack.")
