"""What a model wants when a request does not say: ``Defaults``; ``resolve`` fills a request with them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, TypeVar

from infinite_talk.errors import CheckpointError, UsageError
from infinite_talk.request import Distilled, MagCache, Request, StepCache, TeaCache

NEGATIVE_PROMPT = (
    "bright tones, overexposed, static, blurred details, subtitles, style, works, paintings, images, static, "
    "overall gray, worst quality, low quality, JPEG compression residue, ugly, incomplete, extra fingers, "
    "poorly drawn hands, poorly drawn faces, deformed, disfigured, misshapen limbs, fused fingers, still "
    "picture, messy background, three legs, many people in the background, walking backwards"
)
"""The negative prompt that the official models were tuned with, word for word."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """A model's own settings, kept beside its weights (``model.json``)."""

    size: str = "480"
    steps: int = 40
    shift: float = 7.0
    large_shift: float | None = None
    """``shift`` for size ``"720"``, where it differs: more pixels want more steps near the noise."""
    text_guidance: float = 5.0
    audio_guidance: float = 4.0
    window_frames: int = 81
    motion_frames: int = 9
    negative_prompt: str = NEGATIVE_PROMPT
    step_cache: tuple[float, ...] | None = None
    """TeaCache polynomial, highest power first; ``None``: not measured for this model."""
    large_step_cache: tuple[float, ...] | None = None
    """Likewise for size ``"720"``."""
    magcache: tuple[float, ...] | None = None
    """MagCache ratios, one for each step of the schedule on which they were measured; ``None``: not measured."""
    magcache_shift: float | None = None
    """Shift of that schedule."""
    large_magcache: tuple[float, ...] | None = None
    large_magcache_shift: float | None = None
    """Likewise for size ``"720"``."""

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Defaults:
        """Read what ``to_json`` wrote; missing entries take the defaults above.

        Raises:
            CheckpointError: an entry is not known.
        """
        if unknown := sorted(set(values) - {field.name for field in fields(cls)}):
            raise CheckpointError(
                f"The model's defaults have unknown entries {unknown}; the file is from a newer version."
            )
        lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return cls(**(values | lists))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def step_cache_for(self, size: str | None) -> tuple[float, ...] | None:
        """TeaCache polynomial for a size."""
        return (self.large_step_cache if size == "720" else None) or self.step_cache

    def magcache_for(self, size: str | None) -> tuple[tuple[float, ...] | None, float | None]:
        """MagCache ratios for a size, and the shift of their schedule."""
        if size == "720" and self.large_magcache:
            return self.large_magcache, self.large_magcache_shift
        return self.magcache, self.magcache_shift


