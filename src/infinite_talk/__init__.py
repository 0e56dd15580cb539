"""Infinite Talk: one portrait and a speech recording in, a lip-synced talking video of any length out.

    from infinite_talk import Engine, Request, Speaker

    engine = Engine()
    request = Request(image=Path("me.png"), speakers=(Speaker(audio=Path("speech.wav")),))
    engine.write(request, Path("me.mp4"))          # or: for clip in engine.generate(request): ...

``talk("me.png", "speech.wav", "me.mp4")`` does the same in one call.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from infinite_talk.errors import (
    Cancelled,
    CapabilityError,
    CheckpointError,
    InfiniteTalkError,
    InputError,
    JobActionError,
    LimitError,
    NoSpaceError,
    NumericalError,
    OutOfMemoryError,
    StoreError,
    TakeError,
    UsageError,
)
from infinite_talk.progress import Phase, Progress
from infinite_talk.request import (
    APG,
    AudioLayout,
    Box,
    Compat,
    Distilled,
    EasyCache,
    MagCache,
    Request,
    Speaker,
    TeaCache,
)
from infinite_talk.settings import (
    Attention,
    Compile,
    Device,
    Gemm,
    LoRA,
    Memory,
    ModelFiles,
    Precision,
    Quantization,
    Settings,
)
from infinite_talk.version import __version__

if TYPE_CHECKING:
    from infinite_talk.engine import Engine, Preview, Result, talk, window_seams
    from infinite_talk.forecast import Forecast, plan_run
    from infinite_talk.inputs import read_job_file
    from infinite_talk.media.contact_sheet import contact_sheet
    from infinite_talk.media.recipe import Recipe, read_recipe
    from infinite_talk.ops.attention.matrix import attention_matrix
    from infinite_talk.pipeline import InfiniteTalkPipeline
    from infinite_talk.types import Clip
    from infinite_talk.weights.convert import convert_model
    from infinite_talk.weights.distilled import with_distilled
    from infinite_talk.weights.hub.pull import PullProgress
    from infinite_talk.weights.hub.verify import Verified
    from infinite_talk.weights.manifest import verify_model
    from infinite_talk.weights.shelf import (
        describe_lora,
        identify_model,
        list_presets,
        pull_preset,
        verify_models,
    )
    from infinite_talk.weights.support import precision_matrix

_LATER = {
    "Clip": "types",
    "Engine": "engine",
    "Forecast": "forecast",
    "InfiniteTalkPipeline": "pipeline",
    "Preview": "engine",
    "PullProgress": "weights.hub.pull",
    "Recipe": "media.recipe",
    "Result": "engine",
    "Verified": "weights.hub.verify",
    "attention_matrix": "ops.attention.matrix",
    "contact_sheet": "media.contact_sheet",
    "convert_model": "weights.convert",
    "describe_lora": "weights.shelf",
    "identify_model": "weights.shelf",
    "list_presets": "weights.shelf",
    "plan_run": "forecast",
    "precision_matrix": "weights.support",
    "pull_preset": "weights.shelf",
    "read_job_file": "inputs",
    "read_recipe": "media.recipe",
    "talk": "engine",
    "verify_model": "weights.manifest",
    "verify_models": "weights.shelf",
    "window_seams": "engine",
    "with_distilled": "weights.distilled",
}
"""Names whose modules are loaded at first use: some bring torch, which a mere complaint should not wait for."""


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the module holds
    if name in _LATER:
        return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "APG",
    "Attention",
    "AudioLayout",
    "Box",
    "Cancelled",
    "CapabilityError",
    "CheckpointError",
    "Clip",
    "Compat",
    "Compile",
    "Device",
    "Distilled",
    "EasyCache",
    "Engine",
    "Forecast",
    "Gemm",
    "InfiniteTalkError",
    "InfiniteTalkPipeline",
    "InputError",
    "JobActionError",
    "LimitError",
    "LoRA",
    "MagCache",
    "Memory",
    "ModelFiles",
    "NoSpaceError",
    "NumericalError",
    "OutOfMemoryError",
    "Phase",
    "Precision",
    "Preview",
    "Progress",
    "PullProgress",
    "Quantization",
    "Recipe",
    "Request",
    "Result",
    "Settings",
    "Speaker",
    "StoreError",
    "TakeError",
    "TeaCache",
    "UsageError",
    "Verified",
    "__version__",
    "attention_matrix",
    "contact_sheet",
    "convert_model",
    "describe_lora",
    "identify_model",
    "list_presets",
    "plan_run",
    "precision_matrix",
    "pull_preset",
    "read_job_file",
    "read_recipe",
    "talk",
    "verify_model",
    "verify_models",
    "window_seams",
    "with_distilled",
]
