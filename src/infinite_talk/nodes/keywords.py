"""A wrong keyword is answered like a colleague would: what it is near to, and where the wish behind it belongs."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def answering(
    wishes: Mapping[str, str], *, name: str, like: Callable[..., object] | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a method explain keywords that it does not have; its signature stays what it is.

    Args:
        wishes: for keywords that people try, where what they want is found: a clause such as ``"quantization is an
            input of WanVideoModelLoader"``.
        name: of the method in messages.
        like: has the signature that the method is to have, if that takes any keywords itself.

    The method raises ``TypeError``, as Python itself does, for an unknown keyword, a missing argument, an argument
    given twice, and too many of them.
    """

    def around(method: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(like or method)
        names = [key for key in signature.parameters if key != "self"]

        @functools.wraps(method)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            if wrong := [key for key in kwargs if key not in names]:
                raise TypeError(" ".join(explain(key, names, wishes, name=name) for key in wrong))
            try:
                signature.bind(*args, **kwargs)
            except TypeError as error:
                given: list[str] = [*names[: max(0, len(args) - 1)], *map(str, kwargs)]
                raise TypeError(_wrong_call(error, signature, given, name)) from None
            return method(*args, **kwargs)

        if like is not None:
            call.__signature__ = signature  # type: ignore[attr-defined]
        return call

    return around


def explain(keyword: str, names: Iterable[str], wishes: Mapping[str, str], *, name: str) -> str:
    """One or two sentences about a keyword that is not among ``names``."""
    lines = [f"{name}() has no argument {keyword!r}."]
    if near := get_close_matches(keyword, list(names), n=1, cutoff=0.6):
        lines.append(f"Did you mean {near[0]!r}?")
    if keyword in wishes:
        lines.append(f"{wishes[keyword][0].upper()}{wishes[keyword][1:]}.")
    if len(lines) == 1:
        lines.append(f"It takes {', '.join(names)}.")
    return " ".join(lines)


def _wrong_call(error: TypeError, signature: inspect.Signature, given: Iterable[str], name: str) -> str:
    """What is wrong with a call whose keywords are all known."""
    needed = [
        key
        for key, parameter in signature.parameters.items()
        if parameter.default is inspect.Parameter.empty and key != "self"
    ]
    known = set(given)
    if missing := [key for key in needed if key not in known]:
        return f"{name}() misses {', '.join(map(repr, missing))}; it needs {', '.join(needed)}."
    return f"{name}(): {error}. The order of its arguments is {', '.join(list(signature.parameters)[1:])}."


_SETTINGS = (
    "it is how this machine works, not how a video is sampled: the setting `{}` of `Settings` (`--{}`)"
)
_LOADER = "`{}` is an input of WanVideoModelLoader"
_I2V = "`{}` is an input of WanVideoImageToVideoMultiTalk"
_AUDIO = "`{}` is an input of MultiTalkWav2VecEmbeds"
_TEXT = "`{}` is an input of WanVideoTextEncode; connect its result to text_embeds"
_SWAP = "`{}` is an input of WanVideoBlockSwap; connect it to block_swap_args of WanVideoModelLoader"
_OPTIONS = "`{}` is an input of {}; connect its result to {}"


def _of(form: str, *names: str) -> dict[str, str]:
    return {name: form.format(name) for name in names}


def _setting(wish: str, name: str) -> dict[str, str]:
    return {wish: _SETTINGS.format(name, name.replace("_", "-"))}


SAMPLER_WISHES: dict[str, str] = {
    **_setting("use_tf32", "tf32"),
    **_setting("allow_tf32", "tf32"),
    **_setting("use_cublas_gemm", "gemm"),
    **_setting("force_contiguous_tensors", "contiguous"),
    **_setting("fuse_qkv_projections", "fuse_qkv"),
    **_of(
        _LOADER, "attention_mode", "quantization", "base_precision", "load_device", "lora", "multitalk_model"
    ),
    **_of(_LOADER, "compile_args", "block_swap_args", "vram_management_args", "extra_model"),
    **_of(_LOADER, "fantasyportrait_model", "fantasytalking_model"),
    **_of(
        _SWAP, "blocks_to_swap", "prefetch_blocks", "use_non_blocking", "offload_img_emb", "offload_txt_emb"
    ),
    **_of(_I2V, "width", "height", "frame_window_size", "motion_frame", "colormatch", "start_image", "mode"),
    **_of(_I2V, "clip_embeds", "tiled_vae", "output_path", "vae"),
    **_of(
        _AUDIO, "num_frames", "fps", "audio_scale", "audio_cfg_scale", "audio_guide_scale", "multi_audio_type"
    ),
    **_of(_AUDIO, "ref_target_masks", "normalize_loudness"),
    **_of(_TEXT, "prompt", "negative_prompt", "positive_prompt"),
    "guidance_scale": "the scale of the text guidance is `cfg`",
    "cfg_scale": "the scale of the text guidance is `cfg`",
    "num_inference_steps": "the number of steps is `steps`",
    "flow_shift": "the shift of the schedule is `shift`",
    "sampler_name": "solver and schedule are one name here: `scheduler`",
    "sampler": "solver and schedule are one name here: `scheduler`",
    "latents": "latents come in as `samples`, a dict with the key 'samples'",
    "audio_embeds": "what MultiTalkWav2VecEmbeds gives is `multitalk_embeds`",
    "noise_seed": "the seed of the noise is `seed`",
    "sampler_inputs": "sampler_inputs go to WanVideoSamplerFromSettings",
    "control_embeds": "control models are outside of this package; embeds of a picture are `image_embeds`",
    **{
        key: _OPTIONS.format(key, node, target)
        for key, node, target in (
            ("context_frames", "WanVideoContextOptions", "context_options"),
            ("context_overlap", "WanVideoContextOptions", "context_options"),
            ("rel_l1_thresh", "WanVideoTeaCache", "cache_args"),
            ("magcache_thresh", "WanVideoMagCache", "cache_args"),
            ("easycache_thresh", "WanVideoEasyCache", "cache_args"),
            ("cfg_zero_star", "WanVideoExperimentalArgs", "experimental_args"),
            ("use_zero_init", "WanVideoExperimentalArgs", "experimental_args"),
            ("use_fresca", "WanVideoExperimentalArgs", "experimental_args"),
            ("nag_scale", "WanVideoApplyNAG", "text_embeds"),
        )
    },
}
"""Keywords of ``WanVideoSampler.process`` that people try, and where what they want is."""
