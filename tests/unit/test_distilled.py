"""The LoRA of a distilled preset: found in the models folders, recognised where it is, and missed with advice."""

from __future__ import annotations

from pathlib import Path

import pytest

from infinite_talk import Engine, Request, Speaker
from infinite_talk.errors import CheckpointError, UsageError
from infinite_talk.presets import DISTILLED
from infinite_talk.request import Distilled
from infinite_talk.settings import LoRA, ModelFiles, Settings
from infinite_talk.weights.distilled import check_distilled, with_distilled

FEW = Distilled.LIGHTX2V_4STEP
NAME = DISTILLED[FEW].loras[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    models = tmp_path / "models"
    (models / "loras").mkdir(parents=True)
    return models


def test_it_is_found_in_the_models_folders(folder: Path, tmp_path: Path) -> None:
    file = folder / "loras" / NAME
    file.write_bytes(b"x")
    other = LoRA(path=Path("other.safetensors"))
    settings = with_distilled(Settings(models_dirs=(folder,), loras=(other,)), FEW, tmp_path)
    assert settings.loras == (other, LoRA(path=file, strength=1.0))
    check_distilled(FEW, settings)
    assert with_distilled(settings, FEW, tmp_path) is settings


@pytest.mark.parametrize(
    "settings",
    [
        Settings(loras=(LoRA(path=Path("x") / NAME, strength=0.8),)),
        Settings(loras=(LoRA(path=Path(NAME.removesuffix(".safetensors").upper())),)),
        Settings(model=Path("lightx2v-4step")),
        Settings(model=Path("lightx2v-4step-lora")),
        Settings(
            files=ModelFiles(
                transformer=(Path("wan2.1_i2v_480p_scaled_fp8_e4m3_lightx2v_4step.safetensors"),)
            )
        ),
    ],
)
def test_who_has_it_needs_nothing_else(settings: Settings, tmp_path: Path) -> None:
    check_distilled(FEW, settings)
    assert with_distilled(settings, FEW, tmp_path) is settings
    with pytest.raises(UsageError):
        check_distilled(Distilled.FUSIONX_8STEP, settings)


def test_without_a_distilled_preset_nothing_is_asked_for(tmp_path: Path) -> None:
    settings = Settings()
    check_distilled(None, settings)
    assert with_distilled(settings, None, tmp_path) is settings


def test_where_it_is_missing_the_message_says_how_to_get_it(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="models pull lightx2v-lora") as missing:
        with_distilled(Settings(models_dirs=(folder,)), FEW, tmp_path)
    assert missing.value.code == "checkpoint_missing"
    with pytest.raises(CheckpointError, match="Wan14BT2VFusioniX"):
        with_distilled(Settings(), Distilled.FUSIONX_8STEP, tmp_path)


def test_two_files_of_its_name_have_to_be_told_apart(folder: Path, tmp_path: Path) -> None:
    for place in ("loras", "."):
        (folder / place / NAME).write_bytes(place.encode())
    with pytest.raises(CheckpointError, match="Several files"):
        with_distilled(Settings(models_dirs=(folder,)), FEW, tmp_path)


def test_the_engine_refuses_before_it_reads_anything() -> None:
    request = Request(image=Path("none.png"), speakers=(Speaker(audio=Path("none.wav")),), distilled=FEW)
    with pytest.raises(UsageError, match="steps 4, shift 5, guidance 1"):
        Engine().preview(request)
    with pytest.raises(UsageError, match="is not among the LoRAs"):
        Engine().write(request, Path("none.mp4"))
