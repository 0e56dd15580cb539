"""Reading of recorded reference cases: safetensors files whose metadata holds the configuration as JSON."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

ROOT = Path(__file__).resolve().parent.parent


def golden_dir() -> Path:
    """The folder of recorded cases: ``INFINITE_TALK_GOLDEN``, a reference folder beside the project, or our subset."""
    if chosen := os.environ.get("INFINITE_TALK_GOLDEN"):
        return Path(chosen)
    for parent in ROOT.parents:
        beside = parent / "shared" / "reference" / "golden"
        if beside.is_dir():
            return beside
    return ROOT / "tests" / "golden"


@dataclass(frozen=True)
class GoldenFile:
    """One recorded case."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.stem

    @cached_property
    def config(self) -> dict[str, Any]:
        with safe_open(self.path, "pt") as file:
            return json.loads((file.metadata() or {}).get("config", "{}"))

    @cached_property
    def keys(self) -> tuple[str, ...]:
        with safe_open(self.path, "pt") as file:
            return tuple(file.keys())

    def __getitem__(self, key: str) -> torch.Tensor:
        with safe_open(self.path, "pt") as file:
            return file.get_tensor(key)

    def __contains__(self, key: str) -> bool:
        return key in self.keys

    def tensors(self, prefix: str) -> dict[str, torch.Tensor]:
        """All tensors whose name starts with ``prefix``, without the prefix."""
        with safe_open(self.path, "pt") as file:
            return {k.removeprefix(prefix): file.get_tensor(k) for k in file.keys() if k.startswith(prefix)}  # noqa: SIM118


def cases(kind: str) -> list[GoldenFile]:
    """All recorded cases whose file name starts with ``kind``; empty when the folder holds none."""
    return [GoldenFile(path) for path in sorted(golden_dir().glob(f"{kind}*.safetensors"))]


def sibling(case: GoldenFile, name: str) -> GoldenFile:
    """Another file of the same folder (shared weights)."""
    return GoldenFile(case.path.with_name(f"{name}.safetensors"))
