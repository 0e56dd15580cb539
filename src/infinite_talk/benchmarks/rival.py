"""diffusers' ``WanTransformer3DModel`` of the same size beside ours. It has no speech branch, so it does less."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from infinite_talk.benchmarks.case import Case
from infinite_talk.benchmarks.clock import peak_memory, times_of
from infinite_talk.benchmarks.stand import Prepared
from infinite_talk.errors import CapabilityError
from infinite_talk.memory import Work
from infinite_talk.memory.flops import forward_parts, total
from infinite_talk.models.dit import DiTConfig

WIDE = ("rope", "time_embedder", "scale_shift_table", "norm1", "norm2", "norm3")
"""Parts that diffusers keeps in float32 when it loads the model (``_keep_in_fp32_modules``)."""
BACKEND = "native"
"""Attention of diffusers: ``torch.nn.functional.scaled_dot_product_attention``, its default."""


@dataclass(frozen=True, slots=True)
class Same:
    """What the rival has in common with ours. Holds no model: there may not be room for both."""

    case: Case
    config: DiTConfig
    work: Work
    device: torch.device
    dtype: torch.dtype
    warm_up: float  # seconds

    @classmethod
    def of(cls, prepared: Prepared) -> Same:
        how = prepared.how
        return cls(prepared.case, prepared.config, prepared.work, how.device, how.dtype, prepared.warm_up)


def compared(same: Same, ours: Mapping[str, Any]) -> dict[str, Any]:
    """The rival, and how many times as long it takes as our result ``ours``."""
    rival = measure_diffusers(same)
    seconds = ours["seconds"]["median"]
    for way in rival["ways"].values():
        way["ratio"] = way["seconds"]["median"] / seconds
        way["ratio_per_flop"] = way["ratio"] * ours["flops"]["official"] / rival["flops"]
    return rival


def measure_diffusers(same: Same) -> dict[str, Any]:
    """Times of the eager model and, if asked, of the compiled one.

    Raises:
        CapabilityError: diffusers is not installed.
    """
    version = diffusers_version()
    device, case = same.device, same.case
    model = random_diffusers(same)
    inputs = inputs_of(same)

    def once() -> object:
        return model(**inputs, return_dict=False)

    ways: dict[str, Any] = {"eager": measured(once, same)}
    if case.compile:
        model.compile_repeated_blocks()
        ways["compiled"] = measured(once, same)
    parts = forward_parts(same.config, same.work, official=True)
    flops = total(part for part in parts if not part.name.startswith("speech") and part.name != "class maps")
    for way in ways.values():
        way["tflops"] = flops / way["seconds"]["median"] / 1e12
    return {
        "name": f"diffusers {version} WanTransformer3DModel",
        "attention": BACKEND,
        "says": "without the speech branch, which it does not have: fewer operations than ours",
        "device": str(device),
        "flops": flops,
        "ways": ways,
    }


def measured(once: Callable[[], object], same: Same) -> dict[str, Any]:
    """Times and memory of one way to run it."""
    device = same.device
    with torch.inference_mode(), peak_memory(device) as peak:
        spread = times_of(once, device, repeats=same.case.repeats, warm_up=same.warm_up)
    return {"seconds": spread.as_dict(), "memory": asdict(peak[0])}


def diffusers_version() -> str:
    """The version that is installed.

    Raises:
        CapabilityError: none is.
    """
    try:
        import diffusers
        from diffusers import WanTransformer3DModel  # noqa: F401
    except ImportError as error:
        raise CapabilityError(
            f"--against diffusers needs the package diffusers 0.38 or newer ({error}). Install it: "
            "pip install 'infinite-talk[bench]'.",
            code="diffusers_missing",
        ) from error
    return str(diffusers.__version__)


def random_diffusers(same: Same) -> Any:  # noqa: ANN401 - diffusers has no types here
    """The model of the same sizes with random weights, in the precisions in which diffusers loads it."""
    from diffusers import WanTransformer3DModel

    config, dtype = same.config, same.dtype
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)  # so that no float32 copy of the whole model ever exists
    try:
        with torch.device(same.device):
            model = WanTransformer3DModel(
                patch_size=config.patch_size,
                num_attention_heads=config.num_heads,
                attention_head_dim=config.head_dim,
                in_channels=config.in_dim,
                out_channels=config.out_dim,
                text_dim=config.text_dim,
                freq_dim=config.freq_dim,
                ffn_dim=config.ffn_dim,
                num_layers=config.num_layers,
                cross_attn_norm=True,
                qk_norm="rms_norm_across_heads",
                eps=config.eps,
                image_dim=config.clip_dim,
                added_kv_proj_dim=config.dim,
            )
    finally:
        torch.set_default_dtype(before)
    widen(model)
    model.set_attention_backend(BACKEND)
    return model.eval()


def widen(model: nn.Module) -> None:
    """What diffusers keeps in float32."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(False)
        if any(part in WIDE for part in name.split(".")):
            parameter.data = parameter.data.float()


def inputs_of(same: Same) -> dict[str, Tensor]:
    """Random inputs of one pass."""
    config, work = same.config, same.work
    device, dtype = same.device, same.dtype
    height, width = work.size.latent

    def made(*shape: int) -> Tensor:
        return torch.randn(shape, device=device, dtype=dtype)

    return {
        "hidden_states": made(1, config.in_dim, work.latents, height, width),
        "timestep": torch.tensor([900], device=device),
        "encoder_hidden_states": made(1, config.text_len, config.text_dim),
        "encoder_hidden_states_image": made(1, config.clip_tokens, config.clip_dim),
    }
