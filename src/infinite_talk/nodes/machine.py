"""How a transformer runs on this machine: block swap, memory, torch.compile; and modules that it does not run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch

from infinite_talk.errors import UsageError
from infinite_talk.nodes.declare import (
    CATEGORY,
    Inputs,
    checked,
    choice,
    flag,
    integer,
    known_keys,
    link,
    number,
)
from infinite_talk.nodes.handles import (
    WanModel,
    need_model,
    say,
)
from infinite_talk.nodes.host import file_names
from infinite_talk.ops.compiling import Compilation, why_not_compiled
from infinite_talk.settings import Memory
from infinite_talk.weights.checkpoint import Checkpoint

BLOCK_SWAP = (
    *("blocks_to_swap", "offload_img_emb", "offload_txt_emb", "use_non_blocking", "vace_blocks_to_swap"),
    *("prefetch_blocks", "block_swap_debug"),
)
COMPILE = (
    *("backend", "fullgraph", "mode", "dynamic", "dynamo_cache_size_limit", "dynamo_recompile_limit"),
    *("compile_transformer_blocks_only", "force_parameter_static_shapes", "allow_unmerged_lora_compile"),
)


class WanVideoBlockSwap:
    """How many blocks of the transformer live in host memory."""

    RETURN_TYPES: ClassVar = ("BLOCKSWAPARGS",)
    RETURN_NAMES: ClassVar = ("block_swap_args",)
    FUNCTION = "setargs"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {
            "required": {
                "blocks_to_swap": integer(20, 0, 48, 1),
                "offload_img_emb": flag(False),
                "offload_txt_emb": flag(False),
            },
            "optional": {
                "use_non_blocking": flag(False),
                "vace_blocks_to_swap": integer(0, 0, 15, 1),
                "prefetch_blocks": integer(0, 0, 40, 1),
                "block_swap_debug": flag(False),
            },
        }

    @checked()
    def setargs(
        self,
        blocks_to_swap: int = 20,
        offload_img_emb: bool = False,
        offload_txt_emb: bool = False,
        use_non_blocking: bool = False,
        vace_blocks_to_swap: int = 0,
        prefetch_blocks: int = 0,
        block_swap_debug: bool = False,
    ) -> tuple[dict[str, Any]]:
        """The dictionary of these."""
        values = (blocks_to_swap, offload_img_emb, offload_txt_emb, use_non_blocking, vace_blocks_to_swap)
        return (dict(zip(BLOCK_SWAP, (*values, prefetch_blocks, block_swap_debug), strict=True)),)


class WanVideoSetBlockSwap:
    """Another number of swapped blocks for a model that is there; nothing is read again."""

    RETURN_TYPES: ClassVar = ("WANVIDEOMODEL",)
    RETURN_NAMES: ClassVar = ("model",)
    FUNCTION = "loadmodel"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {
            "required": {"model": link("WANVIDEOMODEL")},
            "optional": {"block_swap_args": link("BLOCKSWAPARGS")},
        }

    @checked()
    def loadmodel(self, model: WanModel, block_swap_args: dict[str, Any] | None = None) -> tuple[WanModel]:
        """The model with these blocks swapped; as it is, without ``block_swap_args``."""
        model = need_model(model)
        if block_swap_args is None:
            return (model,)
        return (model.with_memory(memory_of(model.opened, block_swap_args, None, model.settings.memory)),)


class WanVideoVRAMManagement:
    """Which share of the transformer lives in host memory."""

    RETURN_TYPES: ClassVar = ("VRAM_MANAGEMENTARGS",)
    RETURN_NAMES: ClassVar = ("vram_management_args",)
    FUNCTION = "setargs"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {"required": {"offload_percent": number(1.0, 0.0, 1.0, 0.01)}}

    @checked()
    def setargs(self, offload_percent: float = 1.0) -> tuple[dict[str, Any]]:
        """The dictionary of it."""
        return ({"offload_percent": offload_percent},)


class WanVideoTorchCompileSettings:
    """What ``torch.compile`` is told for the transformer's blocks."""

    RETURN_TYPES: ClassVar = ("WANCOMPILEARGS",)
    RETURN_NAMES: ClassVar = ("torch_compile_args",)
    FUNCTION = "set_args"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        modes = ("default", "max-autotune", "max-autotune-no-cudagraphs", "reduce-overhead")
        return {
            "required": {
                "backend": choice(("inductor", "cudagraphs"), "inductor"),
                "fullgraph": flag(False),
                "mode": choice(modes, "default"),
                "dynamic": flag(False),
                "dynamo_cache_size_limit": integer(64, 0, 1024, 1),
                "compile_transformer_blocks_only": flag(True),
            },
            "optional": {
                "dynamo_recompile_limit": integer(128, 0, 1024, 1),
                "force_parameter_static_shapes": flag(False),
                "allow_unmerged_lora_compile": flag(False),
            },
        }

    @checked()
    def set_args(
        self,
        backend: str = "inductor",
        fullgraph: bool = False,
        mode: str = "default",
        dynamic: bool = False,
        dynamo_cache_size_limit: int = 64,
        compile_transformer_blocks_only: bool = True,
        dynamo_recompile_limit: int = 128,
        force_parameter_static_shapes: bool = True,
        allow_unmerged_lora_compile: bool = False,
    ) -> tuple[dict[str, Any]]:
        """The dictionary of these. ``force_parameter_static_shapes`` is True in Python and False in a graph."""
        limits = (dynamo_cache_size_limit, dynamo_recompile_limit)
        rest = (compile_transformer_blocks_only, force_parameter_static_shapes, allow_unmerged_lora_compile)
        values = (backend, fullgraph, mode, dynamic, *limits, *rest)
        return (dict(zip(COMPILE, values, strict=True)),)


