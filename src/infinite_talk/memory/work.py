"""``Work``: the part of a request that memory and time depend on."""

from __future__ import annotations

from dataclasses import dataclass

from infinite_talk.types import Size, latent_frames


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One window, and how many of them."""

    size: Size
    frames: int = 81
    """Video frames of a window, 4n+1."""
    motion: int = 9
    """Frames carried over from the window before, 4n+1."""
    steps: int = 40
    branches: int = 3
    """Questions to the transformer in each step, see ``denoise/guidance.py``."""
    silent: int = 1
    """Those of them that hear no speech."""
    people: int = 1
    texts: int = 2
    """Different prompts, the negative one included."""
    windows: int = 1
    first: bool = False
    """Whether the transformer is still to be loaded: then text and speech are encoded before it takes its memory."""
    remembered: int = 0
    """Streams of tokens that a step cache holds while the blocks work, see ``denoise/caches``."""
    put: float = 0.0
    """Streams of tokens that ``Extras`` hold while a block works, see ``nodes/sampling_run.py``."""
    beside: float = 0.0
    """Bytes of adapters' weights, which are on the device with the transformer."""
    before: float = 0.0
    """Bytes that adapters take for a moment before the steps of a window, when no block is at work."""
    source_branches: int = 0
    """With FlowEdit: questions about the video that is edited, whose conditions are kept beside the others."""
    source_silent: int = 0
    """Those of them that hear no speech."""
    views: int = 1
    """In how many ways a window is looked at in a step (``denoise/views.py``), each with conditions of its own."""

    @property
    def latents(self) -> int:
        """Latent frames of a window."""
        return latent_frames(self.frames)

    @property
    def places(self) -> int:
        """Positions of one latent frame."""
        height, width = self.size.latent
        return height * width

    @property
    def pixels(self) -> int:
        """Pixels of one frame."""
        return self.size.height * self.size.width

    @property
    def new_frames(self) -> int:
        """Frames that a window in the middle of a video adds."""
        return max(1, self.frames - self.motion)

    @property
    def video(self) -> float:
        """Bytes of a window's frames in float32 RGB."""
        return 12.0 * self.frames * self.pixels

    def tokens(self, patch: tuple[int, int, int] = (1, 2, 2)) -> int:
        """Tokens of a window in the transformer."""
        height, width = self.size.latent
        return (self.latents // patch[0]) * (height // patch[1]) * (width // patch[2])
