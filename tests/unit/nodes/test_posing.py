"""Poses: points of two networks become skeletons, take another person's proportions, and are drawn."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from infinite_talk.errors import CapabilityError, InputError
from infinite_talk.nodes import WanVideoUniAnimateDWPoseDetector, adapters
from infinite_talk.nodes.adapters import seen_in
from infinite_talk.nodes.host import Host, ModelFolders, hosted
from infinite_talk.nodes.posing import Detector, Skeleton, Style, draw, fitted_to, open_detector
from infinite_talk.nodes.posing.detection import FILES, _apart, _shared
from infinite_talk.nodes.posing.skeleton import _PARENTS, NOBODY, of_wholebody

PEOPLE, JOINTS, CELLS = 640, 133, 8400


def standing(seed: int = 0, x: float = 0.5, size: float = 1.0) -> Skeleton:
    """A person with arms out and some noise."""
    joints = [
        (0, -0.3),
        (0, -0.2),
        (-0.1, -0.2),
        (-0.2, -0.15),
        (-0.3, -0.1),
        (0.1, -0.2),
        (0.2, -0.15),
        (0.3, -0.1),
    ]
    joints += [(-0.06, 0.1), (-0.07, 0.25), (-0.08, 0.4), (0.06, 0.1), (0.07, 0.25), (0.08, 0.4)]
    joints += [(-0.02, -0.33), (0.02, -0.33), (-0.04, -0.32), (0.04, -0.32), (0.1, 0.43), (-0.1, 0.43)]
    rng = np.random.default_rng(seed)
    body = np.array(joints) * size + (x, 0.5) + rng.normal(0, 0.01, (20, 2))
    hands = body[[7, 4], None] + rng.normal(0, 0.02, (2, 21, 2))
    return Skeleton(body, hands)


def bones(skeleton: Skeleton) -> np.ndarray:
    parents = np.array([max(p, 0) for p in _PARENTS])
    return np.delete(np.linalg.norm(skeleton.body - skeleton.body[parents], axis=1), 1)


def test_the_first_frame_takes_the_references_proportions_and_place():
    reference = standing(1, x=0.4, size=0.7)
    first, second = fitted_to([standing(2), standing(3, x=0.6)], reference)
    np.testing.assert_allclose(bones(first), bones(reference), rtol=1e-9)
    np.testing.assert_allclose(first.body[1], reference.body[1])
    assert not np.allclose(second.body[1], reference.body[1]), "the movement stays"
    np.testing.assert_allclose(
        first.hands[:, 0] - first.body[[7, 4]],
        (standing(2).hands[:, 0] - standing(2).body[[7, 4]]) * _scale(reference, standing(2)),
    )


def _scale(one: Skeleton, other: Skeleton) -> np.ndarray:
    def sides(body: np.ndarray) -> np.ndarray:
        return np.array([body[5, 0] - body[2, 0], body[[8, 11], 1].mean() - body[[2, 5], 1].mean()])

    return sides(one.body) / sides(other.body)


def test_bones_keep_their_direction():
    """Only lengths change: each bone of a frame is parallel to the scaled one."""
    reference, frames = standing(1, size=0.6), [standing(2), standing(3)]
    scale = _scale(reference, frames[0])
    for given, found in zip(frames, fitted_to(frames, reference), strict=True):
        for joint in range(20):
            parent = _PARENTS[joint]
            if parent < 0:
                continue
            before = (given.body[joint] - given.body[parent]) * scale
            after = found.body[joint] - found.body[parent]
            cross = before[0] * after[1] - before[1] * after[0]
            assert cross == pytest.approx(0, abs=1e-9)
            assert before @ after > 0


def test_oneself_as_reference_changes_nothing_and_unseen_joints_stay_unseen():
    person = standing(2)
    person.body[[4, 10]] = np.nan
    (found,) = fitted_to([person], person)
    np.testing.assert_allclose(found.body, person.body)
    np.testing.assert_allclose(found.hands[0], person.hands[0])
    assert fitted_to([NOBODY, person], person)[0] is NOBODY


def test_points_of_wholebody_find_their_places():
    """Left and right, neck and toes between their neighbours, and what is not certain is not seen."""
    points = np.stack([np.arange(JOINTS), np.arange(JOINTS) * 2.0], axis=1)
    scores = np.ones(JOINTS)
    scores[10] = 0.2
    found = of_wholebody(points, scores, 0.3)
    columns = found.body[:, 0]
    assert columns[[0, 2, 5, 7, 16, 17]].tolist() == [0, 6, 5, 9, 4, 3]
    assert columns[[1, 18, 19]].tolist() == [5.5, 17.5, 20.5]
    assert np.isnan(columns[4]), "the right wrist"
    assert found.hands[:, 0, 0].tolist() == [91, 112]


def test_what_is_turned_off_or_not_seen_is_not_drawn():
    person, plain = standing(), Style()
    whole = draw(person, 480, 640, plain)
    assert whole.shape == (480, 640, 3)
    nothing = Style(body=False, feet=False, hands=False, head=False, body_radius=0, hand_radius=0)
    assert not draw(person, 480, 640, nothing).any()
    assert not draw(NOBODY, 480, 640, plain).any()
    for off in ("body", "feet", "hands", "head"):
        less = draw(person, 480, 640, Style(**{off: False}))
        assert 0 < np.count_nonzero(less) < np.count_nonzero(whole), off
    joint = (person.body[3] * (640, 480)).astype(int)
    assert tuple(whole[joint[1], joint[0]]) == (255, 255, 0), "the right elbow in its own colour"


def networks(box: tuple[float, float, float, float], places: np.ndarray, score: float = 0.9) -> Detector:
    """Networks that see one person in a box of the detector's square, with points in its 288 x 384 picture."""

    def people(batch: np.ndarray) -> list[np.ndarray]:
        assert batch.shape == (1, 3, PEOPLE, PEOPLE)
        found = np.zeros((1, CELLS, 85), np.float32)
        left, top, right, bottom = box
        # The first cell of the coarsest grid: offsets and logarithms of sizes in strides of 32.
        found[0, 8000, :4] = (
            (left + right) / 64,
            (top + bottom) / 64,
            np.log((right - left) / 32),
            np.log((bottom - top) / 32),
        )
        found[0, 8000, 4:6] = (score, 1.0)
        found[0, 8001] = found[0, 8000]  # the same person again
        found[0, 8001, 0] -= 1
        found[0, 8001, 4] = score / 2
        return [found]

    def points(batch: np.ndarray) -> list[np.ndarray]:
        assert batch.shape == (1, 3, 384, 288)
        across, down = np.zeros((1, JOINTS, 576), np.float32), np.zeros((1, JOINTS, 768), np.float32)
        across[0, np.arange(JOINTS), (places[:, 0] * 2).astype(int)] = 0.8
        down[0, np.arange(JOINTS), (places[:, 1] * 2).astype(int)] = 0.6
        return [across, down]

    return Detector(people, points)


