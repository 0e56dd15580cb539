"""Infinite Talk as a custom node pack: clone the repository into ComfyUI's ``custom_nodes`` and start ComfyUI.

The package is taken from ``src`` beside this file, so nothing has to be installed but what ``requirements.txt`` lists;
an installed ``infinite_talk`` is used where there is no ``src``. Nothing is downloaded or installed by this import.
"""

from __future__ import annotations

import sys
from pathlib import Path

WEB_DIRECTORY = "./web"
_SOURCE = Path(__file__).resolve().parent / "src"

if "infinite_talk" not in sys.modules and _SOURCE.is_dir() and str(_SOURCE) not in sys.path:
    sys.path.insert(0, str(_SOURCE))

if "folder_paths" in sys.modules:  # inside ComfyUI; tools that merely pass by this file need no models
    from infinite_talk.frontends.comfy import load_pack

    NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS = load_pack(Path(__file__).resolve().parent)
else:
    NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS = {}, {}

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "WEB_DIRECTORY"]
