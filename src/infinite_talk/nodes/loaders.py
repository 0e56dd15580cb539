"""Loaders of transformer and codec: names and choices become handles. Headers are read here, weights at their use."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from infinite_talk.device import choose_device
from infinite_talk.errors import CapabilityError, CheckpointError
from infinite_talk.nodes.attention import pattern_of
from infinite_talk.nodes.declare import (
    CATEGORY,
    DEVICES,
    Inputs,
    checked,
    choice,
    flag,
    link,
)
from infinite_talk.nodes.handles import (
    Loadable,
    SpeechBranch,
    Vae,
    WanModel,
    say,
)
from infinite_talk.nodes.host import EMBEDDED_NAME, file_names, host
from infinite_talk.nodes.loras import loras_of
from infinite_talk.nodes.machine import compilation_of, memory_of
from infinite_talk.nodes.opening import (
    attention_of,
    defaults_of_bundle,
    is_embedded,
    loadable,
    open_named,
    precision_of,
    quantization_of,
    small_dtype,
)
from infinite_talk.ops.accumulation import why_not_float16_sums
from infinite_talk.settings import Attention, Quantization
from infinite_talk.weights.checkpoint import Checkpoint, Part, combine, whole

QUANTIZATIONS = (
    *("disabled", "fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e4m3fn_scaled", "fp8_e4m3fn_scaled_fast"),
    *("fp8_e5m2", "fp8_e5m2_fast", "fp8_e5m2_scaled", "fp8_e5m2_scaled_fast"),
)
ATTENTIONS = (
    *("sdpa", "flash_attn_2", "flash_attn_3", "sageattn", "sageattn_3", "radial_sage_attention"),
    *("sageattn_compiled", "sageattn_ultravico", "comfy"),
)
MORE_QUANTIZATIONS = tuple(one.value for one in Quantization if one.value not in QUANTIZATIONS)
MORE_ATTENTIONS = tuple(one.value for one in Attention if one.value not in ATTENTIONS)
"""Those that this program has and the pack has not, behind the pack's."""


class WanVideoModelLoader:
    """A Wan2.1 transformer with the speech branch of InfiniteTalk or MultiTalk, and how it is to run."""

    RETURN_TYPES: ClassVar = ("WANVIDEOMODEL",)
    RETURN_NAMES: ClassVar = ("model",)
    FUNCTION = "loadmodel"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802 - ComfyUI's name
        return {
            "required": {
                "model": choice(file_names("diffusion_models")),
                "base_precision": choice(("fp32", "bf16", "fp16", "fp16_fast"), "bf16"),
                "quantization": choice((*QUANTIZATIONS, *MORE_QUANTIZATIONS), "disabled"),
                "load_device": choice(DEVICES, "offload_device"),
            },
            "optional": {
                "attention_mode": choice((*ATTENTIONS, *MORE_ATTENTIONS), "sdpa"),
                "compile_args": link("WANCOMPILEARGS"),
                "block_swap_args": link("BLOCKSWAPARGS"),
                "lora": link("WANVIDLORA", default=None),
                "vram_management_args": link("VRAM_MANAGEMENTARGS", default=None),
                "extra_model": link("VACEPATH", default=None),
                "fantasytalking_model": link("FANTASYTALKINGMODEL", default=None),
                "multitalk_model": link("MULTITALKMODEL", default=None),
                "fantasyportrait_model": link("FANTASYPORTRAITMODEL", default=None),
                "rms_norm_function": choice(("default", "pytorch"), "default"),
            },
        }

    @checked()
    def loadmodel(
        self,
        model: str,
        base_precision: str = "bf16",
        load_device: str = "offload_device",  # noqa: ARG002 - the memory planner decides
        quantization: str = "disabled",
        compile_args: dict[str, Any] | None = None,
        attention_mode: str = "sdpa",
        block_swap_args: dict[str, Any] | None = None,
        lora: list[dict[str, Any]] | None = None,
        vram_management_args: dict[str, Any] | None = None,
        extra_model: list[dict[str, Any]] | None = None,
        fantasytalking_model: object = None,
        multitalk_model: SpeechBranch | None = None,
        fantasyportrait_model: object = None,
        rms_norm_function: str = "default",  # noqa: ARG002 - there is one, and it is exact
    ) -> tuple[WanModel]:
        """Open the files and check that they fit; weights are read when a sampler needs them.

        Raises:
            CheckpointError: a file is missing, damaged or does not fit; there is no speech branch.
            CapabilityError: this machine cannot run what was chosen, and nothing stands in for it.
            UsageError: choices contradict each other.
        """
        if extra_model:
            raise CapabilityError(
                f"The extra model {extra_model[0].get('path')} is a module of VACE or another family, which this "
                "program does not run. Leave extra_model unconnected."
            )
        base, by = host().settings, host()
        device = choose_device(base)
        if (fast := base_precision == "fp16_fast") and (reason := why_not_float16_sums(device)):
            say(f"fp16_fast runs as fp16 does: {reason}.")
        opened, kind = _transformer(model, multitalk_model)
        settings = replace(
            base,
            precision=precision_of(base_precision, device, strict=by.settings.strict),
            quantization=quantization_of(quantization),
            attention=attention_of(attention_mode),
            loras=(),
            memory=memory_of(opened, block_swap_args, vram_management_args, base.memory),
        )
        pattern = pattern_of(attention_mode)
        handle = WanModel(
            opened=opened,
            options=() if pattern is None else (pattern,),
            kind=kind,
            settings=settings,
            defaults=defaults_of_bundle(Part.TRANSFORMER, model),
            float16_sums=fast,
            compilation=compilation_of(compile_args, device),
            fantasy_talking=fantasytalking_model,
            fantasy_portrait=fantasyportrait_model,
        )
        return (handle.with_loras(loras_of(lora)) if lora else handle,)