def test_points_come_back_to_the_picture():
    """A picture of 320 x 320 is doubled for the detector; the box is widened by a quarter and to 3 : 4."""
    places = np.tile([[144.0, 192.0]], (JOINTS, 1))
    places[0] = (0, 0)
    found = networks((100, 200, 300, 500), places)(torch.rand(3, 320, 320), 0.3)
    middle = np.array([200, 350]) / 2
    height = max(150 * 1.25, 100 * 1.25 * 4 / 3)
    np.testing.assert_allclose(found.body[2] * 320, middle, atol=1e-3)
    np.testing.assert_allclose(
        found.body[0] * 320, middle - np.array([height * 3 / 4, height]) / 2, atol=1e-3
    )
    assert np.isnan(networks((100, 200, 300, 500), places)(torch.rand(3, 320, 320), 0.7).body).all()
    assert networks((100, 200, 300, 500), places, score=0.2)(torch.rand(3, 320, 320), 0.3) is NOBODY


def test_the_pose_network_sees_the_box():
    """The cut is the picture around the box: a ramp stays a ramp at the box's places."""
    seen: list[np.ndarray] = []
    places = np.tile([[144.0, 192.0]], (JOINTS, 1))
    plain = networks((0, 0, 480, 640), places)

    def points(batch: np.ndarray) -> list[np.ndarray]:
        seen.append(batch)
        return list(plain.points(batch))

    ramp = (torch.arange(480) / 480)[None, None].expand(3, 640, 480)
    Detector(plain.people, points)(ramp, 0.3)
    row = seen[0][0, 0, 192] * 58.395 + 123.675
    columns = 240 - 300 + np.arange(288) * 600 / 288  # the box 480 wide, a quarter more
    inside = (columns > 1) & (columns < 478)
    np.testing.assert_allclose(row[inside], columns[inside] / 480 * 255, atol=0.3)
    assert np.abs(row[:20]).max() < 1, "black outside"


