"""What one block of the transformer takes while it works."""

from __future__ import annotations

from infinite_talk.models.dit import DiTConfig


def block_workspace(config: DiTConfig, tokens: int, dtype_bytes: int, rows_at_once: int | None) -> float:
    """Bytes of a block's temporaries at its worst moment, its input not counted."""
    rows = min(rows_at_once or tokens, tokens)
    stream = tokens * config.dim * dtype_bytes
    piece = rows * config.dim
    whole = rows * config.dim * (2 * dtype_bytes + 16)
    if rows == tokens:
        return float(2 * stream + whole)
    return float(5 * stream + max(16 * piece, 2 * rows * config.ffn_dim * dtype_bytes))
