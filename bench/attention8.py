"""How far do float8 products and float8 attention move a block's update? One block of the published width, on a CPU.

``python -m bench.attention8``: random weights and tokens, activations in bfloat16 and float32 sums, against the same
block in float32. Products by the slow twin of ``fp8_e4m3fn_scaled_fast``; attention by a slow twin of
``flash_attn_3_fp8``: queries, keys and values in float8 with a scale for each head, with and without the means taken
out, and the weights of the values in float8 too, as that kernel has them. Keys get channels far from zero, as real ones
have.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from bench.common import parser, save
from bench.streaming import pack
from infinite_talk.models.dit import DiTConfig, WanTransformer
from infinite_talk.ops.attention import AttentionCallable, eager
from infinite_talk.ops.attention.flash8 import FEWEST_KEYS, narrowed_slowly
from infinite_talk.settings import Quantization

GRID = (5, 16, 16)
"""Latent frames, rows and columns of tokens: 1280, more than the fewest keys of the kernel."""


def attention8(*, centre: bool) -> AttentionCallable:
    """The slow twin of ``flash_attn_3_fp8``."""

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if k.shape[2] < FEWEST_KEYS:
            return eager(q, k, v)
        first = (x.transpose(1, 2) for x in (q, k, v))
        (q8, qs, _), (k8, ks, _), (v8, vs, mean) = (
            narrowed_slowly(x, centre=taken) for x, taken in zip(first, (False, centre, centre), strict=True)
        )
        wide = [(x.float() * s[:, None, :, None]).transpose(1, 2) for x, s in ((q8, qs), (k8, ks), (v8, vs))]
        scores = wide[0] @ wide[1].transpose(-1, -2) / q.shape[-1] ** 0.5
        weights = (scores - scores.amax(-1, keepdim=True)).exp()
        out = (
            (weights * 256).to(torch.float8_e4m3fn).float() @ wide[2] / (256 * weights.sum(-1, keepdim=True))
        )
        if mean is not None:
            out = out + mean[:, :, None]
        return out.to(v.dtype)

    return attend


def main() -> None:
    asked = parser(__doc__ or "").parse_args()
    config = replace(DiTConfig(), num_layers=1)
    torch.manual_seed(asked.seed)
    exact = WanTransformer(config, eager).eval()
    for name, parameter in exact.named_parameters():
        if parameter.dim() > 1 and "modulation" not in name:
            nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
    with torch.no_grad():
        key = exact.blocks[0].self_attn.k  # type: ignore[union-attr]
        key.bias.normal_(std=2.0)  # type: ignore[union-attr]
        for parameter in exact.parameters():
            parameter.data = parameter.data.bfloat16().float()
    tokens = GRID[0] * GRID[1] * GRID[2]
    given = {
        "text": torch.randn(1, 512, config.text_dim),
        "image": torch.randn(1, config.clip_tokens, config.clip_dim),
        "speech": torch.randn(1, 1, 4 * GRID[0] - 3, 5, 12, 768),
        "token_masks": None,
        "reference": torch.randn(1, config.reference_dim, GRID[0], 2 * GRID[1], 2 * GRID[2]),
    }
    x, e0 = torch.randn(1, tokens, config.dim).bfloat16().float(), torch.randn(1, 6, config.dim) * 0.3

    @torch.inference_mode()
    def update(model: WanTransformer, attention: AttentionCallable, dtype: torch.dtype) -> Tensor:
        for part in model.modules():
            if hasattr(part, "attention"):
                part.attention = attention
        condition = model.condition(**given)
        block: Callable[..., Tensor] = model.blocks[0]
        return block(x.to(dtype), e0, condition, condition.blocks[0]).float() - x

    expected = update(exact, eager, torch.float32)

    def row(products: str, kind: str, found: Tensor) -> dict[str, Any]:
        error = float((found - expected).norm() / expected.norm())
        print(products, kind, round(error, 4), flush=True)
        return {"products": products, "attention": kind, "error": error}

    ways = {
        "exact": eager,
        "float8, means taken out": attention8(centre=True),
        "float8, means left in": attention8(centre=False),
    }
    rows = [row("fp32", kind, update(exact, way, torch.float32)) for kind, way in list(ways.items())[1:]]
    exact.bfloat16()
    rows.append(row("bf16", "exact", update(exact, eager, torch.bfloat16)))
    for name, part in list(exact.named_modules()):
        if isinstance(part, nn.Linear) and name.startswith("blocks."):
            pack(exact, name, part, Quantization.FP8_E4M3FN_SCALED_FAST)
    rows += [
        row("fp8_e4m3fn_scaled_fast", kind, update(exact, way, torch.bfloat16)) for kind, way in ways.items()
    ]
    save("attention8", asked.out, {"tokens": tokens, "width": config.dim, "rows": rows})


if __name__ == "__main__":
    main()
