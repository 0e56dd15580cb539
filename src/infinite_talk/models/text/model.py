"""UMT5's encoder with its tokenizer: prompts to one vector per token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from infinite_talk.errors import CheckpointError
from infinite_talk.models.text.config import TextConfig
from infinite_talk.models.text.tokens import Tokenizer, Tokens, byte_tokenizer, tokenise

if TYPE_CHECKING:
    from transformers import UMT5EncoderModel
    from transformers.models.umt5.modeling_umt5 import UMT5DenseGatedActDense


class TextEncoder(nn.Module):
    """Prompts to vectors ``(L, D)``, L being each prompt's own number of tokens."""

    def __init__(self, config: TextConfig, tokenizer: Tokenizer | None = None) -> None:
        """``tokenizer``: needed for a vocabulary of word pieces; a model of bytes has its own."""
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer or (byte_tokenizer if config.bytes else None)
        # The encoder alone: the model around it holds the embedding a second time.
        self.model = _umt5(config).encoder
        for block in self.model.block:
            block.layer[1].DenseReluDense = FeedForward(block.layer[1].DenseReluDense)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Token numbers ``(B, L)`` to ``(B, L, D)``; ``mask`` is 1 at tokens and 0 at padding."""
        hidden: Tensor = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        return hidden

    def encode(self, texts: Sequence[str]) -> list[Tensor]:
        """Each text as ``(L, D)``, cut at ``text_len`` tokens; an empty text is the end mark alone."""
        if not texts:
            return []
        tokens = [torch.tensor(entry.ids) for entry in self.tokenise(texts)]
        ids = nn.utils.rnn.pad_sequence(tokens, batch_first=True)
        lengths = torch.tensor([len(row) for row in tokens])
        mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
        device = self.model.embed_tokens.weight.device
        hidden = self(ids.to(device), mask.to(device))
        return [row[: len(own)] for row, own in zip(hidden, tokens, strict=True)]

    def tokenise(self, texts: Sequence[str]) -> list[Tokens]:
        """The tokens of each text, and how many did not fit.

        Raises:
            CheckpointError: the model has a vocabulary of word pieces and came without its tokenizer.
        """
        if self.tokenizer is None:
            raise CheckpointError(
                f"The text encoder knows {self.config.vocab_size} pieces of words but has no tokenizer; "
                "give the tokenizer folder that was published with it.",
                code="tokenizer_missing",
            )
        return [tokenise(text, self.tokenizer, self.config.text_len) for text in texts]

    def notes(self, texts: Sequence[str]) -> tuple[str, ...]:
        """One line for each text that was cut."""
        return tuple(
            f"The text '{text[:40]}...' is too long for the model: {entry.dropped} of "
            f"{entry.dropped + len(entry.ids)} tokens at its end were left out."
            for text, entry in zip(texts, self.tokenise(texts), strict=True)
            if entry.dropped
        )


class FeedForward(nn.Module):
    """GELU-gated feed forward in the dtype of its input, around the layers of ``transformers``' own module.

    Theirs looks at its last layer's weight to learn a dtype, which would unpack a packed weight in every call.
    """

    def __init__(self, original: UMT5DenseGatedActDense) -> None:
        super().__init__()
        self.wi_0 = original.wi_0
        self.wi_1 = original.wi_1
        self.wo = original.wo
        self.act = original.act

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.wo(self.act(self.wi_0(x)) * self.wi_1(x))
        return mixed


def _umt5(config: TextConfig) -> UMT5EncoderModel:
    from transformers import UMT5Config, UMT5EncoderModel  # slow to import: only where a model is built

    settings = UMT5Config(
        vocab_size=config.vocab_size,
        d_model=config.dim,
        d_kv=config.dim_attn // config.num_heads,
        d_ff=config.dim_ffn,
        num_layers=config.num_layers,
        num_heads=config.num_heads,
        relative_attention_num_buckets=config.num_buckets,
        relative_attention_max_distance=config.max_dist,
        layer_norm_epsilon=config.eps,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
    )
    return UMT5EncoderModel(settings)
