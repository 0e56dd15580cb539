"""``WanTransformer``: Wan2.1 image-to-video with InfiniteTalk's speech branch; predicts ``noise - data``.

Parameter names are those of the published checkpoints. The work is split by how often it has to be done:
``condition`` once per window, ``forward`` once per denoising step. ``forward`` in turn is ``embed``,
``blocks_forward`` and ``head_forward``, which a step cache calls one by one.

The residual stream has the dtype of the parameters; time embedding, modulation, norms and head are float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infinite_talk.models.dit.blocks import Attended, Block
from infinite_talk.models.dit.condition import BlockCondition, Condition, ConditionCache, once
from infinite_talk.models.dit.config import DiTConfig
from infinite_talk.models.dit.ends import Head, ImageEmbedding, linear_float32, sinusoid
from infinite_talk.models.dit.extras import begin_alike
from infinite_talk.models.dit.parts import context_of, keys_values_of, padded, parts_of
from infinite_talk.models.dit.people import class_weights, voice_rotation
from infinite_talk.models.dit.speech import SpeechProjection
from infinite_talk.models.dit.techniques import cut_between
from infinite_talk.ops.attention import AttentionCallable, sdpa
from infinite_talk.ops.fused import EAGER, FusedOps
from infinite_talk.ops.pieces import by_pieces, cuts_of
from infinite_talk.ops.rope import grid_rotation
from infinite_talk.sampling import Positions

UNCHANGED = Positions()
"""Positions as in training."""
TimeEmbedding = tuple[Tensor, Tensor]
"""``e`` (B, D) for the head and ``e0`` (B, 6, D) for the blocks, float32."""


class WanTransformer(nn.Module):
    """The video transformer.

    Args:
        config: sizes.
        attention: kernel for every attention of the model, see ``ops/attention``.
        ops: what the blocks do between their matrix products, see ``ops/fused``.
    """

    def __init__(self, config: DiTConfig, attention: AttentionCallable = sdpa, ops: FusedOps = EAGER) -> None:
        super().__init__()
        self.config = config
        dim = config.dim
        self.patch_embedding = nn.Conv3d(config.in_dim, dim, config.patch_size, stride=config.patch_size)
        self.text_embedding = nn.Sequential(
            nn.Linear(config.text_dim, dim), nn.GELU(approximate="tanh"), nn.Linear(dim, dim)
        )
        self.time_embedding = nn.Sequential(nn.Linear(config.freq_dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))
        self.blocks = nn.ModuleList(Block(config, attention, ops) for _ in range(config.num_layers))
        self.head = Head(config)
        self.img_emb = ImageEmbedding(config)
        self.audio_proj = SpeechProjection(config)
        self.keep_keys_values = True
        self._rows_at_once: int | None = None

    keep_keys_values: bool
    """Whether ``condition`` computes the keys and values of all blocks, or each block its own at each step.

    At full size one window's keys and values are 1.2 GB for each guidance branch (bfloat16, one person: 512
    rows of text, 257 of the picture, 21 x 32 of speech, all 5120 wide and twice in 40 blocks), and the
    reference's tokens 0.3 GB more. Computing them anew is 0.2 % of a block's work at 32,760 tokens, and
    ``condition`` then does not visit the blocks, which have to be fetched if they are streamed. A model with
    few tokens keeps them.
    """

    @property
    def rows_at_once(self) -> int | None:
        """Tokens that are worked on at a time where each is treated alike; ``None`` is all. Not for training."""
        return self._rows_at_once

    @rows_at_once.setter
    def rows_at_once(self, rows: int | None) -> None:
        self._rows_at_once = rows
        for block in self.blocks.children():  # not an iteration, which would bring streamed blocks here
            cast("Block", block).rows_at_once = rows

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the residual stream. Patch embeddings are never quantised, so their dtype tells."""
        return self.patch_embedding.weight.dtype

    # Once per window

    def condition(
        self,
        text: Tensor | Sequence[Tensor],
        image: Tensor,
        speech: Tensor | None,
        token_masks: Tensor | None,
        reference: Tensor,
        shared: ConditionCache | None = None,
        positions: Positions = UNCHANGED,
    ) -> Condition:
        """Compute what all steps of a window share. Differentiable.

        Args:
            text: features ``(B, L, text_dim)`` or B of ``(L, text_dim)``, ``L <= text_len``.
            image: CLIP features ``(B, clip_tokens, clip_dim)``.
            speech: windows ``(B, P, F, audio_window, audio_blocks, audio_channels)``, ``F = 4 (T - 1) + 1``;
                ``None`` is the null condition: one person, all zeros.
            token_masks: ``(B, P + 1, h, w)`` or ``(P + 1, h, w)``, each person, then the background, on the
                latent grid; not read for one person.
            reference: mask and latent channels of the reference picture ``(B, in_dim - out_dim, T, h, w)``.
            shared: what other conditions of the run have made, and where the parts of this one are kept.
            positions: changes of the tokens' positions.
        """
        config, kept = self.config, self.keep_keys_values
        grid = self._grid(reference)
        people = 1 if speech is None else speech.shape[1]
        voices = None
        if people > 1:
            make = partial(voice_rotation, people, config, reference.device)
            voices = once(shared, f"voices {people}", make)
        parts = parts_of(self, text, image, speech, voices, reference)
        embed = partial(self._embed_reference, reference)
        turned = partial(
            grid_rotation,
            *(grid, config.head_dim, reference.device),
            *(positions.riflex, positions.ntk),
        )
        return Condition(
            blocks=keys_values_of(self._blocks(), parts, shared) if kept else (),
            context=None if kept else context_of(parts, voices, shared),
            reference=once(shared, "reference", embed, reference) if kept else reference,
            rotation=once(shared, f"rotation {grid} {positions}", turned),
            classes=self._classes(token_masks, people, reference, grid, shared),
            grid=grid,
            people=people,
        )

    def embed_text(self, text: Tensor | Sequence[Tensor]) -> Tensor:
        """Text as ``condition`` takes it -> ``(B, text_len, D)``, for ``Extras``."""
        tokens: Tensor = self.text_embedding(padded(text, self.config).to(self.dtype))
        return tokens

    # Once per step

    def forward(
        self, latent: Tensor, timestep: Tensor, condition: Condition, time: TimeEmbedding | None = None
    ) -> Tensor:
        """Velocity ``(B, out_dim, T, h, w)`` float32 of a noisy latent of that shape.

        Args:
            timestep: ``(B,)``, 0 (data) .. 1000 (noise), may be fractional and differ between samples.
            time: ``embed_time`` of it, if that is known already.
        """
        e, e0 = self.embed_time(timestep) if time is None else time
        # No name for the tokens in between: it would keep them alive while the blocks work on others.
        return self.head_forward(
            self.blocks_forward(self.embed(latent, condition), e0, condition), e, condition
        )

    def forward_branches(
        self,
        latent: Tensor,
        timestep: Tensor,
        conditions: Sequence[Condition],
        time: TimeEmbedding | None = None,
    ) -> list[Tensor]:
        """``forward`` of one latent under several conditions that have the reference picture in common.

        Their tokens are the same until the first block's cross-attention, so all before is computed once, unless
        ``Extras`` tell them apart. Then they pass through each block one after another, so that a streamed block is
        fetched once for all.
        """
        e, e0 = self.embed_time(timestep) if time is None else time
        together = begin_alike(conditions)
        if together:
            tokens = self.embed(latent, conditions[0])
            streams = [tokens] * len(conditions)
            del tokens
        else:
            streams = [self.embed(latent, condition) for condition in conditions]
        for i, block in enumerate(self._blocks()):
            shared: Sequence[Attended | None] = [None] * len(conditions)
            if together and i == 0:
                shared = self._attend_together(block, streams[0], e0, conditions)
            for branch, condition in enumerate(conditions):
                streams[branch] = self._advance(block, i, streams[branch], e0, condition, shared[branch])
            del shared
        return [self.head_forward(streams.pop(0), e, condition) for condition in conditions]

    def embed_time(self, timestep: Tensor) -> TimeEmbedding:
        """Time embedding ``e`` (B, D) for the head and ``e0`` (B, 6, D) for the blocks, float32."""
        with torch.autocast(timestep.device.type, enabled=False):
            first, act, second = self.time_embedding
            e = linear_float32(second, act(linear_float32(first, sinusoid(timestep, self.config.freq_dim))))
            act, project = self.time_projection
            e0 = torch.unflatten(linear_float32(project, act(e)), -1, (6, -1))
        return e, e0

    def modulation(self, timestep: Tensor) -> Tensor:
        """``e0`` (B, 6, D): how the blocks are modulated at ``timestep``; what step caches compare."""
        return self.embed_time(timestep)[1]

    def embed(self, latent: Tensor, condition: Condition) -> Tensor:
        """Noisy latent ``(B, out_dim, T, h, w)`` -> tokens ``(B, N, D)``, reference picture included."""
        weight = self.patch_embedding.weight[:, : self.config.out_dim]
        tokens = self._embed_patches(latent, weight, None)
        kept = condition.context is None
        tokens = tokens + (condition.reference if kept else self._embed_reference(condition.reference))
        extras = condition.extras
        if extras is None or extras.tokens is None:
            return tokens
        return tokens + extras.tokens.to(tokens.dtype)

    def blocks_forward(self, tokens: Tensor, e0: Tensor, condition: Condition) -> Tensor:
        """Run all blocks over the tokens ``(B, N, D)``."""
        for i, block in enumerate(self._blocks()):
            tokens = self._advance(block, i, tokens, e0, condition)
        return tokens

    def head_forward(self, tokens: Tensor, e: Tensor, condition: Condition) -> Tensor:
        """Tokens ``(B, N, D)`` -> velocity ``(B, out_dim, T, h, w)`` float32."""
        frames, rows, columns = condition.grid
        cuts, at = cuts_of(frames, rows * columns, self.rows_at_once), partial(_time_at, e, condition)
        if condition.extras is not None and condition.extras.times is not None:
            cuts = cut_between(cuts, condition.extras.times.spans(rows * columns))
        (patches,) = by_pieces(lambda piece: (self.head(tokens[:, piece], at(piece)),), cuts)
        shape = (*self.config.patch_size, self.config.out_dim)
        parts = torch.unflatten(torch.unflatten(patches, -1, shape), 1, condition.grid)
        # (B, T, H, W, pt, ph, pw, C) -> (B, C, T, pt, H, ph, W, pw)
        return parts.permute(0, 7, 1, 4, 2, 5, 3, 6).flatten(6, 7).flatten(4, 5).flatten(2, 3)

    # Start of training

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Initial weights of training: Xavier for linear maps, small normal for embeddings, zero output."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight, generator=generator)
                nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.patch_embedding.weight.flatten(1), generator=generator)
        if self.patch_embedding.bias is not None:
            nn.init.zeros_(self.patch_embedding.bias)
        for layer in (*self.text_embedding, *self.time_embedding):
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.02, generator=generator)
        for name, parameter in self.named_parameters():
            if name.endswith("modulation"):
                nn.init.normal_(parameter, std=self.config.dim**-0.5, generator=generator)
        nn.init.zeros_(self.head.head.weight)

    # Parts of the above

    def _advance(
        self,
        block: Block,
        i: int,
        x: Tensor,
        e0: Tensor,
        condition: Condition,
        attended: Attended | None = None,
    ) -> Tensor:
        """Tokens ``(B, N, D)`` through block ``i``, with what ``Extras`` put on it."""
        extras = condition.extras
        if extras is None:
            advanced: Tensor = block(x, e0, condition, self._own(block, i, condition), attended)
            return advanced
        if i in extras.skip:
            return x
        own, put = self._own(block, i, condition), extras.of_block(i)
        advanced = block(x, e0, condition, own, attended, put)
        more = None if extras.after is None else extras.after(i)
        return advanced if more is None else advanced + more.to(advanced.dtype)

    def _own(self, block: Block, i: int, condition: Condition) -> BlockCondition:
        """What block ``i`` attends to."""
        context = condition.context
        return condition.blocks[i] if context is None else block.keys_values(context)

    def _attend_together(
        self, block: Block, tokens: Tensor, e0: Tensor, conditions: Sequence[Condition]
    ) -> list[Attended]:
        """One self-attention for all conditions; class maps only for those with several people."""
        most = max(conditions, key=lambda condition: condition.people)
        put = None if most.extras is None else most.extras.of_block(0)
        found = block.attend(tokens, e0, most, put)
        return [found if c.people == most.people else found._replace(maps=None) for c in conditions]

    def _blocks(self) -> Iterable[Block]:
        return cast("Iterable[Block]", self.blocks)

    def _embed_patches(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Patches of ``(B, C, T, h, w)`` through weights (D, C, pt, ph, pw): a convolution as matmul."""
        pt, ph, pw = self.config.patch_size
        B, C, T, H, W = x.shape
        parts = x.to(self.dtype).reshape(B, C, T // pt, pt, H // ph, ph, W // pw, pw)
        patches = parts.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4).flatten(1, 3)  # (B, N, C * pt * ph * pw)
        return F.linear(patches, weight.flatten(1), bias).to(self.dtype)

    def _embed_reference(self, reference: Tensor) -> Tensor:
        weight = self.patch_embedding.weight[:, self.config.out_dim :]
        return self._embed_patches(reference, weight, self.patch_embedding.bias)

    def _grid(self, reference: Tensor) -> tuple[int, int, int]:
        """Tokens in time, height and width; shapes that do not divide into patches are our mistake."""
        (pt, ph, pw), (frames, height, width) = self.config.patch_size, reference.shape[2:]
        if reference.shape[1] != self.config.reference_dim or frames % pt or height % ph or width % pw:
            raise ValueError(
                f"the reference must be (B, {self.config.reference_dim}, T, h, w) in multiples of "
                f"{(pt, ph, pw)}, not {tuple(reference.shape)}"
            )
        return frames // pt, height // ph, width // pw

    def _classes(
        self,
        token_masks: Tensor | None,
        people: int,
        reference: Tensor,
        grid: tuple[int, int, int],
        shared: ConditionCache | None,
    ) -> Tensor | None:
        if people == 1:
            return None
        if token_masks is None or token_masks.shape[-3] != people + 1:
            shape = None if token_masks is None else tuple(token_masks.shape)
            raise ValueError(f"{people} people need token masks (B, {people + 1}, h, w), not {shape}")
        batch = reference.shape[0]
        masks = token_masks.to(reference.device).expand(batch, -1, -1, -1)
        make: Callable[[], Tensor] = partial(class_weights, masks, *grid[1:])
        return once(shared, f"classes {batch}", make, token_masks)


def _time_at(e: Tensor, condition: Condition, piece: slice) -> Tensor:
    """The time embedding ``(B, D)`` of a piece of the tokens."""
    times = None if condition.extras is None else condition.extras.times
    if times is None:
        return e
    number = times.number_at(piece, condition.grid[1] * condition.grid[2])
    return e if number == 0 else times.others[number - 1][0]
