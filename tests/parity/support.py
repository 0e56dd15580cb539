"""Recorded transformer cases: their weights, inputs and comparison, shared by the parity tests."""

from __future__ import annotations

import torch

from infinite_talk.models.dit import Condition, WanTransformer
from tests.golden import GoldenFile, cases

TOLERANCE = 2e-5
DIT_CASES = cases("dit_")


def weights_of(case: GoldenFile) -> dict[str, torch.Tensor]:
    """The case's own weights, or those of the single-person case of the same sizes."""
    if weights := case.tensors("w/"):
        return weights
    for file in DIT_CASES:
        same = all(file.config.get(key) == value for key, value in case.config.items())
        if same and file.config.get("humans", 1) == 1 and (weights := file.tensors("w/")):
            return weights
    raise AssertionError(f"no weights for {case.name}")


def condition_of(model: WanTransformer, case: GoldenFile) -> Condition:
    return model.condition(
        text=[case["in/context"]],
        image=case["in/clip_fea"],
        speech=case["in/audio"][None],
        token_masks=case["in/ref_target_masks"],
        reference=case["in/y"],
    )


def close(actual: torch.Tensor, expected: torch.Tensor, tolerance: float = TOLERANCE) -> None:
    torch.testing.assert_close(actual.reshape(expected.shape), expected, atol=tolerance, rtol=0)
