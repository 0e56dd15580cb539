"""Poses (UniAnimate): tokens of the pose at each place and time are added to the video's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from infinite_talk.denoise.adapters.window import OFF, WindowExtras, check_width
from infinite_talk.denoise.denoiser import Question
from infinite_talk.denoise.extras import NOTHING
from infinite_talk.errors import InputError
from infinite_talk.models.adapters import UniAnimate
from infinite_talk.models.dit.extras import Extras
from infinite_talk.sampling import WHOLE, Share

_SIDE = 16  # pixels of a token


class Poses:
    """The poses of a whole video.

    Args:
        adapter: the network, on the device and in the precision in which it is to work.
        poses: pictures of poses ``(1, 3, F, H, W)`` in 0..1, of the size of the video.
        reference: the pose of the reference picture ``(1, 3, H, W)``.
        patches: weight of the transformer's patch embedding ``(D, 36, 1, 2, 2)``; the tokens are made in its dtype.
        size: height and width of the video in pixels.

    Raises:
        InputError: the pictures are not of this size, or not of this form.
        CheckpointError: the adapter is for another transformer.
    """

    def __init__(
        self,
        adapter: UniAnimate,
        poses: torch.Tensor,
        *,
        patches: torch.Tensor,
        size: tuple[int, int],
        reference: torch.Tensor | None = None,
        strength: float = 1.0,
        share: Share = WHOLE,
    ) -> None:
        _check("The poses", poses, (1, 3, -1, *size))
        if reference is not None:
            _check("The reference pose", reference, (1, 3, *size))
        check_width("UniAnimate", adapter.config.dim, patches)
        self._adapter, self._poses, self._reference = adapter, poses, reference
        self._patches, self._strength, self._share = patches, strength, share

    @torch.inference_mode()
    def for_window(self, first_latent: int, latents: int) -> WindowExtras:
        """The source for the latent frames ``first_latent`` .. ``first_latent + latents - 1`` of the video.

        Windows may reach beyond the poses: the last one stands still there.
        """
        if not self._strength:
            return OFF
        tokens = self._adapter.tokens(self._poses, first_latent, latents).to(self._patches)
        if self._reference is not None:
            channels = self._adapter.reference(self._reference)
            tokens = tokens + self._adapter.as_tokens(channels, self._patches).repeat(1, latents, 1)
        by_frame = torch.unflatten(tokens * self._strength, 1, (latents, -1))
        return _Added(by_frame, by_frame.flatten(1, 2), self._share)


@dataclass(frozen=True, slots=True, eq=False)
class _Added:
    by_frame: torch.Tensor  # (1, T, h w, D)
    tokens: torch.Tensor  # (1, T h w, D): the same object in every pass, so that branches know they are alike
    share: Share

    def extras(self, latent: torch.Tensor, question: Question, steps: int) -> Extras:  # noqa: ARG002
        return Extras(tokens=self.tokens) if self.share.holds(question.step, steps) else NOTHING

    def forget(self) -> None:
        pass

    def at(self, places: Sequence[int]) -> WindowExtras:
        some = self.by_frame[:, list(places)]
        return _Added(some, some.flatten(1, 2), self.share)


def _check(what: str, pictures: torch.Tensor, shape: tuple[int, ...]) -> None:
    same = pictures.dim() == len(shape) and all(
        wanted in (-1, found) for wanted, found in zip(shape, pictures.shape, strict=True)
    )
    height, width = shape[-2:]
    if not same or height % _SIDE or width % _SIDE:
        wanted = ", ".join("F" if n == -1 else str(n) for n in shape)
        raise InputError(
            f"{what} have the shape {tuple(pictures.shape)}; expected ({wanted}). Resize them to the size of the "
            f"video, {width} x {height}, whose sides have to be multiples of {_SIDE}."
        )
