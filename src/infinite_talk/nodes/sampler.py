"""The sampler nodes: each collects its inputs, and ``sampling_run`` makes the video or the latents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infinite_talk.denoise.schedules import NAMES
from infinite_talk.errors import UsageError
from infinite_talk.nodes.arguments import ROPE_FUNCTIONS
from infinite_talk.nodes.declare import (
    CATEGORY,
    Declared,
    Inputs,
    check,
    choice,
    flag,
    integer,
    known_keys,
    link,
    number,
)
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
    def process(  # noqa: PLR0913 - the signature that scripts call
        self,
        model: Any,
        image_embeds: Any,
        shift: Any,
        steps: Any,
        cfg: Any,
        seed: Any,
        scheduler: Any,
        riflex_freq_index: Any,
        text_embeds: Any = None,
        force_offload: Any = True,
        samples: Any = None,
        feta_args: Any = None,
        denoise_strength: Any = 1.0,
        context_options: Any = None,
        cache_args: Any = None,
        teacache_args: Any = None,
        flowedit_args: Any = None,
        batched_cfg: Any = False,
        slg_args: Any = None,
        rope_function: Any = "default",
        loop_args: Any = None,
        experimental_args: Any = None,
        sigmas: Any = None,
        unianimate_poses: Any = None,
        fantasytalking_embeds: Any = None,
        uni3c_embeds: Any = None,
        multitalk_embeds: Any = None,
        freeinit_args: Any = None,
        start_step: Any = 0,
        end_step: Any = -1,
        add_noise_to_samples: Any = False,
    ) -> tuple[Any, ...]:
        """Sample.

        Returns:
            ``({"video", "output_path"},)`` for ``image_embeds`` of WanVideoImageToVideoMultiTalk, else
            ``(samples, denoised_samples)``, both with latents ``(1, 16, t, h, w)`` under ``"samples"``.

        Raises:
            UsageError: a value is out of its range, or several do not go together.
            TypeError: a keyword is unknown, or an argument is missing.
        """
        values = {name: value for name, value in locals().items() if name != "self"}
        check_values(values)
        return sample(values)


def check_values(values: Mapping[str, Any]) -> None:
    """Compare the sampler's values with its declaration.

    Some come in more forms than the declaration has: those are checked where they are parsed.

    Raises:
        UsageError: a value does not suit its input.
    """
    elsewhere = {"start_step", "end_step", "sigmas", "cfg"}
    elsewhere |= {name for name in ("scheduler", "rope_function") if isinstance(values.get(name), Mapping)}
    check(WanVideoSampler, {name: value for name, value in values.items() if name not in elsewhere})


class WanVideoSamplerSettings(WanVideoSampler):
    """Collects the inputs of the sampler without running it."""

    RETURN_TYPES = ("SAMPLER_ARGS",)
    RETURN_NAMES = ("sampler_inputs",)

    @answering(SAMPLER_WISHES, name="WanVideoSamplerSettings.process")
    def process(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The inputs as a dict, in which later nodes may change some."""
        raise NotImplementedError


class WanVideoSamplerFromSettings(WanVideoSampler):
    """Runs the sampler with collected inputs."""

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802 - ComfyUI's name
        return {"required": {"sampler_inputs": link("SAMPLER_ARGS")}}
