"""What a sampler is about to do, counted."""

from __future__ import annotations

import torch

from infinite_talk.frontends.workflow.cost import cost_line

EMBEDS = {"frame_window_size": 81, "motion_frame": 9, "target_h": 640, "target_w": 640}


def line(frames: int, **more) -> str:
    speech = {"audio_features": [torch.zeros(frames, 12, 768)]}
    return cost_line(
        {"image_embeds": EMBEDS, "multitalk_embeds": speech, "steps": 6, "scheduler": "dpm++_sde", **more}
    )


def test_windows_steps_and_tokens_are_counted():
    assert line(500) == (
        "500 frames of 640x640 in 7 windows of 81, 6 steps each: at least 42 passes of the model over 33600 tokens"
    )
    assert "in 1 window of 81, 2 steps each" in line(81, steps=4, start_step=2)
    assert "in 2 windows of 81, 4 steps each" in line(82, scheduler="multitalk")
    assert "3 steps" in line(81, steps=9, start_step=1, end_step=4)
    assert cost_line(
        {"image_embeds": EMBEDS, "steps": 6, "multitalk_embeds": {"num_frames": 30, "audio_features": []}}
    ).startswith("30 frames")


def test_other_nodes_cost_nothing_to_speak_of():
    assert cost_line({"image": 1}) is None and cost_line({"image_embeds": EMBEDS}) is None
