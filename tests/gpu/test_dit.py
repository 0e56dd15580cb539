"""The recorded outputs of the transformer on a GPU: exact kernels in float32, close in bfloat16."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from infinite_talk.models.dit import DiTConfig, WanTransformer
from tests.golden import GoldenFile
from tests.parity.support import DIT_CASES, close, weights_of

DEVICE = torch.device("cuda")
pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def without_tensorfloat32() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


def predicted(case: GoldenFile, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Our prediction and the recorded one, of the first time step of a case."""
    model = WanTransformer(DiTConfig.from_json(case.config))
    model.load_state_dict(weights_of(case))
    model.to(DEVICE, dtype).eval()
    inputs = {name.removeprefix("in/"): case[name].to(DEVICE) for name in case.keys if name.startswith("in/")}
    condition = model.condition(
        text=[inputs["context"]],
        image=inputs["clip_fea"],
        speech=inputs["audio"][None],
        token_masks=inputs["ref_target_masks"],
        reference=inputs["y"],
    )
    expected = next(case[key] for key in ("out/pred", "out/pred_0") if key in case)
    return model(inputs["x"][None], inputs["t"][:1], condition).cpu(), expected


@pytest.mark.parametrize("case", DIT_CASES, ids=lambda case: case.name)
@torch.no_grad()
def test_float32(case: GoldenFile) -> None:
    close(*predicted(case, torch.float32))


@pytest.mark.parametrize(
    "case", [c for c in DIT_CASES if c.config.get("humans", 1) == 1], ids=lambda c: c.name
)
@torch.no_grad()
def test_bfloat16(case: GoldenFile) -> None:
    """One person only: with two, rounding may give a token to the other person, as in the original."""
    found, expected = predicted(case, torch.bfloat16)
    assert (found - expected).norm() < 0.03 * expected.norm()
