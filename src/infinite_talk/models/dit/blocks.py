"""One block of the transformer: self-attention, text and image, speech, feed-forward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from infinite_talk.models.dit.condition import BlockCondition, Condition, Context, KeysValues
from infinite_talk.models.dit.config import DiTConfig
from infinite_talk.models.dit.ends import modulation_table
from infinite_talk.models.dit.extras import BlockExtras, Grid
from infinite_talk.models.dit.people import class_maps, query_positions
from infinite_talk.models.dit.speech import SpeechAttention
from infinite_talk.models.dit.techniques import (
    between_frames,
    cut_between,
    enhancement,
    heard_answer,
    heard_in,
    normalised,
    self_answer,
    share_of,
    shares,
)
from infinite_talk.ops.attention import AttentionCallable, exact
from infinite_talk.ops.fused import FusedOps
from infinite_talk.ops.joined import together
from infinite_talk.ops.linear import Activations, takes_float8
from infinite_talk.ops.norms import LayerNorm, RMSNorm
from infinite_talk.ops.pieces import by_pieces, cuts_of
from infinite_talk.ops.rope import Rotation, line_rotation

Rows = Callable[[slice], Activations]
"""Gives some of the rows ``(B, n, D)`` of a tensor that need not exist as a whole."""


class Attended(NamedTuple):
    """What the self-attention of a block found."""

    update: Tensor  # (B, N, D)
    maps: Tensor | None  # (B, N, P + 1): how much each token attends to each class of the first frame
    gain: Tensor | None = None  # (B, 1, 1) float32: factor of the update


class Steered(NamedTuple):
    """What ``Extras`` put on a block's cross-attention for some tokens."""

    put: BlockExtras
    against: KeysValues | None  # of the text to stay away from
    first: int  # latent frame of the first token
    last: int  # and the one after the last
    frames: int  # of the window


