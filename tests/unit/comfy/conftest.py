from __future__ import annotations

import pytest

from tests.unit.comfy.stand_in import Comfy, install


@pytest.fixture
def comfy(tmp_path, monkeypatch) -> Comfy:
    return install(tmp_path / "ComfyUI", monkeypatch)
