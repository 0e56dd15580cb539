"""How adapters (``models/adapters``) act in a run: each makes, window by window, what is put on the passes.

A run's object (``Poses``, ``Heard``, ``GuideVideo``) knows the whole video. Its ``for_window`` gives the source of
``Extras`` of one window, and that one's ``at`` the source for some of its latent frames (context windows). With a
strength of 0 nothing is put on any pass.
"""

from infinite_talk.denoise.adapters.guide import GuideVideo, fitted, frames_from
from infinite_talk.denoise.adapters.heard import Heard
from infinite_talk.denoise.adapters.poses import Poses
from infinite_talk.denoise.adapters.window import OFF, WindowExtras

__all__ = ["OFF", "GuideVideo", "Heard", "Poses", "WindowExtras", "fitted", "frames_from"]
