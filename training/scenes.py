"""Talking scenes on the fly: a drawn portrait, a stretch of speech, and the mouth that speech moves.

A bank of speech (``training.speech``) is cut into pieces of 256 frames (10.24 s). A scene lies inside one piece;
``encode_speech`` runs the speech encoder over whole pieces, so that scenes hear what inference hears.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import torch

from training import embedded
from training.portraits import (
    Identity,
    Pose,
    describe,
    identities,
    mouth_box,
    mouth_geometry,
    poses,
    render,
    still,
)
from training.speech.bank import SpeechBank, mulaw_table

PIECE = 256
"""Frames of speech encoded together."""
RESTING = (0.0, 0.5, 0.0, 0.0, 0.0, 0.0)
"""Mouth track of a closed, relaxed mouth: open, width, round, teeth, tongue, tuck."""
RENDERED_TOGETHER = 98
"""Frames drawn by one call; one shape, so that the compiled renderer is compiled once."""


@dataclass
class Scene:
    """N scenes of F frames."""

    video: torch.Tensor  # (N, F, 3, H, W) in [0, 1]
    portrait: torch.Tensor  # (N, 3, H, W): the same person at rest, as a user would bring it
    mouth: torch.Tensor  # (N, F, 6)
    mouth_box: torch.Tensor  # (N, F, 4) pixels: left, top, right, bottom
    geometry: torch.Tensor  # (N, F, 3): opening and width in picture heights, rounding
    text: torch.Tensor  # (N, L) byte tokens of a caption
    version: torch.Tensor  # (N,) which copy of the speech features
    frame: torch.Tensor  # (N,) first frame in the bank

    def part(self, index: torch.Tensor) -> Scene:
        return Scene(*(getattr(self, f.name)[index] for f in fields(self)))


class Scenes:
    """Draws scenes without end; all randomness comes from ``seed``."""

    def __init__(
        self, bank: Path, size: int, device: torch.device, *, seed: int, held_out: bool = False, compiled: bool = True
    ):  # fmt: skip
        self.size, self.device, self.held = size, device, held_out
        opened = SpeechBank.open(bank)
        pieces = len(opened.level) // (4 * PIECE)
        ticks = pieces * PIECE * 4  # of 10 ms
        sound = torch.from_numpy(opened.sound[: ticks * 160]).to(device)
        self.audio = torch.from_numpy(mulaw_table()).to(device)[sound.long()].view(pieces, PIECE * 640)
        mouth = torch.from_numpy(opened.mouth[:ticks]).to(device).float() / 255
        level = torch.from_numpy(opened.level[:ticks]).to(device).float() / 255
        self.track = mouth.view(pieces * PIECE, 4, 6).mean(1)  # a frame is the mean of its four ticks
        self.level = level.view(pieces * PIECE, 4).mean(1)
        self.pieces, self.versions = pieces, 1
        self.random = torch.Generator().manual_seed(seed)
        self.speech: torch.Tensor | None = None
        self.draw_frames = (
            torch.compile(render, dynamic=False) if compiled and device.type == "cuda" else render
        )

    def held_out(self, bank: Path) -> Scenes:
        return Scenes(bank, self.size, self.device, seed=12345, held_out=True)

    def integers(self, low: int, high: int, count: int) -> torch.Tensor:
        return torch.randint(low, high, (count,), generator=self.random).to(self.device)

    @torch.no_grad()
    def draw(self, count: int, frames: int, *, first: bool = False) -> Scene:
        """``count`` scenes; with ``first`` they begin with the portrait itself."""
        low = embedded.FIRST_HELD_OUT if self.held else 0
        seeds = self.integers(low, low + embedded.FIRST_HELD_OUT, count)
        who = identities(seeds)
        captions = describe(identities(seeds.cpu()))  # read number by number: on the GPU each read would wait
        offset = (
            torch.zeros_like(seeds) if first and self.held else self.integers(0, PIECE - frames + 1, count)
        )
        if first and not self.held:
            offset = offset * self.integers(0, 2, count)
        frame = self.integers(0, self.pieces, count) * PIECE + offset
        index = frame[:, None] + torch.arange(frames, device=self.device)
        mouth, level = self.track[index], self.level[index]
        start = 0 if first else int(torch.randint(40, 2000, (1,), generator=self.random))
        rest = torch.tensor(RESTING, device=self.device)
        if first:  # the portrait itself is the first frame: the mouth opens from rest
            ramp = torch.ones(frames, 1, device=self.device)
            ramp[:3, 0] = torch.tensor([0.0, 0.55, 0.9], device=self.device)[:frames]
            mouth = rest + (mouth - rest) * ramp
        pose = poses(seeds, frames, level, start_frame=start)
        true = mouth_geometry(who, pose, mouth, self.size)
        portrait = self.frames(who, still(seeds), rest.expand(count, 1, 6))[:, 0]
        return Scene(
            self.frames(who, pose, mouth), portrait, mouth, mouth_box(who, pose, self.size)[..., [2, 0, 3, 1]].float(),
            torch.stack((true.opening / self.size, true.width / self.size, true.rounding), -1),
            byte_tokens(captions, embedded.TEXT["text_len"]).to(self.device),
            self.integers(0, self.versions, count), frame,
        )  # fmt: skip

    def frames(self, who: Identity, pose: Pose, mouth: torch.Tensor) -> torch.Tensor:
        """Draw ``(N, F)`` frames in calls of one fixed shape."""
        n, frames = mouth.shape[:2]
        person = torch.arange(n, device=self.device).repeat_interleave(frames)
        moment = torch.arange(frames, device=self.device).repeat(n)
        out = torch.empty(n * frames, 3, self.size, self.size, device=self.device)
        for begin in range(0, n * frames, RENDERED_TOGETHER):
            wanted = torch.arange(begin, begin + RENDERED_TOGETHER, device=self.device).clamp(
                max=n * frames - 1
            )
            if self.device.type != "cuda":
                wanted = wanted.unique()
            p, m = person[wanted], moment[wanted]
            moves = Pose(**{f.name: getattr(pose, f.name)[p, m][:, None] for f in fields(Pose)})
            drawn = self.draw_frames(who[p], moves, mouth[p, m][:, None], self.size)[:, 0]
            out[begin : begin + RENDERED_TOGETHER] = drawn[: n * frames - begin]
        return out.view(n, frames, 3, self.size, self.size)

    @torch.no_grad()
    def encode_speech(self, encoder: Path | torch.nn.Module, versions: int) -> tuple[int, int]:
        """Encode the whole bank ``versions`` times (the first copy clean); returns layers and width.

        ``encoder``: the folder of a trained one, or the model itself.
        """
        from training.speech.augment import augment, normalise
        from training.speech.encoder import load

        model = load(encoder).encoder if isinstance(encoder, Path) else encoder
        model = model.to(self.device).eval()
        generator = torch.Generator(self.device).manual_seed(17)
        copies = []
        for version in range(versions):
            parts = []
            for audio in self.audio.split(48):
                heard = normalise(audio) if version == 0 else augment(audio, generator)
                parts.append(model(heard, PIECE).half())
            copies.append(torch.cat(parts))
        self.speech = torch.stack(copies)  # (V, pieces, PIECE, K, D)
        self.versions = versions
        return int(self.speech.shape[-2]), int(self.speech.shape[-1])

    def features(self, version: torch.Tensor, frame: torch.Tensor, frames: int) -> torch.Tensor:
        """Speech windows ``(N, 1, F, 5, K, D)`` of scenes: offsets -2..2, held at the ends of the piece."""
        assert self.speech is not None
        piece, offset = frame // PIECE, frame % PIECE
        centre = offset[:, None, None] + torch.arange(frames, device=self.device)[:, None]
        index = (centre + torch.arange(-2, 3, device=self.device)).clamp(0, PIECE - 1)
        return self.speech[version[:, None, None], piece[:, None, None], index].float()[:, None]

    def stretch(self, version: torch.Tensor, frame: torch.Tensor, frames: int) -> torch.Tensor:
        """Features ``(N, F, K, D)`` of whole scenes."""
        assert self.speech is not None
        index = (frame % PIECE)[:, None] + torch.arange(frames, device=self.device)
        return self.speech[version[:, None], (frame // PIECE)[:, None], index].float()

    def windows(self, speech: torch.Tensor, start: int, frames: int) -> torch.Tensor:
        """Speech windows ``(N, 1, frames, 5, K, D)`` from frame ``start`` of ``speech (N, F, K, D)``."""
        index = torch.arange(start, start + frames, device=self.device)[:, None] + torch.arange(
            -2, 3, device=self.device
        )
        return speech[:, index.clamp(0, speech.shape[1] - 1)][:, None]


def byte_tokens(texts: list[str], length: int) -> torch.Tensor:
    """UTF-8 bytes shifted past the three special tokens, end mark 1, padding 0 (the ByT5 tokenizer's rule)."""
    out = torch.zeros(len(texts), length, dtype=torch.long)
    for row, text in zip(out, texts, strict=True):
        ids = [*(b + 3 for b in text.encode()[: length - 1]), 1]
        row[: len(ids)] = torch.tensor(ids)
    return out
