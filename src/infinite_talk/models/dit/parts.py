"""The parts of a condition, text, picture and speech: each made once for all that share it, as tokens or as the
keys and values of all blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from infinite_talk.models.dit.blocks import Block
from infinite_talk.models.dit.condition import BlockCondition, ConditionCache, Context, KeysValues, once
from infinite_talk.models.dit.config import DiTConfig
from infinite_talk.ops.rope import Rotation

if TYPE_CHECKING:
    from infinite_talk.models.dit.model import WanTransformer


class Part(NamedTuple):
    """Text, picture or speech."""

    name: str
    embed: Callable[[], Tensor]
    sources: tuple[Tensor, ...]  # that it is made from
    keys_values: Callable[[Block, Tensor], KeysValues]


def parts_of(
    model: WanTransformer,
    text: Tensor | Sequence[Tensor],
    image: Tensor,
    speech: Tensor | None,
    voices: Rotation | None,
    reference: Tensor,
) -> tuple[Part, Part, Part]:
    """How text, picture and speech become tokens, and those keys and values; see ``WanTransformer.condition``."""

    def embed_text() -> Tensor:
        tokens: Tensor = model.text_embedding(padded(text, model.config).to(model.dtype))
        return tokens

    def embed_image() -> Tensor:
        tokens: Tensor = model.img_emb(image.to(model.dtype))
        return tokens

    def embed_speech() -> Tensor:
        heard = silence(reference, model.config) if speech is None else speech
        tokens: Tensor = model.audio_proj(heard.to(model.dtype))
        return tokens

    def speech_keys_values(block: Block, tokens: Tensor) -> KeysValues:
        return block.speech_keys_values(tokens, voices)

    texts = (text,) if isinstance(text, Tensor) else tuple(text)
    if speech is None:
        name = f"silence of {reference.shape[0]} x {reference.shape[2]} frames"
        spoken = Part(name, embed_speech, (), speech_keys_values)
    else:
        spoken = Part("speech", embed_speech, (speech,), speech_keys_values)
    return (
        Part("text", embed_text, texts, Block.text_keys_values),
        Part("image", embed_image, (image,), Block.image_keys_values),
        spoken,
    )


def context_of(parts: Sequence[Part], voices: Rotation | None, shared: ConditionCache | None) -> Context:
    """The tokens of the parts."""
    text, image, speech = (once(shared, part.name, part.embed, *part.sources) for part in parts)
    return Context(text, image, speech, voices)


def keys_values_of(
    blocks: Iterable[Block], parts: Sequence[Part], shared: ConditionCache | None
) -> tuple[BlockCondition, ...]:
    """Keys and values of the parts in all blocks.

    Those that are missing are made in one visit to each block, since a streamed block has to be fetched for it.
    """
    missing = [p for p in parts if shared is None or not shared.has(p.name, *p.sources)]
    made: dict[str, list[KeysValues]] = {part.name: [] for part in missing}
    if missing:
        tokens = [part.embed() for part in missing]
        for block in blocks:
            for part, embedded in zip(missing, tokens, strict=True):
                made[part.name].append(part.keys_values(block, embedded))
    of_blocks = [once(shared, p.name, partial(made.get, p.name, ()), *p.sources) for p in parts]
    return tuple(BlockCondition(*own) for own in zip(*of_blocks, strict=True))


def padded(text: Tensor | Sequence[Tensor], config: DiTConfig) -> Tensor:
    """Text features with zero rows up to ``text_len``; the model was trained to see the padding."""
    length = config.text_len
    rows = []
    for features in text:
        if features.shape[0] > length:
            raise ValueError(f"{features.shape[0]} rows of text, the model takes at most {length}")
        rows.append(F.pad(features, (0, 0, 0, length - features.shape[0])))
    return torch.stack(rows)


def silence(reference: Tensor, config: DiTConfig) -> Tensor:
    """What one person who says nothing is heard as, in windows of a reference ``(B, C, T, h, w)``."""
    frames = (reference.shape[2] - 1) * config.vae_scale + 1
    shape = (frames, config.audio_window, config.audio_blocks, config.audio_channels)
    return reference.new_zeros((reference.shape[0], 1, *shape))