def test_overlapping_boxes_are_one_person():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10], [50, 0, 60, 10.0]])
    assert _apart(boxes, np.array([0.5, 0.9, 0.7, 0.2])) == [1, 2]
    assert _shared(boxes[0], boxes[1]) == pytest.approx(90 / 110)


def test_frames_without_anybody_are_empty_or_repeat_the_one_before():
    answers = iter([NOBODY, standing(1), NOBODY] * 2)
    detector = lambda picture, threshold: next(answers)  # noqa: E731
    empty = seen_in(torch.zeros(3, 3, 8, 8), detector, 0.3, repeat=False)
    repeated = seen_in(torch.zeros(3, 3, 8, 8), detector, 0.3, repeat=True)
    assert [one is NOBODY for one in empty] == [True, False, True]
    assert [one is NOBODY for one in repeated] == [True, False, False]


def test_what_a_detector_lacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Files and package, each if it is missing; nothing is downloaded."""
    images = torch.rand(1, 32, 32, 3)
    with hosted(Host(places=ModelFolders((tmp_path,)))), pytest.raises(CapabilityError, match=FILES[0]):
        WanVideoUniAnimateDWPoseDetector().process(images)
    monkeypatch.setattr("infinite_talk.nodes.posing.detection.find_spec", lambda name: None)
    with pytest.raises(CapabilityError, match="lacks the package onnxruntime"):
        open_detector(lambda name: tmp_path / name, torch.device("cpu"))


def test_both_networks_are_opened_from_their_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    opened: list[tuple[str, list[str]]] = []

    class Session:
        def __init__(self, place: str, providers: list[str]) -> None:
            opened.append((place, providers))

        def get_inputs(self) -> list[SimpleNamespace]:
            return [SimpleNamespace(name="input")]

        def run(self, outputs: None, given: dict) -> list:
            return [given["input"]]

    fake = SimpleNamespace(InferenceSession=Session, get_available_providers=lambda: ["CPUExecutionProvider"])
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)
    monkeypatch.setattr("infinite_talk.nodes.posing.detection.find_spec", lambda name: fake)
    (tmp_path / "dwpose").mkdir()
    for name in FILES:
        (tmp_path / "dwpose" / name).touch()
    with hosted(Host(places=ModelFolders((tmp_path,)))):
        detector = open_detector(adapters._detector_file, torch.device("cpu"))
    assert [Path(place).name for place, _ in opened] == list(FILES)
    assert opened[0][1] == ["CPUExecutionProvider"]
    assert detector.people(np.ones(1, np.float32))[0][0] == 1


def test_the_node_draws_what_is_seen(monkeypatch: pytest.MonkeyPatch):
    person = standing()
    monkeypatch.setattr(adapters, "open_detector", lambda find, device: lambda picture, threshold: person)
    images = torch.rand(2, 120, 160, 3)
    poses, reference = WanVideoUniAnimateDWPoseDetector().process(images)
    wanted = torch.from_numpy(draw(person, 120, 160, Style())).float() / 255
    assert torch.equal(poses, torch.stack([wanted, wanted]))
    assert reference.shape == (1, 64, 64, 3)
    blue, own = WanVideoUniAnimateDWPoseDetector().process(
        images, reference_pose_image=images[:1], colorspace="BGR"
    )
    assert torch.equal(own[0], wanted)
    torch.testing.assert_close(blue.flip(-1)[0], wanted)
    monkeypatch.setattr(adapters, "open_detector", lambda find, device: lambda picture, threshold: NOBODY)
    with pytest.raises(InputError, match="Nobody"):
        WanVideoUniAnimateDWPoseDetector().process(images, reference_pose_image=images[:1])
