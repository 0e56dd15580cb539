"""The nodes in ComfyUI: registered under their names, or under a prefix where another pack has those names."""

from infinite_talk.frontends.comfy.pack import load_pack

__all__ = ["load_pack"]
