"""Features by latent frame that the blocks attend to beside text and picture (FantasyTalking, FantasyPortrait)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from infinite_talk.denoise.adapters.window import OFF, WindowExtras, check_width
from infinite_talk.denoise.denoiser import Question
from infinite_talk.denoise.extras import NOTHING
from infinite_talk.denoise.guidance import Branch
from infinite_talk.errors import InputError
from infinite_talk.models.adapters.added import GivesMore
from infinite_talk.models.adapters.frames import for_latents
from infinite_talk.models.dit.condition import KeysValues
from infinite_talk.models.dit.extras import AddedAttention, Extras
from infinite_talk.sampling import WHOLE, Share


class Heard:
    """The features of a whole video.

    Args:
        adapter: has the keys' and values' weights.
        features: ``(1, T, L, C)``, L to each latent frame; afterwards nothing is heard.
        lengths: ``(T,)``: how many of the L there are, the others being zeros to be passed over. ``None``: all. The
            published programs pass over them, the node pack does not.
        heads: of the transformer.
        like: weight of the transformer's patch embedding ``(D, ...)``: its width, dtype and device.
        scale: factor of what the attention to them adds.
        dropped: guidance branches that do not hear them.

    Raises:
        InputError: not features by latent frame.
        CheckpointError: the adapter is for another transformer.
    """

    def __init__(
        self,
        adapter: GivesMore,
        features: torch.Tensor,
        *,
        heads: int,
        like: torch.Tensor,
        lengths: torch.Tensor | None = None,
        scale: float = 1.0,
        share: Share = WHOLE,
        dropped: frozenset[Branch] = frozenset(),
    ) -> None:
        if features.dim() != 4 or len(features) != 1:
            raise InputError(
                f"The features have the shape {tuple(features.shape)}; expected (1, T, L, C), L for each latent "
                "frame, as the adapter's own node makes them."
            )
        if lengths is not None and len(lengths) != features.shape[1]:
            raise InputError(
                f"There are {features.shape[1]} latent frames of features and {len(lengths)} lengths; give one each."
            )
        check_width(type(adapter).__name__, adapter.width, like)
        self._adapter, self._features, self._lengths = adapter, features, lengths
        self._heads, self._like = heads, like
        self._scale, self._share, self._dropped = scale, share, dropped

    def for_window(self, first_latent: int, latents: int) -> WindowExtras:
        """The source for the latent frames ``first_latent`` .. ``first_latent + latents - 1`` of the video."""
        if not self._scale:
            return OFF
        features = for_latents(self._features, first_latent, latents).to(self._like)
        everywhere = torch.full((1, self._features.shape[1]), self._features.shape[2])
        lengths = for_latents(
            everywhere if self._lengths is None else self._lengths[None], first_latent, latents
        )
        return _Window(self, features, lengths[0])

    def keys_values(self, block: int, features: torch.Tensor) -> KeysValues | None:
        """Of a block, ``(T, heads, L, d)``, for features ``(1, T, L, C)``; of the last blocks there may be none."""
        if block >= self._adapter.layers:
            return None
        return self._adapter.keys_values(block, features, self._heads)

    def added(self, features: torch.Tensor, lengths: torch.Tensor) -> AddedAttention:
        """What is put on the passes. A frame without features keeps one, zero, whose answer is zero."""
        made: dict[int, KeysValues | None] = {}  # the adapter's weights are visited once in a window

        def of_block(block: int) -> KeysValues | None:
            if block not in made:
                made[block] = self.keys_values(block, features)
            return made[block]

        most = features.shape[2]
        there = torch.arange(most)[None] < lengths.clamp(min=1)[:, None]
        mask = None if bool((lengths >= most).all()) else there.to(features.device)
        return AddedAttention(of_block=of_block, scale=self._scale, mask=mask)

    def acts(self, question: Question, steps: int) -> bool:
        """Whether a question is asked with them."""
        return question.branch not in self._dropped and self._share.holds(question.step, steps)


class _Window:
    """Features of one window."""

    def __init__(self, whole: Heard, features: torch.Tensor, lengths: torch.Tensor) -> None:
        self._whole, self._features, self._lengths = whole, features, lengths
        self._put = Extras(heard=(whole.added(features, lengths),))

    def extras(self, latent: torch.Tensor, question: Question, steps: int) -> Extras:  # noqa: ARG002
        return self._put if self._whole.acts(question, steps) else NOTHING

    def forget(self) -> None:
        pass

    def at(self, places: Sequence[int]) -> WindowExtras:
        chosen = list(places)
        return _Window(self._whole, self._features[:, chosen], self._lengths[chosen])
