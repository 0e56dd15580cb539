"""The sampler nodes: each collects its inputs, and ``sampling_run`` makes the video or the latents."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from infinite_talk.denoise.schedules import NAMES
from infinite_talk.errors import UsageError
from infinite_talk.nodes.args import Args
from infinite_talk.nodes.arguments import ROPE_FUNCTIONS
from infinite_talk.nodes.declare import (
    CATEGORY,
    Declared,
    Inputs,
    check,
    choice,
    flag,
    inputs_given,
    integer,
    known_keys,
    link,
    number,
)
from infinite_talk.nodes.handles import WanModel
from infinite_talk.nodes.keywords import SAMPLER_WISHES, answering
from infinite_talk.nodes.sampling_run import sample

MAX_SEED = 0xFFFF_FFFF_FFFF_FFFF
LINKS: dict[str, str] = {
    "text_embeds": "WANVIDEOTEXTEMBEDS",
    "samples": "LATENT",
    "feta_args": "FETAARGS",
    "context_options": "WANVIDCONTEXT",
    "cache_args": "CACHEARGS",
    "flowedit_args": "FLOWEDITARGS",
    "slg_args": "SLGARGS",
    "loop_args": "LOOPARGS",
    "experimental_args": "EXPERIMENTALARGS",
    "sigmas": "SIGMAS",
    "unianimate_poses": "UNIANIMATE_POSE",
    "fantasytalking_embeds": "FANTASYTALKING_EMBEDS",
    "uni3c_embeds": "UNI3C_EMBEDS",
    "multitalk_embeds": "MULTITALK_EMBEDS",
    "freeinit_args": "FREEINITARGS",
}
"""Optional inputs that other nodes give."""
EXTRA = (
    "riflex_freq_index",
    "feta_args",
    "context_options",
    "cache_args",
    "slg_args",
    "rope_function",
    "loop_args",
    "experimental_args",
    "unianimate_poses",
    "fantasytalking_embeds",
    "uni3c_embeds",
    "multitalk_embeds",
)
"""What WanVideoSamplerExtraArgs collects."""


def _required() -> dict[str, Declared]:
    return {
        "model": link("WANVIDEOMODEL"),
        "image_embeds": link("WANVIDIMAGE_EMBEDS"),
        "steps": integer(30, 1),
        "cfg": number(6.0, 0.0, 30.0, 0.01),
        "shift": number(5.0, 0.0, 1000.0, 0.01),
        "seed": integer(0, 0, MAX_SEED),
        "force_offload": flag(True),
        "scheduler": choice(list(NAMES), "unipc"),
        "riflex_freq_index": integer(0, 0, 1000, 1),
    }


def _optional() -> dict[str, Declared]:
    own: dict[str, Declared] = {
        "denoise_strength": number(1.0, 0.0, 1.0, 0.01),
        "batched_cfg": flag(False),
        "rope_function": choice(ROPE_FUNCTIONS, "comfy"),
        "start_step": integer(0, 0, 10000, 1),
        "end_step": integer(-1, -1, 10000, 1),
        "add_noise_to_samples": flag(False),
    }
    order = (
        "text_embeds samples denoise_strength feta_args context_options cache_args flowedit_args batched_cfg slg_args "
        "rope_function loop_args experimental_args sigmas unianimate_poses fantasytalking_embeds uni3c_embeds "
        "multitalk_embeds freeinit_args start_step end_step add_noise_to_samples"
    )
    return {name: own[name] if name in own else link(LINKS[name]) for name in order.split()}


class WanVideoSampler:
    """Makes a talking video, window by window, or the latents of one video."""

    CATEGORY = CATEGORY
    FUNCTION = "process"
    RETURN_TYPES: tuple[str, ...] = ("LATENT", "LATENT")
    RETURN_NAMES: tuple[str, ...] = ("samples", "denoised_samples")

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802 - ComfyUI's name
        return {"required": _required(), "optional": _optional()}

    @answering(SAMPLER_WISHES, name="WanVideoSampler.process")
    def process(
        self,
        model: WanModel,
        image_embeds: Args,
        shift: float,
        steps: int,
        cfg: float | Sequence[float],
        seed: int,
        scheduler: str | Args,
        riflex_freq_index: int,
        text_embeds: Args | None = None,
        force_offload: bool = True,
        samples: Args | None = None,
        feta_args: Args | None = None,
        denoise_strength: float = 1.0,
        context_options: Args | None = None,
        cache_args: Args | None = None,
        teacache_args: Args | None = None,
        flowedit_args: Args | None = None,
        batched_cfg: bool = False,
        slg_args: Args | None = None,
        rope_function: str | Args = "default",
        loop_args: Args | None = None,
        experimental_args: Args | None = None,
        sigmas: torch.Tensor | Sequence[float] | None = None,
        unianimate_poses: Args | None = None,
        fantasytalking_embeds: Args | None = None,
        uni3c_embeds: Args | None = None,
        multitalk_embeds: Args | torch.Tensor | None = None,
        freeinit_args: Args | None = None,
        start_step: float = 0,
        end_step: float = -1,
        add_noise_to_samples: bool = False,
    ) -> tuple[Any, ...]:
        """Sample.

        Returns:
            ``({"video", "output_path"},)`` for ``image_embeds`` of WanVideoImageToVideoMultiTalk, else
            ``(samples, denoised_samples)``, both with latents ``(1, 16, t, h, w)`` under ``"samples"``.

        Raises:
            UsageError: a value is out of its range, or several do not go together.
            TypeError: a keyword is unknown, or an argument is missing.
        """
        values = inputs_given(locals())
        check_values(values)
        return sample(values)


def check_values(values: Mapping[str, Any]) -> None:
    """Compare the sampler's values with its declaration.

    Some come in more forms than the declaration has: those are checked where they are parsed.

    Raises:
        UsageError: a value does not suit its input.
    """
    elsewhere = {"start_step", "end_step", "sigmas", "cfg", "scheduler", "rope_function"}
    check(WanVideoSampler, {name: value for name, value in values.items() if name not in elsewhere})


_LIKE_THE_SAMPLER = inspect.signature(WanVideoSampler.process)


class WanVideoSamplerSettings(WanVideoSampler):
    """Collects the inputs of the sampler without running it."""

    RETURN_TYPES = ("SAMPLER_ARGS",)
    RETURN_NAMES = ("sampler_inputs",)

    @answering(SAMPLER_WISHES, name="WanVideoSamplerSettings.process", like=WanVideoSampler.process)
    def process(self, *args: object, **kwargs: object) -> tuple[Any, ...]:
        """The inputs as a dict by name, in which a script may change some before WanVideoSamplerFromSettings."""
        bound = _LIKE_THE_SAMPLER.bind(self, *args, **kwargs)
        bound.apply_defaults()
        values = {name: value for name, value in bound.arguments.items() if name != "self"}
        check_values(values)
        return (values,)


class WanVideoSamplerFromSettings:
    """Runs the sampler with collected inputs."""

    CATEGORY = CATEGORY
    FUNCTION = "process"
    RETURN_TYPES = WanVideoSampler.RETURN_TYPES
    RETURN_NAMES = WanVideoSampler.RETURN_NAMES

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802 - ComfyUI's name
        return {"required": {"sampler_inputs": link("SAMPLER_ARGS")}}

    @answering(SAMPLER_WISHES, name="WanVideoSamplerFromSettings.process")
    def process(self, sampler_inputs: dict[str, Any]) -> tuple[Any, ...]:
        """As ``WanVideoSampler.process`` with these inputs."""
        if not isinstance(sampler_inputs, Mapping):
            raise UsageError(
                f"sampler_inputs is a {type(sampler_inputs).__name__}; connect WanVideoSamplerSettings."
            )
        return WanVideoSampler().process(**sampler_inputs)


class WanVideoSamplerExtraArgs:
    """Collects the rarer inputs of WanVideoSamplerv2."""

    CATEGORY = CATEGORY
    FUNCTION = "process"
    RETURN_TYPES = ("WANVIDSAMPLEREXTRAARGS",)
    RETURN_NAMES = ("extra_args",)

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802 - ComfyUI's name
        own = {
            "riflex_freq_index": _required()["riflex_freq_index"],
            "rope_function": _optional()["rope_function"],
        }
        return {"required": {}, "optional": {name: own.get(name) or link(LINKS[name]) for name in EXTRA}}

    @answering(SAMPLER_WISHES, name="WanVideoSamplerExtraArgs.process")
    def process(
        self,
        riflex_freq_index: int = 0,
        feta_args: Args | None = None,
        context_options: Args | None = None,
        cache_args: Args | None = None,
        slg_args: Args | None = None,
        rope_function: str | Args = "comfy",
        loop_args: Args | None = None,
        experimental_args: Args | None = None,
        unianimate_poses: Args | None = None,
        fantasytalking_embeds: Args | None = None,
        uni3c_embeds: Args | None = None,
        multitalk_embeds: Args | torch.Tensor | None = None,
    ) -> tuple[Any, ...]:
        """The inputs as a dict by name."""
        values = inputs_given(locals())
        check_values(values)
        return (values,)


class WanVideoSamplerv2:
    """The sampler with a scheduler of its own and few inputs."""

    CATEGORY = CATEGORY
    FUNCTION = "process"
    RETURN_TYPES = WanVideoSampler.RETURN_TYPES
    RETURN_NAMES = WanVideoSampler.RETURN_NAMES

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802 - ComfyUI's name
        own, more = _required(), _optional()
        required = {name: own[name] for name in ("model", "image_embeds", "cfg", "seed", "force_offload")}
        return {
            "required": {**required, "scheduler": link("WANVIDEOSCHEDULER")},
            "optional": {
                **{name: more[name] for name in ("text_embeds", "samples", "add_noise_to_samples")},
                "extra_args": link("WANVIDSAMPLEREXTRAARGS"),
            },
        }

    @answering(SAMPLER_WISHES, name="WanVideoSamplerv2.process")
    def process(
        self,
        model: WanModel,
        image_embeds: Args,
        cfg: float | Sequence[float],
        seed: int,
        scheduler: str | Args,
        force_offload: bool = True,
        text_embeds: Args | None = None,
        samples: Args | None = None,
        add_noise_to_samples: bool = False,
        extra_args: Args | None = None,
    ) -> tuple[Any, ...]:
        """As ``WanVideoSampler.process``, steps and shift being those of the scheduler."""
        values = inputs_given(locals(), but=("extra_args",))
        known_keys("extra_args", extra_args or {}, EXTRA)
        return WanVideoSampler().process(
            **{"shift": 5.0, "steps": 30, "riflex_freq_index": 0, **(extra_args or {}), **values}
        )
