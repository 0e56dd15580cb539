"""Packed weights: what goes in comes out, and a packed layer is its plain twin."""

import pytest
import torch
from torch import nn

from infinite_talk.ops.linear import Packed, PackedLinear
from infinite_talk.ops.linear.scaled import FP8_E4M3FN, FP8_E5M2, INT8
from infinite_talk.weights.builder import build

BOUNDS = {INT8: 0.01, FP8_E4M3FN: 0.03, FP8_E5M2: 0.06}


@pytest.mark.parametrize("kind", BOUNDS, ids=lambda kind: kind.name)
def test_a_packed_layer_is_a_product_with_the_unpacked_weight(kind):
    weight, x, bias = torch.randn(24, 32), torch.randn(2, 5, 32), torch.randn(24)
    packed = Packed(kind, (24, 32), kind.pack(weight))
    error = (packed.unpack() - weight).norm() / weight.norm()
    assert 0 < error < BOUNDS[kind]
    layer = PackedLinear(packed, bias, torch.float32)
    torch.testing.assert_close(layer(x), x @ packed.unpack().T + bias)
    torch.testing.assert_close(layer.weight, packed.unpack())


class OnePacked:
    """A policy that packs weights of one name."""

    def store(self, name, value, dtype):
        return Packed(INT8, tuple(value.shape), INT8.pack(value)) if name == "0.weight" else value


def test_the_builder_puts_packed_layers_in_place():
    twin = nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16))
    made = build(
        lambda: nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16)), twin.state_dict(), policy=OnePacked()
    )
    assert isinstance(made[0], PackedLinear)
    assert isinstance(made[1], nn.LayerNorm)
    x = torch.randn(3, 8)
    torch.testing.assert_close(made(x), twin(x), atol=0.05, rtol=0.05)
