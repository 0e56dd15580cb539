"""ComfyUI as the host of the nodes: its model folders, its device, its progress bar, its interrupt."""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from infinite_talk import Device, Phase, Progress, Settings
from infinite_talk.nodes.host import ComfyFolders, Host

_log = logging.getLogger(__name__)


class Bar:
    """Shows the events of one run of a node in ComfyUI, and stops it when ComfyUI is interrupted.

    ComfyUI's bar belongs to the node that runs when it is made, so each run has its own. It counts steps over all
    windows. An interrupt raises ComfyUI's own exception within a step.
    """

    def __init__(self) -> None:
        self._bar: Any = None
        self._total = 0
        self._made_room = False

    def __call__(self, event: Progress) -> None:
        management = import_module("comfy.model_management")
        management.throw_exception_if_processing_interrupted()
        if event.note:
            _log.info(event.note)
        if event.phase is Phase.LOADING and not self._made_room:
            management.unload_all_models()  # ours are planned by the memory that is free
            management.soft_empty_cache()
            self._made_room = True
        if event.steps and event.windows:
            self._show(event.window * event.steps + event.step, event.windows * event.steps)

    def _show(self, done: int, total: int) -> None:
        if self._bar is None or total != self._total:
            self._bar, self._total = import_module("comfy.utils").ProgressBar(total), total
        self._bar.update_absolute(min(done, total), total)


def comfy_host() -> Host:
    """A host for one run of a node."""
    folder_paths = sys.modules["folder_paths"]
    return Host(
        places=ComfyFolders(folder_paths),
        settings=comfy_settings(),
        listen=Bar(),
        text_cache=Path(folder_paths.get_user_directory()) / "infinite_talk" / "texts",
    )


def comfy_settings() -> Settings:
    """The device that ComfyUI was started with."""
    device = import_module("comfy.model_management").get_torch_device()
    return Settings(device=Device.CPU if device.type == "cpu" else Device.CUDA)