class MultiTalkModelLoader:
    """The speech branch of InfiniteTalk or MultiTalk, where it is a file of its own."""

    RETURN_TYPES: ClassVar = ("MULTITALKMODEL",)
    RETURN_NAMES: ClassVar = ("model",)
    FUNCTION = "loadmodel"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {"required": {"model": choice(file_names("diffusion_models"))}}

    @checked()
    def loadmodel(self, model: str) -> tuple[SpeechBranch]:
        """Open it; its weights are read with the transformer's.

        Raises:
            CheckpointError: it is missing, damaged, or no speech branch.
        """
        if is_embedded(model):
            return (SpeechBranch(None, "InfiniteTalk"),)
        opened = open_named(Part.ADAPTER, model)
        return (
            SpeechBranch(opened, "InfiniteTalk" if "infinite" in Path(model).name.lower() else "MultiTalk"),
        )


class WanVideoVAELoader:
    """The video codec."""

    RETURN_TYPES: ClassVar = ("WANVAE",)
    RETURN_NAMES: ClassVar = ("vae",)
    FUNCTION = "loadmodel"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {
            "required": {"model_name": choice(file_names("vae"))},
            "optional": {
                "precision": choice(("fp16", "fp32", "bf16"), "bf16"),
                "compile_args": link("WANCOMPILEARGS"),
                "use_cpu_cache": flag(False),
                "verbose": flag(False),
            },
        }

    @checked()
    def loadmodel(
        self,
        model_name: str,
        precision: str = "bf16",
        compile_args: dict[str, Any] | None = None,
        use_cpu_cache: bool = False,
        verbose: bool = False,
    ) -> tuple[Vae]:
        """Open it.

        Raises:
            CheckpointError: it is missing, damaged, or no codec of Wan2.1.
        """
        if compile_args is not None:
            say("The codec is not compiled: its steps have kernels of their own on GPUs.")
        if use_cpu_cache:
            say(
                "use_cpu_cache has no effect: the codec keeps a few frames of each layer, and works in pieces."
            )
        opened, device = open_named(Part.VAE, model_name), choose_device(host().settings)
        vae = Vae(loadable(opened, small_dtype(opened, precision, device)))
        if verbose:
            say(f"VAE: {_said(vae.exact)}")
        return (vae,)


class WanVideoTinyVAELoader:
    """A tiny decoder, for previews; it cannot encode."""

    RETURN_TYPES: ClassVar = ("WANVAE",)
    RETURN_NAMES: ClassVar = ("vae",)
    FUNCTION = "loadmodel"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {
            "required": {"model_name": choice(file_names("vae_approx"))},
            "optional": {
                "precision": choice(("fp16", "fp32", "bf16"), "fp16"),
                "parallel": flag(False),
            },
        }

    @checked()
    def loadmodel(self, model_name: str, precision: str = "fp16", parallel: bool = False) -> tuple[Vae]:
        """Open it; the embedded model has none, so that its codec stands in.

        Raises:
            CheckpointError: it is missing, damaged, or no tiny decoder.
        """
        if is_embedded(model_name):
            say("The embedded model has no tiny decoder; its codec, which is small, decodes.")
            return WanVideoVAELoader().loadmodel(EMBEDDED_NAME, "fp32")
        if parallel:
            say("parallel has no effect: frames are decoded in pieces that fit, with the same numbers.")
        opened, device = open_named(Part.TINY_VAE, model_name), choose_device(host().settings)
        return (Vae(tiny=loadable(opened, small_dtype(opened, precision, device))),)


def _transformer(
    name: str, branch: SpeechBranch | None
) -> tuple[Checkpoint, Literal["InfiniteTalk", "MultiTalk"]]:
    """The transformer with its speech branch, and whose that is."""
    opened = open_named(Part.TRANSFORMER, name)
    if opened.dialect == "bundle":
        if branch is not None and branch.opened is not None:
            raise CheckpointError(
                f"{opened.title} has its own speech branch, and {branch.opened.title} does not fit it. Choose "
                "'embedded' for both, or files for both.",
                code="checkpoint_mismatch",
            )
        return opened, "InfiniteTalk"
    if branch is not None and branch.opened is not None:
        return combine(opened, branch.opened), branch.kind
    kind: Literal["InfiniteTalk", "MultiTalk"] = (
        "MultiTalk" if "multitalk" in name.lower() else "InfiniteTalk"
    )
    return whole(opened), kind


def _said(one: Loadable[Any] | None) -> str:
    assert one is not None
    dtype = str(one.dtype).removeprefix("torch.")
    return f"{one.title}, {dtype}, on {one.device.type}, latents of {one.opened.config.z_dim} channels"
