"""What a sampler of a workflow is about to do, in words: said before it begins, as it may take long."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def cost_line(arguments: Mapping[str, Any]) -> str | None:
    """``30 frames of 96x64 in 2 windows of 21, 4 steps: at least 8 passes over 144 tokens``; ``None`` for other nodes.

    Args:
        arguments: what a node is given. A sampler of the long loop has image embeds with ``frame_window_size``.
    """
    embeds, speech = arguments.get("image_embeds"), arguments.get("multitalk_embeds")
    if not isinstance(embeds, Mapping) or "frame_window_size" not in embeds or "steps" not in arguments:
        return None
    window, overlap = int(embeds["frame_window_size"]), int(embeds.get("motion_frame", 1))
    height, width = int(embeds["target_h"]), int(embeds["target_w"])
    frames = _speech_frames(speech) or window
    windows = 1 + max(0, -(-(frames - window) // max(1, window - overlap)))
    steps = _steps(arguments)
    tokens = ((window - 1) // 4 + 1) * (height // 16) * (width // 16)
    return (
        f"{frames} frames of {width}x{height} in {windows} window{'s' * (windows != 1)} of {window}, {steps} "
        f"step{'s' * (steps != 1)} each: at least {windows * steps} passes of the model over {tokens} tokens"
    )


def _steps(arguments: Mapping[str, Any]) -> int:
    """Steps that are walked, as far as whole numbers say."""
    if arguments.get("scheduler") == "multitalk":
        return 4
    steps, start, end = (
        arguments.get(name, rest) for name, rest in (("steps", 1), ("start_step", 0), ("end_step", -1))
    )
    last = end if isinstance(end, int) and 0 <= end < steps else steps
    return max(1, int(last) - (start if isinstance(start, int) else 0))


def _speech_frames(speech: Any) -> int:  # noqa: ANN401 - what a link brings
    if isinstance(speech, Mapping) and isinstance(speech.get("num_frames"), int):
        return int(speech["num_frames"])
    features = speech.get("audio_features") if isinstance(speech, Mapping) else None
    if isinstance(features, Sequence) and features:
        return max(len(one) for one in features)
    return len(features) if features is not None and hasattr(features, "__len__") else 0