class WanVideoExtraModelSelect:
    """Modules of other families; kept so that workflows load, refused when they are used."""

    RETURN_TYPES: ClassVar = ("VACEPATH",)
    RETURN_NAMES: ClassVar = ("extra_model",)
    FUNCTION = "getmodelpath"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {
            "required": {"extra_model": choice(file_names("diffusion_models"))},
            "optional": {"prev_model": link("VACEPATH", default=None)},
        }

    @checked()
    def getmodelpath(
        self, extra_model: str, prev_model: list[dict[str, Any]] | None = None
    ) -> tuple[list[dict[str, Any]]]:
        """The list of names."""
        return ([*(prev_model or ()), {"path": extra_model}],)


class WanVideoVACEModelSelect:
    """A VACE module; kept so that workflows load, refused when it is used."""

    RETURN_TYPES: ClassVar = ("VACEPATH",)
    RETURN_NAMES: ClassVar = ("extra_model",)
    FUNCTION = "getvacepath"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {"required": {"vace_model": choice(file_names("diffusion_models"))}}

    @checked()
    def getvacepath(self, vace_model: str) -> tuple[list[dict[str, Any]]]:
        """The list of its name."""
        return ([{"path": vace_model}],)


def memory_of(
    opened: Checkpoint,
    swap: dict[str, Any] | None,
    management: dict[str, Any] | None,
    base: Memory,
) -> Memory:
    """What the planner is told; more blocks than there are count as all."""
    if swap is not None and management is not None:
        raise UsageError("block_swap_args and vram_management_args exclude each other; connect one of them.")
    layers = opened.config.num_layers
    if management is not None:
        known_keys("vram_management_args", management, ("offload_percent",))
        return replace(base, blocks_to_swap=round(management["offload_percent"] * layers))
    if swap is None:
        return base
    known_keys("block_swap_args", swap, BLOCK_SWAP)
    asked = int(swap.get("blocks_to_swap", 20))
    if asked > layers:
        say(f"{asked} blocks to swap were asked for; the transformer has {layers}, so all of them are.")
    if swap.get("vace_blocks_to_swap"):
        say("vace_blocks_to_swap has no effect: this program does not run VACE.")
    ahead = int(swap.get("prefetch_blocks", 0))
    return replace(base, blocks_to_swap=min(asked, layers), prefetch_blocks=ahead or None)


def compilation_of(args: dict[str, Any] | None, device: torch.device) -> Compilation | None:
    """What the compiler is told; a line where this machine has none."""
    if args is None:
        return None
    known_keys("compile_args", args, COMPILE)
    if reason := why_not_compiled(device):
        say(f"The blocks run as they are: {reason}.")
    return Compilation(
        backend=args.get("backend", "inductor"),
        fullgraph=args.get("fullgraph", False),
        mode=args.get("mode", "default"),
        dynamic=args.get("dynamic", False),
        cache_size_limit=args.get("dynamo_cache_size_limit", 64),
        recompile_limit=args.get("dynamo_recompile_limit", 128),
        static_parameter_shapes=args.get("force_parameter_static_shapes", True),
    )
