"""Windows, tail padding, buckets, resizing and masks equal the recorded runs of the official program."""

from __future__ import annotations

import pytest
import torch

from infinite_talk.inputs.resize import latent_masks, resize_masks, resize_picture, to_tensor, token_masks
from infinite_talk.plan.buckets import nearest_bucket
from infinite_talk.plan.people import official_box, person_masks
from infinite_talk.plan.speech import official_speech_indices
from infinite_talk.plan.windows import given_frames_mask, plan_official
from infinite_talk.types import Plan, Size
from tests.golden import GoldenFile, cases


def official_plan(config: dict) -> Plan:
    return plan_official(
        config["audio_lens"],
        frames=config["frame_num"],
        motion=config["motion_frame"],
        max_frames=config["max_frames_num"],
    )


AUDIO_WINDOWS = [
    pytest.param(case, name, id=f"{case.name}-{name}")
    for case in cases("audio_windows")
    for name in case.config
]


@pytest.mark.parametrize(("case", "name"), AUDIO_WINDOWS)
def test_windows_and_speech_indices(case: GoldenFile, name: str):
    config = case.config[name]
    plan = official_plan(config)
    assert len(plan.windows) == config["chunks"]
    assert plan.length == config["output_frames"] == sum(window.new for window in plan.windows)
    features = [case[f"in/{name}.emb_{person}"] for person in range(len(config["audio_lens"]))]
    for window in plan.windows:
        seen = torch.stack(
            [each[torch.from_numpy(official_speech_indices(plan, window, len(each)))] for each in features]
        )
        assert torch.equal(seen, case[f"out/{name}.chunk{window.index}.windows"])


LOOPS = [case for case in cases("loop_") if "frame_num" in case.config]


@pytest.mark.parametrize("case", LOOPS, ids=lambda case: case.name)
def test_windows_of_whole_loops(case: GoldenFile):
    plan = official_plan(case.config)
    assert len(plan.windows) == case.config["chunks"]
    assert plan.length == case["out/video"].shape[1]
    # The recording lists one read more when the limit, not the speech, ended the loop.
    requested = [asked for asked, _ in case.config["frame_reads_requested_used"]][: len(plan.windows)]
    assert [window.reference for window in plan.windows] == requested
    for window in plan.windows:
        assert case[f"mid/chunk{window.index}.motion_latents"].shape[1] == window.motion_latents
        speech = case[f"mid/chunk{window.index}.audio"]
        for person, own in enumerate(speech):
            features = case[f"in/audio_emb_{person}"]
            indices = official_speech_indices(plan, window, len(features))
            assert torch.equal(own, features[torch.from_numpy(indices)])


BUCKETS = [
    pytest.param(case, key, id=f"{case.name}-{key}")
    for case in cases("buckets")
    for key in case.keys
    if key.startswith("out/")
]


@pytest.mark.parametrize(("case", "key"), BUCKETS)
def test_buckets_and_resizing(case: GoldenFile, key: str):
    kind, _, number = key.removeprefix("out/").rpartition("_")
    if kind == "target_hw":
        sizes = [nearest_bucket(height, width, number) for height, width in case["in/sizes_hw"].tolist()]
        assert [[size.height, size.width] for size in sizes] == case[key].tolist()
        return
    expected = case[key]
    size = Size(*expected.shape[-2:])
    if kind == "mask":
        masks = resize_masks(case[f"in/mask_{number}"].numpy() > 0, size)
        assert torch.equal(torch.from_numpy(masks), expected > 0)
        return
    picture = resize_picture(case[f"in/image_{number}"].numpy(), size)
    got = to_tensor(picture) if kind == "norm" else torch.from_numpy(picture.copy()).permute(2, 0, 1)
    assert torch.equal(got, expected[0, :, 0])


MASKS = [
    pytest.param(case, name, id=f"{case.name}-{name}") for case in cases("masks") for name in case.config
]


@pytest.mark.parametrize(("case", "name"), MASKS)
def test_masks(case: GoldenFile, name: str):
    config = case.config[name]
    height, width = config["src_hw"]
    size = nearest_bucket(height, width, config["size"].rpartition("-")[2])
    assert [size.height, size.width] == config["target_hw"]
    people, boxes = config["humans"], config["bbox"]
    given = [official_box(boxes[f"person{i + 1}"]) for i in range(people)] if boxes else [None] * people
    latent = latent_masks(person_masks(height, width, given), size)
    # For one person the recording has three equal planes, ours two.
    planes = [0, 1, 2] if people == 2 else [0, 0, 1]
    assert list(latent.shape[1:]) == config["latent_hw"]
    assert torch.equal(torch.from_numpy(latent[planes]), case[f"out/{name}.ref_target_masks"] > 0)
    assert torch.equal(torch.from_numpy(token_masks(latent)[planes]), case[f"out/{name}.token_masks"] > 0)
    y_mask = case[f"out/{name}.y_mask_t"]
    assert torch.equal(torch.from_numpy(given_frames_mask(1 + 4 * (y_mask.shape[1] - 1))), y_mask)


@pytest.mark.parametrize("case", LOOPS, ids=lambda case: case.name)
def test_masks_of_whole_loops(case: GoldenFile):
    config = case.config
    people, boxes = config["humans"], config["bbox"]
    given = [official_box(boxes[f"person{i + 1}"]) for i in range(people)] if boxes else [None] * people
    masks = person_masks(*config["src_hw"], given, margin=config.get("face_scale", 0.05))
    latent = torch.from_numpy(latent_masks(masks, Size(*config["target_hw"])))
    for chunk in range(config["chunks"]):
        recorded = case[f"mid/chunk{chunk}.ref_target_masks"] > 0
        assert torch.equal(latent[[0, 1, 2] if people == 2 else [0, 0, 1]], recorded)
