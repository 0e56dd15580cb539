"""Linear layers whose weights are kept in fewer bits, and low-rank terms beside them."""

from infinite_talk.ops.linear.module import PackedLinear
from infinite_talk.ops.linear.packed import Format, Packed, Parts

__all__ = ["Format", "Packed", "PackedLinear", "Parts"]
