"""What the package exports, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import infinite_talk

PUBLIC = [
    "APG", "Attention", "AudioLayout", "Box", "Cancelled", "CapabilityError", "CheckpointError", "Clip", "Compat",
    "Compile", "Device", "Distilled", "EasyCache", "Engine", "Forecast", "Gemm", "InfiniteTalkError",
    "InfiniteTalkPipeline",
    "InputError", "JobActionError", "LimitError", "LoRA", "MagCache", "Memory", "ModelFiles", "NoSpaceError",
    "NumericalError", "OutOfMemoryError", "Phase", "Precision", "Preview", "Progress", "PullProgress",
    "Quantization", "Recipe", "Request", "Result", "Settings", "Speaker", "StoreError", "TakeError", "TeaCache",
    "UsageError", "Verified", "__version__", "attention_matrix", "contact_sheet", "convert_model",
    "describe_lora", "identify_model", "list_presets", "plan_run", "precision_matrix", "pull_preset",
    "read_job_file", "read_recipe", "talk", "verify_model", "verify_models", "window_seams", "with_distilled",
]  # fmt: skip
"""Taking a name away or renaming it is a change of the major version and belongs into CHANGELOG.md."""


def test_exported_names():
    assert sorted(infinite_talk.__all__) == sorted(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_each_name_is_there_and_documented(name):
    value = getattr(infinite_talk, name)
    if callable(value):
        assert value.__doc__


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="no attribute 'engines'"):
        _ = infinite_talk.engines


@pytest.mark.parametrize(
    "code",
    [
        "import infinite_talk",
        "import infinite_talk.inputs, infinite_talk.plan",
        "from infinite_talk.frontends.cli.main import run; assert run(['generate', '--image', 'no.png']) in (2, 3)",
        "from infinite_talk.frontends.cli.main import run; assert run(['version']) == 0",
        "from infinite_talk.frontends.cli.main import run; assert run(['models', 'list']) == 0",
        "import infinite_talk.jobs.desk, infinite_talk.jobs.supervisor",
    ],
)
def test_light_things_do_not_load_heavy_ones(code):
    """Complaints and versions come at once: none of torch, transformers and scipy is loaded for them."""
    check = "import sys; assert not {'torch', 'transformers', 'scipy'} & set(sys.modules), 'heavy'"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{check}"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


def test_plans_do_not_load_what_only_models_need():
    """What would run, and how large it is, is said without the compiler and without the encoders' library."""
    code = (
        "import sys\nfrom infinite_talk.frontends.cli.main import run\n"
        "assert run(['plan', '--model', '14b', '--vram', '12']) == 0\n"
        "assert not {'torch._dynamo', 'sympy', 'transformers', 'scipy'} & set(sys.modules), 'heavy'"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


def test_version_agrees_with_the_metadata():
    pyproject = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text("utf-8")
    assert f'version = "{infinite_talk.__version__}"' in pyproject
