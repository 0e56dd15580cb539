"""Random weights and activations with the unevenness of a trained transformer's, on which packing depends.

Trained weights are neither normal nor even: their tails are heavier, and rows and columns have sizes of their
own. Activations are worse: after a modulated norm a few channels, the same for every token, are many times
larger than the rest (Dettmers et al., LLM.int8(), 2022; Sun et al., Massive Activations, 2024). The numbers
below are of that kind; they were not fitted to the published weights.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from infinite_talk.models.dit import DiTConfig, WanTransformer

TAIL = 6  # degrees of freedom of the weights' t distribution: 1 in 5000 is beyond five deviations
UNEVEN = 0.25  # deviation of the logarithm of row and column sizes
LOUD_CHANNELS, LOUDNESS = 0.003, 15.0  # share of the channels that are so many times larger than others
MESSAGE = (
    f"weights: t distribution with {TAIL} degrees of freedom, deviation 1/sqrt(columns), rows and columns scaled by "
    f"exp(normal * {UNEVEN}), rounded to bfloat16; activations: normal, channels scaled by exp(normal / 2), "
    f"{LOUD_CHANNELS:.1%} of them {LOUDNESS:g} times larger; before ffn.2: GELU of such"
)
"""The above in one line, for the file of results."""


def source(seed: int, device: torch.device) -> torch.Generator:
    """The only randomness of what follows."""
    return torch.Generator(device).manual_seed(seed)


def weight(rows: int, columns: int, random: torch.Generator) -> Tensor:
    """A weight ``(rows, columns)``, float32 but exact in bfloat16, in which weights are published."""
    normal = _normal((rows, columns), random)
    # A t variable is a normal one over the root of a mean of squares.
    squares = torch.zeros_like(normal)
    for _ in range(TAIL):
        squares += _normal((rows, columns), random).square_()
    normal *= squares.div_(TAIL).rsqrt_() * ((TAIL - 2) / TAIL) ** 0.5
    normal *= (_normal((rows, 1), random) * UNEVEN).exp() * (_normal((1, columns), random) * UNEVEN).exp()
    return (normal * columns**-0.5).bfloat16().float()


def activations(tokens: int, channels: int, random: torch.Generator) -> Tensor:
    """The input of a layer behind a modulated norm, ``(tokens, channels)`` float32."""
    size = (_normal((channels,), random) / 2).exp()
    loud = max(1, round(LOUD_CHANNELS * channels))
    size[torch.randperm(channels, generator=random, device=random.device)[:loud]] *= LOUDNESS
    return _normal((tokens, channels), random) * size


def hidden(tokens: int, channels: int, random: torch.Generator) -> Tensor:
    """The input of the second layer of a feed-forward network, ``(tokens, channels)`` float32."""
    return F.gelu(activations(tokens, channels, random), approximate="tanh")


def state(config: DiTConfig, random: torch.Generator) -> dict[str, Tensor]:
    """A whole transformer's weights by name; its norms and biases are those of an untrained one."""
    with torch.device(random.device):
        model = WanTransformer(config)
    model.init_weights(random)
    return {
        name: weight(*value.shape, random) if value.dim() == 2 and name.startswith("blocks.") else value
        for name, value in model.state_dict().items()
    }


def _normal(shape: tuple[int, ...], random: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=random, device=random.device)
