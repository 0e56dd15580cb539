"""A guide video (Uni3C): a small transformer follows it beside the large one and adds to its first blocks."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence

import torch
import torch.nn.functional as F

from infinite_talk.denoise.adapters.window import OFF, WindowExtras, check_width
from infinite_talk.denoise.denoiser import Question
from infinite_talk.denoise.extras import NOTHING
from infinite_talk.errors import InputError
from infinite_talk.models.adapters import Uni3C
from infinite_talk.models.dit.extras import Extras
from infinite_talk.sampling import WHOLE, Share


class GuideVideo:
    """A guide for all windows of a video.

    Args:
        network: comes to the latent's device when a pass begins.
        embed_time: the transformer's time embedding, times ``(B,)`` -> ``(B, D)`` (``embed_time`` of the transformer,
            the first of the two).
        strength: factor of what is added.
        offload: the network goes back to the host's memory after each of its passes.
    """

    def __init__(
        self,
        network: Uni3C,
        *,
        embed_time: Callable[[torch.Tensor], torch.Tensor],
        strength: float = 1.0,
        share: Share = WHOLE,
        offload: bool = True,
    ) -> None:
        self.network, self.strength, self.share = network, strength, share
        self._embed_time, self._offload = embed_time, offload

    def for_window(self, guide: torch.Tensor, mask: torch.Tensor) -> WindowExtras:
        """The source for a window.

        Args:
            guide: encoded frames ``(16, T, h, w)`` of the guide video in this window; see ``frames_from``, ``fitted``.
            mask: which latent frames the transformer is told to know, ``(4, T, h, w)``: the first four channels of its
                reference.

        Raises:
            InputError: the guide does not have the latent's shape, or the network takes another one.
        """
        channels = self.network.config.in_dim - 16 - mask.shape[0]
        if guide.shape != (channels, *mask.shape[1:]):
            raise InputError(
                f"The encoded guide video has the shape {tuple(guide.shape)}; expected "
                f"{(channels, *mask.shape[1:])}. Encode it at the size of the video."
            )
        return _Window(self, guide, mask) if self.strength else OFF

    def states(
        self, latent: torch.Tensor, question: Question, guide: torch.Tensor, mask: torch.Tensor
    ) -> States:
        """What is added after each block, made while the blocks run."""

        def make() -> Iterator[torch.Tensor]:
            e = self._embed_time(question.time)
            check_width("Uni3C", self.network.config.out_dim, e[0])
            self.network.to(latent.device)
            try:
                for state in self.network.states(
                    latent[None], mask.to(latent)[None], guide.to(latent)[None], e
                ):
                    yield state * self.strength
            finally:
                if self._offload:
                    self.network.to("cpu")

        return States(make, self.network.config.num_layers)


class States:
    """``Extras.after``: asked block by block, perhaps several times in a row, and again from the first.

    One state at a time is in memory. Branches that go through the blocks together share them; if they go one after
    another, the network works for each.
    """

    def __init__(self, make: Callable[[], Iterator[torch.Tensor]], layers: int) -> None:
        self._make, self._layers = make, layers
        self._states: Iterator[torch.Tensor] = iter(())
        self._at = -1
        self._state: torch.Tensor | None = None

    def __call__(self, block: int) -> torch.Tensor | None:
        if block >= self._layers:
            self._close()
            return None
        if self._state is None or block < self._at:
            self._close()
            self._states, self._at = self._make(), -1
        while self._at < block:  # a block that is left out does not ask
            self._state, self._at = next(self._states), self._at + 1
        return self._state

    def _close(self) -> None:
        """Let go of the state, and the network tidy up."""
        self._state = None
        if isinstance(self._states, Generator):
            self._states.close()


class _Window:
    def __init__(self, whole: GuideVideo, guide: torch.Tensor, mask: torch.Tensor) -> None:
        self._whole, self._guide, self._mask = whole, guide, mask
        self._last: tuple[int, torch.Tensor, Extras] | None = None

    def extras(self, latent: torch.Tensor, question: Question, steps: int) -> Extras:
        """The same for all branches of a step, which ask about one latent."""
        if not self._whole.share.holds(question.step, steps):
            return NOTHING
        if self._last is None or self._last[0] != question.step or self._last[1] is not latent:
            states = self._whole.states(latent, question, self._guide, self._mask)
            self._last = question.step, latent, Extras(after=states)
        return self._last[2]

    def forget(self) -> None:
        pass

    def at(self, places: Sequence[int]) -> WindowExtras:
        chosen = list(places)
        return _Window(self._whole, self._guide[:, chosen], self._mask[:, chosen])


def frames_from(frames: torch.Tensor, first: int, count: int) -> torch.Tensor:
    """Frames ``first`` .. ``first + count - 1`` of a video ``(3, F, H, W)``; after its end the last one stays."""
    places = torch.arange(first, first + count).clamp(max=frames.shape[1] - 1)
    return frames.index_select(1, places.to(frames.device))


def fitted(guide: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
    """An encoded guide ``(16, T, h, w)`` at another length and size ``(T, h, w)``, as the node pack does it."""
    if guide.shape[1:] == shape:
        return guide
    return F.interpolate(guide[None].float(), size=shape, mode="trilinear", align_corners=False)[0].to(guide)
