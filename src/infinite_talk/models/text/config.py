"""The shape of a UMT5 encoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BYTE_VOCABULARY = 384
"""ByT5: 3 special tokens, 256 bytes, 125 sentinels. No published vocabulary of word pieces has this size."""


@dataclass(frozen=True, slots=True)
class TextConfig:
    """Sizes of a UMT5 encoder under the names of the Wan2.1 program."""

    vocab_size: int
    dim: int
    dim_attn: int  # of all heads together
    dim_ffn: int
    num_heads: int
    num_layers: int
    num_buckets: int = 32  # of relative positions, own ones in every layer
    max_dist: int = 128  # distances from here on share a bucket
    eps: float = 1e-6
    text_len: int = 512  # tokens, end mark included; longer texts are cut
    bytes: bool = False  # tokens are the bytes of the text (ByT5), not pieces of words

    def __post_init__(self) -> None:
        if self.dim_attn % self.num_heads:
            raise ValueError(f"{self.num_heads} heads do not divide an attention width of {self.dim_attn}")
        if self.text_len < 1:
            raise ValueError("text_len must leave room for the end mark")

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TextConfig:
        """Read a configuration as stored beside weights; some names have two spellings.

        Raises:
            KeyError: a needed name is missing.
            ValueError: the layers share their relative positions (T5, not UMT5).
        """
        if values.get("shared_pos", False):
            raise ValueError("shared_pos is set; in UMT5 every layer has its own relative positions")
        vocab_size = int(_either(values, "vocab_size", "vocab"))
        return cls(
            vocab_size=vocab_size,
            dim=int(values["dim"]),
            dim_attn=int(values["dim_attn"]),
            dim_ffn=int(values["dim_ffn"]),
            num_heads=int(values["num_heads"]),
            num_layers=int(_either(values, "num_layers", "encoder_layers")),
            num_buckets=int(values.get("num_buckets", 32)),
            max_dist=int(values.get("max_dist", 128)),
            eps=float(values.get("eps", values.get("norm_eps", 1e-6))),
            text_len=int(values.get("text_len", 512)),
            bytes=bool(values.get("bytes", vocab_size == BYTE_VOCABULARY)),
        )


def _either(values: Mapping[str, Any], name: str, other: str) -> Any:  # noqa: ANN401 - JSON
    return values[name] if name in values else values[other]
