"""One block of the transformer: self-attention, text and image, speech, feed-forward."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from infinite_talk.models.dit.condition import BlockCondition, Condition, Context, KeysValues
from infinite_talk.models.dit.config import DiTConfig
from infinite_talk.models.dit.people import class_maps, query_positions
from infinite_talk.models.dit.speech import SpeechAttention
from infinite_talk.ops.attention import AttentionCallable, exact
from infinite_talk.ops.norms import LayerNorm, RMSNorm, layer_norm
from infinite_talk.ops.pieces import by_pieces, cuts_of
from infinite_talk.ops.rope import Rotation, line_rotation, rotate

Rows = Callable[[slice], Tensor]
"""Gives some of the rows ``(B, n, D)`` of a tensor that need not exist as a whole."""


class SelfAttention(nn.Module):
    """All tokens of the window attend to each other, with positions in time, height and width."""

    def __init__(self, config: DiTConfig, attention: AttentionCallable) -> None:
        super().__init__()
        self.heads = config.num_heads
        self.attention = attention
        self.q = nn.Linear(config.dim, config.dim)
        self.k = nn.Linear(config.dim, config.dim)
        self.v = nn.Linear(config.dim, config.dim)
        self.o = nn.Linear(config.dim, config.dim)
        self.norm_q = RMSNorm(config.dim, config.eps)
        self.norm_k = RMSNorm(config.dim, config.eps)

    def forward(
        self, normed: Rows, rotation: Rotation, classes: Tensor | None, cuts: Sequence[slice]
    ) -> tuple[Tensor, Tensor | None]:
        """All tokens, asked for piece by piece -> their update (B, N, D) and, given ``classes``, the class
        maps (B, N, P + 1).

        Keys and values of all tokens exist at once; queries and answers, which need no other rows, do not.
        """
        if len(cuts) == 1:
            whole = normed(cuts[0])
            k, v = self._keys_values(whole, rotation)
            found = self._answer(whole, rotation, k, v, classes)
        else:
            k, v = by_pieces(lambda rows: self._keys_values(normed(rows), part_of(rotation, rows)), cuts)
            found = by_pieces(
                lambda rows: self._answer(normed(rows), part_of(rotation, rows), k, v, classes), cuts
            )
        return found[0], None if classes is None else found[1]

    def _keys_values(self, x: Tensor, rotation: Rotation) -> tuple[Tensor, Tensor]:
        """Rotated keys and values, ``(B, n, heads, d)``."""
        return rotate(self._split(self.norm_k(self.k(x))), rotation), self._split(self.v(x))

    def _answer(
        self, x: Tensor, rotation: Rotation, k: Tensor, v: Tensor, classes: Tensor | None
    ) -> tuple[Tensor, ...]:
        q = rotate(self._split(self.norm_q(self.q(x))), rotation).transpose(1, 2)
        k, v = k.transpose(1, 2), v.transpose(1, 2)
        out: Tensor = self.o(self.attention(q, k, v).transpose(1, 2).flatten(2))
        return (out,) if classes is None else (out, class_maps(q, k, classes, exact(self.attention)))

    def _split(self, x: Tensor) -> Tensor:
        return torch.unflatten(x, -1, (self.heads, -1))  # (B, N, heads, d)


class CrossAttention(nn.Module):
    """Tokens attend to the text and, with keys of its own, to the reference picture; the answers add up."""

    def __init__(self, config: DiTConfig, attention: AttentionCallable) -> None:
        super().__init__()
        self.heads = config.num_heads
        self.attention = attention
        self.q = nn.Linear(config.dim, config.dim)
        self.k = nn.Linear(config.dim, config.dim)
        self.v = nn.Linear(config.dim, config.dim)
        self.o = nn.Linear(config.dim, config.dim)
        self.norm_q = RMSNorm(config.dim, config.eps)
        self.norm_k = RMSNorm(config.dim, config.eps)
        self.k_img = nn.Linear(config.dim, config.dim)
        self.v_img = nn.Linear(config.dim, config.dim)
        self.norm_k_img = RMSNorm(config.dim, config.eps)

    def text_keys_values(self, text: Tensor) -> KeysValues:
        """Keys and values ``(B, heads, L, d)`` of embedded text ``(B, L, D)``."""
        return KeysValues(self._split(self.norm_k(self.k(text))), self._split(self.v(text)))

    def image_keys_values(self, image: Tensor) -> KeysValues:
        """Keys and values ``(B, heads, L, d)`` of embedded image features ``(B, L, D)``."""
        return KeysValues(self._split(self.norm_k_img(self.k_img(image))), self._split(self.v_img(image)))

    def forward(self, x: Tensor, text: KeysValues, image: KeysValues) -> Tensor:
        q = self._split(self.norm_q(self.q(x)))
        found = self.attention(q, text.k, text.v) + self.attention(q, image.k, image.v)
        out: Tensor = self.o(found.transpose(1, 2).flatten(2))
        return out

    def _split(self, x: Tensor) -> Tensor:
        return torch.unflatten(x, -1, (self.heads, -1)).transpose(1, 2)  # (B, heads, L, d)


class Block(nn.Module):
    """Modulated self-attention, plain cross-attentions, modulated feed-forward, each added to the stream."""

    def __init__(self, config: DiTConfig, attention: AttentionCallable) -> None:
        super().__init__()
        self.config = config
        self.self_attn = SelfAttention(config, attention)
        self.norm3 = LayerNorm(config.dim, eps=config.eps)
        self.cross_attn = CrossAttention(config, attention)
        self.norm_x = LayerNorm(config.dim, eps=config.eps)
        self.audio_cross_attn = SpeechAttention(config, attention)
        self.ffn = nn.Sequential(
            nn.Linear(config.dim, config.ffn_dim),
            nn.GELU(approximate="tanh"),
            nn.Linear(config.ffn_dim, config.dim),
        )
        self.modulation = nn.Parameter(torch.randn(1, 6, config.dim) / config.dim**0.5)
        self.rows_at_once: int | None = None

    def forward(self, x: Tensor, e0: Tensor, condition: Condition, own: BlockCondition) -> Tensor:
        """Advance the stream.

        Args:
            x: tokens ``(B, N, D)``.
            e0: modulation of the time step, float32 ``(B, 6, D)``.
            own: this block's keys and values, of ``keys_values``.
        """
        frames, rows, columns = condition.grid
        cuts = cuts_of(frames, rows * columns, self.rows_at_once)
        m = (self.modulation.float() + e0).unsqueeze(2).unbind(1)  # six of (B, 1, D), float32
        eps = self.config.eps
        update, maps = self.self_attn(
            lambda piece: modulate(x[:, piece], m[0], m[1], eps), condition.rotation, condition.classes, cuts
        )
        who = self._who(maps)

        def rest(piece: slice) -> tuple[Tensor]:
            y = gate(x[:, piece], update[:, piece], m[2])
            y = y + self.cross_attn(self.norm3(y), own.text, own.image)
            first, last = piece.start // (rows * columns), -(-piece.stop // (rows * columns))
            voices = None if who is None else part_of(who, piece)
            speech = frames_of(own.speech, first, last, frames)
            y = y + self.audio_cross_attn(self.norm_x(y), speech, last - first, voices)
            return (gate(y, self.ffn(modulate(y, m[3], m[4], eps)), m[5]),)

        return by_pieces(rest, cuts)[0]

    def keys_values(self, context: Context) -> BlockCondition:
        """What this block attends to."""
        return BlockCondition(
            text=self.text_keys_values(context.text),
            image=self.image_keys_values(context.image),
            speech=self.speech_keys_values(context.speech, context.voices),
        )

    def text_keys_values(self, text: Tensor) -> KeysValues:
        """Of embedded text ``(B, L, D)``."""
        return self.cross_attn.text_keys_values(text)

    def image_keys_values(self, image: Tensor) -> KeysValues:
        """Of embedded image features ``(B, L, D)``."""
        return self.cross_attn.image_keys_values(image)

    def speech_keys_values(self, speech: Tensor, voices: Rotation | None) -> KeysValues:
        """Of speech tokens ``(B, T, L, output_dim)``."""
        return self.audio_cross_attn.keys_values(speech, voices)

    def _who(self, maps: Tensor | None) -> Rotation | None:
        """Rotation of the speech queries; one person needs none."""
        if maps is None:
            return None
        return line_rotation(query_positions(maps, self.config), self.config.head_dim)


def frames_of(speech: KeysValues, first: int, last: int, frames: int) -> KeysValues:
    """Of keys and values ``(B * T, ...)``, T being ``frames``, those of the frames ``first`` .. ``last - 1``."""
    if (first, last) == (0, frames):
        return speech
    k, v = (torch.unflatten(part, 0, (-1, frames))[:, first:last].flatten(0, 1) for part in speech)
    return KeysValues(k, v)


def part_of(rotation: Rotation, rows: slice) -> Rotation:
    """The angles of some of the tokens."""
    return Rotation(rotation.cos[..., rows, :], rotation.sin[..., rows, :])


def modulate(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """Normalise, then scale and shift in float32; the dtype of ``x`` comes back."""
    return (layer_norm(x, eps).float() * (1 + scale) + shift).to(x.dtype)


def gate(x: Tensor, update: Tensor, amount: Tensor) -> Tensor:
    """``x + update * amount`` in float32; the dtype of ``x`` comes back."""
    return (x.float() + update.float() * amount).to(x.dtype)
