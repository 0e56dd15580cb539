"""Nodes that choose a step cache, and what their dictionaries mean for a model.

What differs from the pack: TeaCache compares a step with the one before it, as its authors do, and not with the last
computed one; MagCache reads its whole table at the run's own steps; EasyCache uses the rate of the paper. The numbers
are chosen by the model's architecture before its file name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from infinite_talk.denoise.caches.measured import MeasuredSet, measured_sets, set_for
from infinite_talk.errors import UsageError
from infinite_talk.nodes.declare import (
    CATEGORY,
    DEVICES,
    Inputs,
    check,
    checked,
    choice,
    flag,
    inputs_given,
    inputs_of,
    integer,
    known_keys,
    number,
)
from infinite_talk.presets import Defaults
from infinite_talk.request import EasyCache, MagCache, StepCache, TeaCache

_RAW = (1.0, 0.0)
"""The polynomial of a TeaCache without coefficients: how far the embedding moved, as it is."""


class WanVideoTeaCache:
    """Skips steps while the time embedding has hardly moved."""

    RETURN_TYPES: ClassVar = ("CACHEARGS",)
    RETURN_NAMES: ClassVar = ("cache_args",)
    FUNCTION = "process"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {
            "required": {
                "rel_l1_thresh": number(0.3, 0.0, 1.0, 0.001),
                **_steps(1),
                "use_coefficients": flag(True),
            },
            "optional": {"mode": choice(["e", "e0"], "e")},
        }

    @checked()
    def process(
        self,
        rel_l1_thresh: float = 0.3,
        start_step: int = 1,
        end_step: int = -1,
        cache_device: str = "offload_device",
        use_coefficients: bool = True,
        mode: str = "e",
    ) -> tuple[dict[str, Any]]:
        return ({"cache_type": "TeaCache", **inputs_given(locals())},)


class WanVideoMagCache:
    """Skips steps while what the blocks do is known to keep its size."""

    RETURN_TYPES: ClassVar = ("CACHEARGS",)
    RETURN_NAMES: ClassVar = ("cache_args",)
    FUNCTION = "setargs"
    CATEGORY = CATEGORY
    EXPERIMENTAL = True

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {
            "required": {
                "magcache_thresh": number(0.02, 0.0, 0.3, 0.001),
                "magcache_K": integer(4, 0, 6, 1),
                **_steps(1),
            },
        }

    @checked()
    def setargs(
        self,
        magcache_thresh: float = 0.02,
        magcache_K: int = 4,
        start_step: int = 1,
        end_step: int = -1,
        cache_device: str = "offload_device",
    ) -> tuple[dict[str, Any]]:
        return ({"cache_type": "MagCache", **inputs_given(locals())},)


class WanVideoEasyCache:
    """Skips steps while the answer is expected to hold, as the run itself has shown."""

    RETURN_TYPES: ClassVar = ("CACHEARGS",)
    RETURN_NAMES: ClassVar = ("cache_args",)
    FUNCTION = "setargs"
    CATEGORY = CATEGORY
    EXPERIMENTAL = True

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {"required": {"easycache_thresh": number(0.015, 0.0, 1.0, 0.001), **_steps(10)}}

    @checked()
    def setargs(
        self,
        easycache_thresh: float = 0.015,
        start_step: int = 10,
        end_step: int = -1,
        cache_device: str = "offload_device",
    ) -> tuple[dict[str, Any]]:
        return ({"cache_type": "EasyCache", **inputs_given(locals())},)


_NODES: Mapping[str, type[Any]] = {
    "TeaCache": WanVideoTeaCache,
    "MagCache": WanVideoMagCache,
    "EasyCache": WanVideoEasyCache,
}


@dataclass(frozen=True, slots=True)
class CacheChoice:
    """A step cache, and where it remembers."""

    cache: StepCache
    on_host: bool
    """In the host's memory, and not on the device that computes."""
    notes: tuple[str, ...] = ()

    def keep_on(self) -> torch.device | None:
        """For ``denoise.compose``."""
        return torch.device("cpu") if self.on_host else None