# The TeaCache polynomials are those of the official InfiniteTalk program for modulated embeddings. The MagCache ratios
# are the published ones of Wan2.1's image-to-video models (their column with prompt), 40 steps on Wan2.1's own
# schedules. Both were measured without the speech branch, which leaves the 40 blocks otherwise alike.
OFFICIAL = Defaults(
    large_shift=11.0,
    step_cache=(2.57151496e5, -3.54229917e4, 1.40286849e3, -1.35890334e1, 1.32517977e-1),
    large_step_cache=(8.10705460e3, 2.13393892e3, -3.72934672e2, 1.66203073e1, -4.17769401e-2),
    magcache=(
        1.0, 0.98783, 0.97559, 0.98311, 0.98202, 0.9888, 0.98762, 0.98957, 0.99052, 0.99383, 0.98857, 0.99065,
        0.98845, 0.99057, 0.98957, 0.98601, 0.98823, 0.98756, 0.98808, 0.98721, 0.98571, 0.98543, 0.98157, 0.98411,
        0.97952, 0.98149, 0.9774, 0.97825, 0.97355, 0.97085, 0.97056, 0.96588, 0.96113, 0.9567, 0.94961, 0.93973,
        0.93217, 0.91878, 0.90955, 0.92617,
    ),
    magcache_shift=3.0,
    large_magcache=(
        1.0, 0.99428, 0.98588, 0.98273, 0.99018, 0.98911, 0.98646, 0.99454, 0.9891, 0.99124, 0.99102, 0.99215,
        0.99515, 0.99576, 0.99068, 0.99097, 0.99166, 0.99041, 0.99201, 0.99101, 0.98599, 0.98845, 0.98848, 0.98862,
        0.98718, 0.98497, 0.98264, 0.98389, 0.97938, 0.97535, 0.97498, 0.973, 0.96827, 0.96261, 0.95335, 0.94649,
        0.93397, 0.91636, 0.89088, 0.8679,
    ),
    large_magcache_shift=5.0,
)  # fmt: skip
"""Wan2.1-I2V-14B with the InfiniteTalk adapter, as its authors run it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FewSteps:
    """How a distilled LoRA wants to be used, and which files have it. Guidance 1: one pass of the model a step."""

    steps: int
    shift: float
    loras: tuple[str, ...]
    """File names of LoRAs that this is right for; any one of them."""
    models: tuple[str, ...] = ()
    """Presets and file names of models in which the LoRA is already."""
    where: str
    """Where the LoRA is from, for people who do not have it."""
    strength: float = 1.0


_LIGHTX2V = (
    "wan2.1_i2v_lora_rank64_lightx2v_4step.safetensors",
    "lightx2v_I2V_14B_480p_cfg_step_distill_rank64_bf16.safetensors",
    "Wan21_T2V_14B_lightx2v_cfg_step_distill_lora_rank32.safetensors",
)
_DISTILLED_MODELS = (
    "lightx2v-4step",
    "lightx2v-4step-lora",
    "wan2.1_i2v_480p_scaled_fp8_e4m3_lightx2v_4step.safetensors",
)
_PULL = "infinite-talk models pull lightx2v-lora"
DISTILLED = {
    Distilled.LIGHTX2V_4STEP: FewSteps(
        steps=4, shift=5.0, loras=_LIGHTX2V, models=_DISTILLED_MODELS, where=_PULL
    ),
    Distilled.LIGHTX2V_8STEP: FewSteps(
        steps=8, shift=5.0, loras=_LIGHTX2V, models=_DISTILLED_MODELS, where=_PULL
    ),
    Distilled.FUSIONX_8STEP: FewSteps(
        steps=8,
        shift=2.0,  # as the official InfiniteTalk program advises for it
        loras=(
            "Wan2.1_I2V_14B_FusionX_LoRA.safetensors",
            "Wan2.1_T2V_14B_FusionX_LoRA.safetensors",
        ),
        where="the hub's repository vrgamedevgirl84/Wan14BT2VFusioniX",
    ),
}
"""The settings behind ``Request.distilled``."""


def resolve(request: Request, defaults: Defaults) -> Request:
    """The request with every setting filled in, from its ``distilled`` preset and the model's ``defaults``.

    Left open are only the settings for which ``None`` means something: media, trims, ``max_frames``, ``apg``,
    ``step_cache`` and ``distilled``.

    Raises:
        UsageError: a step cache whose numbers neither the request nor the model has.
    """
    size = request.size or defaults.size
    few = None if request.distilled is None else DISTILLED[request.distilled]
    usual = few.shift if few else (defaults.large_shift if size == "720" else None) or defaults.shift
    shift = _or(request.shift, usual)
    return replace(
        request,
        size=size,
        steps=_or(request.steps, few.steps if few else defaults.steps),
        shift=shift,
        text_guidance=_or(request.text_guidance, 1.0 if few else defaults.text_guidance),
        audio_guidance=_or(request.audio_guidance, 1.0 if few else defaults.audio_guidance),
        step_cache=_with_numbers(request.step_cache, defaults, size, shift),
        window_frames=_or(request.window_frames, defaults.window_frames),
        motion_frames=_or(request.motion_frames, defaults.motion_frames),
        # Empty counts as not given, as in the official program: there is no useful empty negative prompt.
        negative_prompt=request.negative_prompt or defaults.negative_prompt,
    )


def _with_numbers(cache: StepCache | None, defaults: Defaults, size: str, shift: float) -> StepCache | None:
    """The cache with the model's numbers where it names none, so that a recipe holds all that decides."""
    match cache:
        case TeaCache(coefficients=None):
            if coefficients := defaults.step_cache_for(size):
                return replace(cache, coefficients=coefficients)
            raise _not_measured("TeaCache", "coefficients")
        case MagCache(ratios=None):
            ratios, measured_at = defaults.magcache_for(size)
            if ratios:
                return replace(cache, ratios=ratios, shift=_or(measured_at, shift))
            raise _not_measured("MagCache", "ratios")
        case MagCache(shift=None):
            return replace(cache, shift=shift)
    return cache


def _not_measured(name: str, numbers: str) -> UsageError:
    return UsageError(
        f"{name} was not measured for this model. Give {name}({numbers}=...), measure the model "
        f"(infinite_talk.denoise.caches.calibrate), or choose EasyCache, which needs no numbers.",
        code="step_cache_not_measured",
    )


def given(value: T | None) -> T:
    """A setting of a resolved request, for the type checker's sake."""
    assert value is not None, "resolve the request first"
    return value


def _or(value: T | None, default: T) -> T:
    return default if value is None else value
