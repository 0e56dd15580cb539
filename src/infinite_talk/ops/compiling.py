"""``torch.compile`` for the blocks of a model: what is asked for, whether this machine can, and doing it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import torch
from torch import nn

Function = TypeVar("Function", bound=Callable[..., Any])


def constant(function: Function) -> Function:
    """Say that a function answers the same each time, so that the compiler takes its answer and not its code.

    What ``torch.compiler.assume_constant_result`` does, without its import of the whole compiler: two seconds at
    the start of every program.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


@dataclass(frozen=True, slots=True, kw_only=True)
class Compilation:
    """What ``torch.compile`` is told; the names are its own."""

    backend: str = "inductor"
    fullgraph: bool = False
    mode: str = "default"
    dynamic: bool = False
    cache_size_limit: int = 64
    recompile_limit: int = 128
    static_parameter_shapes: bool = False


def why_not_compiled(device: torch.device) -> str | None:
    """What keeps a device from compiling; ``None``: nothing.

    On a CPU the compiler needs a C++ compiler and takes longer than it saves in a run of few windows.
    """
    if device.type != "cuda":
        return "torch.compile is used on NVIDIA GPUs only; this runs on the CPU"
    try:
        import triton  # noqa: F401  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return "torch.compile needs the package triton"
    return None


def for_moving_weights(asked: Compilation) -> Compilation:
    """The same without recorded CUDA graphs, which need weights that stay where they are: for streamed blocks."""
    if asked.backend == "cudagraphs":
        return replace(asked, backend="inductor", mode="default")
    modes = {"reduce-overhead": "default", "max-autotune": "max-autotune-no-cudagraphs"}
    return replace(asked, mode=modes.get(asked.mode, asked.mode))


def compile_blocks(blocks: Iterable[nn.Module], asked: Compilation) -> None:
    """Compile the forward pass of each block, in place: at its first call with new shapes, block by block.

    Names of parameters stay, and so does the streaming of blocks, which moves their tensors and not their code. The
    compiler's limits belong to the process; they are raised and never lowered.
    """
    config = cast("Any", torch)._dynamo.config  # a lazily imported module without types
    _raise_to(config, ("cache_size_limit", "recompile_limit"), asked.cache_size_limit)
    _raise_to(config, ("accumulated_cache_size_limit", "accumulated_recompile_limit"), asked.recompile_limit)
    config.force_parameter_static_shapes = asked.static_parameter_shapes
    for block in blocks:
        compiled: Callable[..., None] = block.compile
        compiled(
            backend=asked.backend,
            fullgraph=asked.fullgraph,
            dynamic=asked.dynamic,
            **({"mode": asked.mode} if asked.backend == "inductor" else {}),
        )


def _raise_to(config: Any, names: tuple[str, ...], limit: int) -> None:  # noqa: ANN401 - torch's own object
    """Set a limit under the name that this torch has; never below what other code of the process has set."""
    for name in names:
        if hasattr(config, name):
            setattr(config, name, max(limit, getattr(config, name)))
