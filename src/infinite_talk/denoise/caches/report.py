"""What a step cache has left out, in a sentence, and what it holds meanwhile."""

from __future__ import annotations

from collections.abc import Mapping

from infinite_talk.request import EasyCache, StepCache


def skip_note(cache: StepCache | None, skipped: Mapping[str, int], steps: int, word: str = "steps") -> str:
    """``"MagCache left out 12 of 40 steps in each of 3 passes (cond, ...): approximate"``; empty without a cache.

    Args:
        skipped: of one window, by guidance branch.
        steps: of a window, or what else ``word`` counts.
    """
    if cache is None or not skipped:
        return ""
    if not any(skipped.values()):
        return f"{type(cache).__name__} left out none of {steps} {word} of a window: the result is exact."
    if len(set(skipped.values())) == 1:
        branches = f"{'each of ' * (len(skipped) > 1)}{', '.join(skipped)}"
        counts = f"{next(iter(skipped.values()))} of {steps} {word} in {branches}"
    else:
        counts = ", ".join(f"{count} of {steps} {word} in {branch}" for branch, count in skipped.items())
    return f"{type(cache).__name__} left out {counts} of a window: the result is approximate."


def remembered_streams(cache: StepCache | None, branches: int) -> int:
    """How many streams of tokens ``(N, D)`` a cache holds while the blocks work, for the memory plan.

    The change of each other branch, and the tokens before the blocks. EasyCache holds latents only, which are small.
    """
    return 0 if cache is None or isinstance(cache, EasyCache) else branches
