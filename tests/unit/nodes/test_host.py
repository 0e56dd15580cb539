"""Names of model files: where they are looked for, and what stands for the embedded model."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from threading import Thread
from types import ModuleType

import pytest

from infinite_talk.errors import CheckpointError
from infinite_talk.nodes.host import Host, file_names, host, hosted, install_host, locate
from infinite_talk.weights.manifest import EMBEDDED


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def test_a_name_is_found_in_the_folder_of_its_kind_below_it_and_anywhere_else(tmp_path: Path) -> None:
    models = tmp_path / "models"
    vae = put(models / "vae" / "sub" / "wan.safetensors")
    unet = put(models / "unet" / "wan.gguf")
    loose = put(models / "other" / "loose.safetensors")
    assert locate("vae", "sub/wan.safetensors") == vae
    assert locate("diffusion_models", "wan.gguf") == unet
    assert locate("vae", "loose") == loose
    assert locate("vae", str(loose)) == loose
    assert file_names("vae") == ["embedded", str(Path("sub/wan.safetensors"))]


def test_embedded_is_the_model_that_comes_along_and_may_be_all_there_is() -> None:
    assert locate("vae", "embedded") == EMBEDDED
    with hosted(replace(host(), embedded=True)):
        assert locate("diffusion_models", "Wan2_1-I2V-14B.safetensors") == EMBEDDED


def test_a_name_that_is_nowhere_says_what_is_there(tmp_path: Path) -> None:
    put(tmp_path / "models" / "vae" / "wan.safetensors")
    with pytest.raises(CheckpointError, match=r"'tae\.pth'.*wan\.safetensors.*embedded"):
        locate("vae", "tae.pth")
    put(tmp_path / "models" / "a" / "x.gguf")
    put(tmp_path / "models" / "b" / "x.gguf")
    with pytest.raises(CheckpointError, match="Several files"):
        locate("vae", "x")


def test_inside_comfyui_its_folders_are_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = put(tmp_path / "diffusion_models" / "wan.safetensors")
    module = ModuleType("folder_paths")
    module.folder_names_and_paths = {"diffusion_models": 1, "text_encoders": 1}  # type: ignore[attr-defined]
    module.get_filename_list = lambda kind: ["wan.safetensors"] if kind == "diffusion_models" else []  # type: ignore[attr-defined]
    module.get_full_path = lambda kind, name: str(file) if name == file.name else None  # type: ignore[attr-defined]
    module.get_folder_paths = lambda kind: [str(tmp_path)]  # type: ignore[attr-defined]
    module.models_dir = str(tmp_path)  # type: ignore[attr-defined]
    module.get_user_directory = lambda: str(tmp_path)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "folder_paths", module)
    found: list[Host] = []
    thread = Thread(target=lambda: found.append(host()))  # outside of the test's own host
    thread.start()
    thread.join()
    (by,) = found
    with hosted(by):
        assert file_names("diffusion_models") == ["embedded", "wan.safetensors"]
        assert locate("diffusion_models", "wan.safetensors") == file
        assert by.text_cache == tmp_path / "infinite_talk" / "texts"
        with pytest.raises(CheckpointError):
            locate("diffusion_models", "other.safetensors")
        snapshot = put(tmp_path / "transformers" / "someone" / "ear" / "model.safetensors")
        assert locate("wav2vec2", "someone/ear/model.safetensors") == snapshot
        with pytest.raises(CheckpointError):
            locate("wav2vec2", "../diffusion_models/wan.safetensors")


def test_an_installed_host_holds_in_other_threads() -> None:
    by, found = Host(), []
    install_host(by)
    try:
        thread = Thread(target=lambda: found.append(host()))
        thread.start()
        thread.join()
    finally:
        install_host(None)
    assert found == [by]
