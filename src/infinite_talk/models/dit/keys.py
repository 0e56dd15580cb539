"""Names of the transformer's weights in checkpoints. The published names are ours; some add a prefix."""

from __future__ import annotations

from collections.abc import Iterable

# Longest first: a shorter one may be the beginning of a longer one.
_WRAPPERS = ("model.diffusion_model.", "diffusion_model.", "pipe.dit.", "module.", "model.")


def our_names(stored: Iterable[str]) -> dict[str, str]:
    """Our name -> stored name for every key of a checkpoint; a common wrapping prefix is taken off."""
    names = list(stored)
    prefix = next((w for w in _WRAPPERS if names and all(name.startswith(w) for name in names)), "")
    return {name.removeprefix(prefix): name for name in names}


def is_speech_key(name: str) -> bool:
    """Whether a weight belongs to InfiniteTalk's speech branch, which the base Wan2.1 checkpoint lacks."""
    return name.startswith("audio_proj.") or ".audio_cross_attn." in name or ".norm_x." in name
