"""Torch's best kernel: measured once per kind of call, remembered, and steady when two are about equal."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend

from infinite_talk.ops.attention import eager, native
from infinite_talk.ops.attention.choices import Choices, fastest
from infinite_talk.ops.attention.matrix import attention_matrix
from infinite_talk.ops.attention.native import BACKENDS, kind_of
from tests.attention import Case

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("seconds", "best"),
    [
        ({"a": 1.0, "b": 0.5, "c": 0.2}, "c"),
        ({"a": 1.0, "b": 0.95, "c": 2.0}, "a"),  # not clearly faster
        ({"a": None, "b": 3.0, "c": None}, "b"),
        ({"a": None, "b": None, "c": None}, None),
    ],
)
def test_an_earlier_candidate_stays_in_doubt(seconds: dict[str, float | None], best: str | None) -> None:
    assert fastest(seconds, seconds.__getitem__) == best


def test_only_the_newest_choices_are_kept() -> None:
    choices: Choices[int] = Choices(3)
    for key in range(10):
        assert choices.set(key, 2 * key) == 2 * key
    assert len(choices) == 3 and choices.get(9) == 18 and choices.get(0) is None


def test_windows_of_about_one_length_share_a_choice() -> None:
    def kind(length: int, heads: int = 2) -> tuple[object, ...]:
        return kind_of(*Case("", 1, heads, length, length, 8).tensors(torch.bfloat16, CPU))

    assert kind(1000) == kind(1024) != kind(1025)
    assert kind(1000) != kind(1000, heads=3)


def test_a_shape_is_measured_once_and_a_failing_kernel_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU: torch has ``FLASH`` and ``MATH`` here, and says no to the others."""
    monkeypatch.setattr(native, "_CHOSEN", Choices(8))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    tried = []
    seconds = native._seconds
    monkeypatch.setattr(native, "_seconds", lambda one, *x: tried.append(one) or seconds(one, *x))
    q, k, v = Case("", 1, 2, 33, 17, 16).tensors(torch.bfloat16, CPU)
    for _ in range(3):
        torch.testing.assert_close(native._measured(q, k, v), eager(q, k, v), atol=0.02, rtol=0.02)
    assert tried == list(BACKENDS)
    assert native._CHOSEN.get(kind_of(q, k, v)) in (SDPBackend.FLASH_ATTENTION, SDPBackend.MATH)


def test_a_shape_that_no_kernel_takes_is_left_to_torch_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_CHOSEN", Choices(8))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    tried = []
    monkeypatch.setattr(native, "_seconds", lambda one, *_: tried.append(one))
    q, k, v = Case("", 1, 2, 33, 17, 16).tensors(torch.bfloat16, CPU)
    for _ in range(3):
        torch.testing.assert_close(native._measured(q, k, v), eager(q, k, v), atol=0.02, rtol=0.02)
    assert len(tried) == len(BACKENDS)


def test_nothing_is_timed_while_a_graph_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_CHOSEN", Choices(8))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    monkeypatch.setattr(native, "_seconds", lambda *_: pytest.fail("timed"))
    q, k, v = Case("", 1, 2, 33, 17, 16).tensors(torch.bfloat16, CPU)
    torch.testing.assert_close(native._measured(q, k, v), eager(q, k, v), atol=0.02, rtol=0.02)
    assert len(native._CHOSEN) == 0


def test_the_matrix_has_every_kernel_with_a_time_or_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infinite_talk.ops.attention.matrix.CPU_SHAPE", (1, 2, 64, 16))
    rows = attention_matrix(CPU)
    assert [row.name for row in rows if row.usable] == ["sdpa", "eager"]
    assert all((row.milliseconds is not None) is row.usable is not bool(row.why) for row in rows)
    assert [row.name for row in rows if row.chosen] == ["sdpa"]
