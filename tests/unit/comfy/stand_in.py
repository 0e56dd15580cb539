"""As much of ComfyUI as a node pack touches: modules that remember what they were told."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from tests.contract.source import ROOT


class Interrupted(Exception):  # noqa: N818 - ComfyUI's InterruptProcessingException
    """What ComfyUI raises when someone presses cancel."""


@dataclass
class Comfy:
    """A ComfyUI with a folder of its own."""

    root: Path
    bars: list[list[int]] = field(default_factory=list)
    """For each progress bar: its total, then what was shown."""
    unloaded: int = 0
    interrupt_after: int | None = None
    """Asks for an interrupt that are let pass."""
    nodes: dict[str, type[Any]] = field(default_factory=dict)

    @property
    def custom_nodes(self) -> Path:
        return self.root / "custom_nodes"

    def add_model(self, kind: str, name: str) -> Path:
        path = self.root / "models" / kind / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        return path

    def load(self, folder: Path = ROOT) -> ModuleType:
        """Import a pack's ``__init__.py`` as ComfyUI does, and register its nodes."""
        name = str(folder).replace(".", "_x_")
        spec = importlib.util.spec_from_file_location(name, folder / "__init__.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        finally:
            del sys.modules[name]
        self.nodes.update(module.NODE_CLASS_MAPPINGS)
        return module

    def throw_exception_if_processing_interrupted(self) -> None:
        if self.interrupt_after is not None:
            if self.interrupt_after == 0:
                raise Interrupted
            self.interrupt_after -= 1


class VideoFromFile:
    """ComfyUI's VIDEO of a file."""

    def __init__(self, file: str) -> None:
        self.file = file


def install(root: Path, monkeypatch: pytest.MonkeyPatch) -> Comfy:
    """Put the modules in place for one test."""
    comfy = Comfy(root)
    comfy.custom_nodes.mkdir(parents=True)
    modules = {
        "folder_paths": _folder_paths(comfy),
        "nodes": _module("nodes", NODE_CLASS_MAPPINGS=comfy.nodes),
        "comfy": _module("comfy"),
        "comfy.utils": _module("comfy.utils", ProgressBar=_bars(comfy)),
        "comfy.model_management": _management(comfy),
        "comfy_api": _module("comfy_api"),
        "comfy_api.input_impl": _module("comfy_api.input_impl", VideoFromFile=VideoFromFile),
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return comfy


def _module(name: str, **members: Any) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(members)
    return module


def _folder_paths(comfy: Comfy) -> ModuleType:
    models = comfy.root / "models"
    kinds = ("diffusion_models", "vae", "vae_approx", "text_encoders", "clip_vision", "loras", "controlnet")
    folders = {kind: ([str(models / kind)], {".safetensors"}) for kind in (*kinds, "wav2vec2")}
    folders["custom_nodes"] = ([str(comfy.custom_nodes)], set())

    def names(kind: str) -> list[str]:
        places = [Path(place) for place in folders[kind][0]]
        return sorted(str(p.relative_to(place)) for place in places for p in place.rglob("*") if p.is_file())

    def full_path(kind: str, name: str) -> str | None:
        return next((str(Path(p) / name) for p in folders[kind][0] if (Path(p) / name).is_file()), None)

    def save_image_path(prefix: str, output: str) -> tuple[str, str, int, str, str]:
        return output, prefix, 1, "", prefix

    (comfy.root / "output").mkdir()
    return _module(
        "folder_paths",
        models_dir=str(models),
        folder_names_and_paths=folders,
        get_folder_paths=lambda kind: list(folders[kind][0]),
        get_filename_list=names,
        get_full_path=full_path,
        get_user_directory=lambda: str(comfy.root / "user"),
        get_temp_directory=lambda: str(comfy.root / "temp"),
        get_output_directory=lambda: str(comfy.root / "output"),
        get_save_image_path=save_image_path,
    )


def _bars(comfy: Comfy) -> type[Any]:
    class ProgressBar:
        def __init__(self, total: int) -> None:
            self.shown = [total]
            comfy.bars.append(self.shown)

        def update_absolute(self, value: int, total: int | None = None, preview: object = None) -> None:
            assert total == self.shown[0]
            self.shown.append(value)

    return ProgressBar


def _management(comfy: Comfy) -> ModuleType:
    def unload() -> None:
        comfy.unloaded += 1

    return _module(
        "comfy.model_management",
        throw_exception_if_processing_interrupted=comfy.throw_exception_if_processing_interrupted,
        unload_all_models=unload,
        soft_empty_cache=lambda: None,
        get_torch_device=lambda: torch.device("cpu"),
    )
