"""The nodes that choose how a window is sampled."""

from __future__ import annotations

from typing import Any

import pytest

from infinite_talk.errors import UsageError
from infinite_talk.nodes import (
    CreateCFGScheduleFloatList,
    CreateScheduleFloatList,
    WanVideoContextOptions,
    WanVideoExperimentalArgs,
    WanVideoFlowEdit,
    WanVideoFreeInitArgs,
    WanVideoLoopArgs,
)
from infinite_talk.nodes.guidance import flow_edit_of
from infinite_talk.sampling import FlowEdit


def test_a_schedule_of_scales_by_hand() -> None:
    make = CreateCFGScheduleFloatList().process
    assert make(5, 5.0, 1.0) == ([5.0, 4.0, 3.0, 2.0, 1.0],)
    assert make(5, 5.0, 1.0, "ease_in") == ([5.0, 4.75, 4.0, 2.75, 1.0],)
    assert make(5, 5.0, 1.0, "ease_out") == ([5.0, 3.25, 2.0, 1.25, 1.0],)
    assert make(6, 4.0, 2.0, "linear", 0.5, 0.7) == ([1.0, 1.0, 1.0, 4.0, 2.0, 1.0],)
    assert make(4, 4.0, 2.0, "linear", 0.9, 0.1) == ([1.0] * 4,)


def test_a_schedule_of_numbers_has_its_own_elsewhere() -> None:
    found = CreateScheduleFloatList().process(4, 2.0, 8.0, 0.5, "linear", 0.25, 0.5)
    assert found == ([0.5, 2.0, 8.0, 0.5],)


@pytest.mark.parametrize(
    ("node", "values", "said"),
    [
        (WanVideoContextOptions, {"context_frames": 1}, "context_frames"),
        (WanVideoContextOptions, {"fuse_method": "gauss"}, "choose one of linear, pyramid"),
        (WanVideoLoopArgs, {"shift_skip": -1}, "shift_skip"),
        (WanVideoFreeInitArgs, {"freeinit_method": "box"}, "butterworth, ideal, gaussian, none"),
        (WanVideoExperimentalArgs, {"tsr_sigma": 2.0}, "tsr_sigma"),
        (WanVideoExperimentalArgs, {"use_fresco": True}, "Did you mean use_fresca"),
        (CreateCFGScheduleFloatList, {"steps": 1}, "steps"),
    ],
)
def test_values_that_were_not_declared_are_refused(node: Any, values: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        node().process(**values)


def test_experimental_args_are_filled_in() -> None:
    (found,) = WanVideoExperimentalArgs().process(use_tcfg=True)
    assert found["use_tcfg"] is True
    assert (found["raag_alpha"], found["fresca_freq_cutoff"], found["use_zero_init"]) == (0.0, 20, False)


def test_flow_edit_of_its_node() -> None:
    (args,) = WanVideoFlowEdit().process({"prompt_embeds": []}, skip_steps=3, source_cfg=[2.0, 1.0])
    assert flow_edit_of(args) == FlowEdit(skip_steps=3, source_text=(2.0, 1.0), drift_text=(6.0,))
    assert flow_edit_of(None) is None
    with pytest.raises(UsageError, match="unknown key drift_shift"):
        flow_edit_of({**args, "drift_shift": 3.0})
    with pytest.raises(UsageError, match="source_embeds"):
        flow_edit_of({**args, "source_embeds": None})
