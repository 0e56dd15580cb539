"""Nodes run with a host that finds nothing but what a test gives; handles of the tiny model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from infinite_talk.nodes.host import Host, ModelFolders, hosted
from infinite_talk.rooms import Rooms
from infinite_talk.settings import Device, Settings
from infinite_talk.weights.bundle import load_bundle


@pytest.fixture(autouse=True)
def host(tmp_path: Path) -> Iterator[Host]:
    """Models in ``models``, texts kept in ``texts``; on the CPU."""
    by = Host(
        places=ModelFolders((tmp_path / "models",)),
        settings=Settings(device=Device.CPU),
        text_cache=tmp_path / "texts",
    )
    with hosted(by) as given:
        yield given


@pytest.fixture(scope="session")
def engine_rooms(tiny_bundle: Path) -> Rooms:
    """The engine's own models of the tiny bundle."""
    return load_bundle(tiny_bundle, torch.device("cpu"), torch.float32)


def pictures(count: int = 1, height: int = 64, width: int = 64, seed: int = 0) -> torch.Tensor:
    """An IMAGE of noise."""
    return torch.rand(count, height, width, 3, generator=torch.Generator().manual_seed(seed))