def cache_of(
    cache_args: Mapping[str, Any] | None,
    *,
    title: str,
    width: int,
    measured: Defaults | None = None,
    shift: float = 5.0,
) -> CacheChoice | None:
    """What a dictionary of the nodes above asks of a model; without ``cache_type`` it is TeaCache's, as it was once.

    Args:
        title: name of the model's file.
        width: of its stream of tokens; tells the model's size.
        measured: numbers that came with the model, for one whose size nobody else has measured.
        shift: of the run's schedule, where those do not say theirs.

    Raises:
        UsageError: an unknown key or kind, a value out of range, or a model without numbers.
    """
    if cache_args is None:
        return None
    kind, values = _values(cache_args)
    known = set_for(title, width)
    numbers = None if known is None else measured_sets()[known]
    first, last = int(values["start_step"]), int(values["end_step"])
    limits: dict[str, Any] = {"first": first, "last": None if last < 0 else last}
    on_host = str(values["cache_device"]) in ("offload_device", "cpu")
    if kind == "EasyCache":
        return CacheChoice(EasyCache(threshold=float(values["easycache_thresh"]), **limits), on_host)
    if kind == "TeaCache":
        found, notes = _tea_cache(values, numbers, measured, limits)
        return CacheChoice(found, on_host, notes)
    return CacheChoice(_mag_cache(values, numbers, measured, limits, shift), on_host)


def _values(cache_args: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The kind of a dictionary, and its values, missing ones by default."""
    known_keys(
        "cache_args",
        cache_args,
        {"cache_type", *(key for node in _NODES.values() for key in inputs_of(node))},
    )
    kind = cache_args.get("cache_type", "TeaCache")
    if kind not in _NODES:
        raise UsageError(f"cache_type of cache_args is {kind!r}; choose one of {', '.join(_NODES)}.")
    node = _NODES[kind]
    own = {key: value for key, value in cache_args.items() if key != "cache_type"}
    known_keys("cache_args", own, inputs_of(node))
    # A script may give a device itself, as the pack does.
    plain = {key: value for key, value in own.items() if key != "cache_device" or value in DEVICES}
    check(node, plain)
    return kind, {name: options["default"] for name, (_, options) in inputs_of(node).items()} | own


def _tea_cache(
    values: Mapping[str, Any],
    numbers: MeasuredSet | None,
    measured: Defaults | None,
    limits: Mapping[str, Any],
) -> tuple[TeaCache, tuple[str, ...]]:
    threshold, mode = float(values["rel_l1_thresh"]), values["mode"]
    if not values["use_coefficients"]:
        return TeaCache(threshold=threshold, coefficients=_RAW, embedding="e0", **limits), ()
    if numbers is not None:
        coefficients = numbers.e if mode == "e" else numbers.e0
        return TeaCache(threshold=threshold, coefficients=coefficients, embedding=mode, **limits), ()
    if measured is None or measured.step_cache is None:
        raise _not_measured("TeaCache", "switch use_coefficients off")
    notes = () if mode == "e0" else ("TeaCache: this model's coefficients are for mode e0, which is used.",)
    return TeaCache(threshold=threshold, coefficients=measured.step_cache, embedding="e0", **limits), notes


def _mag_cache(
    values: Mapping[str, Any],
    numbers: MeasuredSet | None,
    measured: Defaults | None,
    limits: Mapping[str, Any],
    shift: float,
) -> MagCache:
    threshold, longest = float(values["magcache_thresh"]), int(values["magcache_K"])
    if numbers is not None:
        return MagCache(
            threshold=threshold,
            longest=longest,
            ratios=numbers.ratios,
            other_ratios=numbers.other_ratios,
            shift=numbers.shift,
            **limits,
        )
    if measured is None or measured.magcache is None:
        raise _not_measured("MagCache", "choose TeaCache with use_coefficients off")
    own_shift = shift if measured.magcache_shift is None else measured.magcache_shift
    return MagCache(threshold=threshold, longest=longest, ratios=measured.magcache, shift=own_shift, **limits)


def _not_measured(name: str, other: str) -> UsageError:
    return UsageError(
        f"{name} was not measured for a model of this size; {other}, or choose WanVideoEasyCache, which needs no "
        f"numbers.",
        code="step_cache_not_measured",
    )


def _steps(first: int) -> dict[str, Any]:
    """Inputs that all three have."""
    return {
        "start_step": integer(first, 0, 9999, 1),
        "end_step": integer(-1, -1, 9999, 1),
        "cache_device": choice(list(DEVICES), "offload_device"),
    }
