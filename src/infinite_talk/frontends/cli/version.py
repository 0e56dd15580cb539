"""``infinite-talk version``: read from package metadata, so that nothing heavy is imported."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed

from infinite_talk import __version__

from .talk import Run

STANDS_ON = ("torch", "transformers", "safetensors", "numpy", "av", "pillow", "soxr")


def version(run: Run) -> int:
    """Print versions."""
    parts = {"infinite-talk": __version__, "python": platform.python_version()}
    parts |= {name: _version_of(name) for name in STANDS_ON}
    run.result(
        {"ok": True, "versions": parts}, "\n".join(f"{name} {number}" for name, number in parts.items())
    )
    return 0


def _version_of(name: str) -> str:
    try:
        return installed(name)
    except PackageNotFoundError:
        return "missing"