class SelfAttention(nn.Module):
    """All tokens of the window attend to each other, with positions in time, height and width."""

    def __init__(self, config: DiTConfig, attention: AttentionCallable, ops: FusedOps) -> None:
        super().__init__()
        self.heads = config.num_heads
        self.attention, self.ops = attention, ops
        self.q = nn.Linear(config.dim, config.dim)
        self.k = nn.Linear(config.dim, config.dim)
        self.v = nn.Linear(config.dim, config.dim)
        self.o = nn.Linear(config.dim, config.dim)
        self.norm_q = RMSNorm(config.dim, config.eps)
        self.norm_k = RMSNorm(config.dim, config.eps)
        self.joined = False

    joined: bool
    """Whether ``fuse_qkv`` has laid the weights of q, k and v in a row, so that one product may do for three."""

    def forward(
        self,
        normed: Rows,
        rotation: Rotation,
        classes: Tensor | None,
        cuts: Sequence[slice],
        grid: Grid,
        put: BlockExtras | None = None,
    ) -> Attended:
        """All tokens, asked for piece by piece -> their update and, given ``classes``, the class maps.

        Keys and values of all tokens exist at once; queries and answers, which need no other rows, do not.
        """
        if len(cuts) == 1:
            found = self._answer(*self._whole(normed(cuts[0]), rotation), classes, cuts[0], grid, put)
        else:
            k, v = by_pieces(lambda rows: self._keys_values(normed(rows), part_of(rotation, rows)), cuts)
            found = by_pieces(
                lambda rows: self._answer(
                    self._queries(normed(rows), part_of(rotation, rows)),
                    k,
                    v,
                    classes,
                    rows,
                    grid,
                    put,
                ),
                cuts,
            )
        gain = None
        if put is not None and put.enhance is not None:
            gain = enhancement(found[-1], grid[0], put.enhance)
        return Attended(found[0], None if classes is None else found[1], gain)

    def _whole(self, x: Activations, rotation: Rotation) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries and keys, and values, of all tokens at once, ``(B, N, heads, d)``."""
        three = self._together(x, self.q, self.k, self.v)
        if three is None:
            k, v = self._keys_values(x, rotation)
            return self._queries(x, rotation), k, v
        turn, heads = self.ops.rms_rotate, self.heads
        q, k = turn(three[0], self.norm_q, heads, rotation), turn(three[1], self.norm_k, heads, rotation)
        return q, k, self._split(three[2])

    def _keys_values(self, x: Activations, rotation: Rotation) -> tuple[Tensor, Tensor]:
        """Rotated keys, and values, ``(B, n, heads, d)``."""
        both = self._together(x, self.k, self.v)
        if both is None:
            k = self.ops.rms_rotate(self.k(x), self.norm_k, self.heads, rotation)
            return k, self._split(self.v(x))
        k = self.ops.rms_rotate(both[0], self.norm_k, self.heads, rotation)
        return k, self._split(both[1])

    def _together(self, x: Activations, *layers: nn.Module) -> tuple[Tensor, ...] | None:
        return together(layers, x) if self.joined and isinstance(x, Tensor) else None

    def _queries(self, x: Activations, rotation: Rotation) -> Tensor:
        """Rotated queries ``(B, n, heads, d)``."""
        return self.ops.rms_rotate(self.q(x), self.norm_q, self.heads, rotation)

    def _split(self, x: Tensor) -> Tensor:
        return torch.unflatten(x, -1, (self.heads, -1))

    def _answer(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        classes: Tensor | None,
        rows: slice,
        grid: Grid,
        put: BlockExtras | None,
    ) -> tuple[Tensor, ...]:
        """Of the tokens ``rows``: the update, the class maps if there are ``classes``, ``between_frames`` if asked."""
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        found = self_answer(q, k, v, rows, grid, put, self.attention).transpose(1, 2).flatten(2)
        out: Tensor = self.o(self.ops.total(found, None, narrow=takes_float8(self.o, dtype=found.dtype)))
        maps = () if classes is None else (class_maps(q, k, classes, exact(self.attention)),)
        apart = () if put is None or put.enhance is None else (between_frames(q, k, rows, grid),)
        return (out, *maps, *apart)


class CrossAttention(nn.Module):
    """Tokens attend to the text and, with keys of its own, to the reference picture; the answers add up."""

    def __init__(self, config: DiTConfig, attention: AttentionCallable, ops: FusedOps) -> None:
        super().__init__()
        self.heads = config.num_heads
        self.attention, self.ops = attention, ops
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

    def forward(
        self, x: Activations, text: KeysValues, image: KeysValues, steered: Steered | None = None
    ) -> Tensor:
        q = self.ops.rms_rotate(self.q(x), self.norm_q, self.heads, None).transpose(1, 2)
        told, seen = (self._asked(q, own) for own in (text, image))
        if steered is not None:
            told, seen = self._steer(q, told, seen, steered)
        out: Tensor = self.o(self.ops.total(told, seen, narrow=takes_float8(self.o, dtype=told.dtype)))
        return out

    def _steer(self, q: Tensor, told: Tensor, seen: Tensor, steered: Steered) -> tuple[Tensor, Tensor]:
        """The answers of text and of all else ``(B, n, D)``, with what is put on them."""
        put, first, last = steered.put, steered.first, steered.last
        if put.nag is not None and steered.against is not None:
            told = normalised(told, self._asked(q, steered.against), put.nag.numbers)
        for one in put.heard:
            part = heard_in(one, first, last, steered.frames)
            seen = seen + heard_answer(q, part, last - first, self.attention)
        return told, seen

    def _asked(self, q: Tensor, own: KeysValues) -> Tensor:
        """Answers ``(B, n, D)``. Keys and values of one sample are those of all."""
        if not own.k.shape[2]:  # no features of a picture: kernels are not made for no keys at all
            return torch.zeros_like(q.transpose(1, 2).flatten(2))
        k, v = (part.expand(q.shape[0], -1, -1, -1) for part in own)
        return self.attention(q, k, v).transpose(1, 2).flatten(2)

    def _split(self, x: Tensor) -> Tensor:
        return torch.unflatten(x, -1, (self.heads, -1)).transpose(1, 2)  # (B, heads, L, d)


class Block(nn.Module):
    """Modulated self-attention, plain cross-attentions, modulated feed-forward, each added to the stream."""

    def __init__(self, config: DiTConfig, attention: AttentionCallable, ops: FusedOps) -> None:
        super().__init__()
        self.config, self.ops = config, ops
        self.self_attn = SelfAttention(config, attention, ops)
        self.norm3 = LayerNorm(config.dim, eps=config.eps)
        self.cross_attn = CrossAttention(config, attention, ops)
        self.norm_x = LayerNorm(config.dim, eps=config.eps)
        self.audio_cross_attn = SpeechAttention(config, attention, ops)
        self.ffn = nn.Sequential(
            nn.Linear(config.dim, config.ffn_dim),
            nn.GELU(approximate="tanh"),
            nn.Linear(config.ffn_dim, config.dim),
        )
        self.modulation = modulation_table(6, config.dim)
        self.rows_at_once: int | None = None

    def forward(
        self,
        x: Tensor,
        e0: Tensor,
        condition: Condition,
        own: BlockCondition,
        attended: Attended | None = None,
        put: BlockExtras | None = None,
    ) -> Tensor:
        """Advance the stream.

        Args:
            x: tokens ``(B, N, D)``.
            e0: modulation of the time step, float32 ``(B, 6, D)``.
            own: this block's keys and values, of ``keys_values``.
            attended: what ``attend`` says, if it is known already.
            put: what is put on this block.
        """
        update, maps, gain = attended or self.attend(x, e0, condition, put)
        who = self._who(maps)
        frames, rows, columns = condition.grid
        at = self._modulations(e0, condition, put)
        against = None if put is None or put.nag is None else self.text_keys_values(put.nag.text)
        texts = self._texts(own, put)

        def rest(piece: slice) -> tuple[Tensor]:
            first, last = piece.start // (rows * columns), -(-piece.stop // (rows * columns))
            m = at(piece)
            amount = m[2] if gain is None else m[2] * gain
            steered = None if put is None else Steered(put, against, first, last, frames)
            text = texts[0 if len(texts) == 1 else share_of(piece, condition.grid, len(texts))[0]]
            y, h = self.ops.add_norm(
                *(x[:, piece], update[:, piece], amount),
                *(self.norm3.weight, self.norm3.bias, self.norm3.eps),
                narrow=takes_float8(self.cross_attn.q, dtype=x.dtype),
            )
            y, h = self.ops.add_norm(
                *(y, self.cross_attn(h, text, own.image, steered), None),
                *(self.norm_x.weight, self.norm_x.bias, self.norm_x.eps),
                own=True,
            )
            speech = frames_of(own.speech, first, last, frames)
            voices = None if who is None else part_of(who, piece)
            said = self.audio_cross_attn(h, speech, last - first, voices)
            if put is not None and put.speech_scale != 1:
                said = said * put.speech_scale
            y, h = self.ops.add_norm(
                *(y, said, None),
                *(m[4], m[3], self.config.eps),
                narrow=takes_float8(self.ffn[0], dtype=x.dtype),
                own=True,
            )
            del said
            inner = self.ops.gelu(self.ffn[0], h, narrow=takes_float8(self.ffn[2], dtype=x.dtype))
            del h  # each is hundreds of megabytes
            h = self.ffn[2](inner)
            del inner
            return (self.ops.add(y, h, m[5], own=True),)

        return by_pieces(rest, self._cuts(condition, put))[0]

    def attend(self, x: Tensor, e0: Tensor, condition: Condition, put: BlockExtras | None = None) -> Attended:
        """The self-attention, which sees nothing of what guidance branches differ in."""
        at, attention = self._modulations(e0, condition, put), self.self_attn
        narrow = takes_float8(attention.q, attention.k, attention.v, dtype=x.dtype)
        return cast(
            "Attended",
            attention(
                lambda rows: self.ops.norm(
                    x[:, rows], at(rows)[1], at(rows)[0], self.config.eps, narrow=narrow
                ),
                condition.rotation,
                condition.classes,
                self._cuts(condition, put),
                condition.grid,
                put,
            ),
        )

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

    def _cuts(self, condition: Condition, put: BlockExtras | None) -> tuple[slice, ...]:
        """The pieces in which the tokens are worked on."""
        frames, rows, columns = condition.grid
        cuts = cuts_of(frames, rows * columns, self.rows_at_once)
        if put is None:
            return cuts
        if put.chunks is not None:
            cuts = cut_between(cuts, shares(condition.grid, put.chunks.parts))
        return cuts if put.times is None else cut_between(cuts, put.times.spans(pixels_of(condition)))

    def _texts(self, own: BlockCondition, put: BlockExtras | None) -> list[KeysValues]:
        """The text, or that of each share of the frames."""
        if put is None or put.chunks is None or not put.chunks.texts:
            return [own.text]
        return [self.text_keys_values(text) for text in put.chunks.texts]

    def _modulations(
        self, e0: Tensor, condition: Condition, put: BlockExtras | None
    ) -> Callable[[slice], tuple[Tensor, ...]]:
        """``_modulation`` of a piece of the tokens; other times than that of the pass have their own."""
        own = self._modulation(e0)
        times = None if put is None else put.times
        if times is None:
            return lambda _: own
        several, pixels = (own, *(self._modulation(e0) for _, e0 in times.others)), pixels_of(condition)
        return lambda piece: several[times.number_at(piece, pixels)]

    def _modulation(self, e0: Tensor) -> tuple[Tensor, ...]:
        """Shift, factor and gate of the self-attention, then of the feed-forward; ``(B, 1, D)`` float32."""
        shift, scale, amount, *last = (self.modulation.float() + e0).unsqueeze(2).unbind(1)
        return shift, 1 + scale, amount, last[0], 1 + last[1], last[2]

    def _who(self, maps: Tensor | None) -> Rotation | None:
        """Rotation of the speech queries; one person needs none."""
        if maps is None:
            return None
        return line_rotation(query_positions(maps, self.config), self.config.head_dim)


def pixels_of(condition: Condition) -> int:
    """Tokens of a latent frame."""
    return condition.grid[1] * condition.grid[2]


def frames_of(speech: KeysValues, first: int, last: int, frames: int) -> KeysValues:
    """Of keys and values ``(B * T, ...)``, T being ``frames``, those of the frames ``first`` .. ``last - 1``."""
    if (first, last) == (0, frames):
        return speech
    k, v = (torch.unflatten(part, 0, (-1, frames))[:, first:last].flatten(0, 1) for part in speech)
    return KeysValues(k, v)


def part_of(rotation: Rotation, rows: slice) -> Rotation:
    """The angles of some of the tokens."""
    return Rotation(rotation.cos[..., rows, :], rotation.sin[..., rows, :])
