"""Linear layers whose weights are kept in fewer bits, and low-rank terms beside them."""

from infinite_talk.ops.linear.module import PackedLinear, takes_float8
from infinite_talk.ops.linear.packed import Format, Packed, Parts
from infinite_talk.ops.linear.rows import Activations, Float8Rows

__all__ = ["Activations", "Float8Rows", "Format", "Packed", "PackedLinear", "Parts", "takes_float8"]
