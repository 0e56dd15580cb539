"""A recipe records what a video was made from, and finds it again."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infinite_talk.errors import InputError
from infinite_talk.media.encode import write_segment
from infinite_talk.media.mux import join
from infinite_talk.media.recipe import Machine, Recipe, sidecar_of
from infinite_talk.request import (
    APG,
    AudioLayout,
    Box,
    Compat,
    Distilled,
    EasyCache,
    MagCache,
    Request,
    Speaker,
    StepCache,
    TeaCache,
)
from infinite_talk.types import Plan, Size, Window
from tests.unit.media.fakes import pictures

PLAN = Plan((Window(0, 0, 17, 0, 17, 0), Window(1, 8, 17, 9, 8, 8)), 25)
MACHINE = Machine("cpu", "fp32", 2, 18)


@pytest.fixture
def media(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    folder.mkdir()
    for name in ("me.png", "speech.wav", "other.wav", "mask.png"):
        (folder / name).write_bytes(name.encode() * 100)
    return folder


def request_in(folder: Path) -> Request:
    return Request(
        image=folder / "me.png",
        speakers=(
            Speaker(audio=folder / "speech.wav", box=Box(1, 2, 30.5, 40)),
            Speaker(audio=folder / "other.wav", mask=folder / "mask.png"),
            Speaker(audio=None),
        ),
        audio_layout=AudioLayout.IN_TURN,
        prompt="one | two, 说话 | sha256:not a file",
        seed=2**40,
        steps=8,
        apg=APG(momentum=-0.5),
        step_cache=TeaCache(threshold=0.1, coefficients=(1.0, -2.5)),
        compat=Compat.OFFICIAL,
    )


def recipe_in(folder: Path, **changes: object) -> Recipe:
    request = replace(request_in(folder), **changes)
    return Recipe.of(
        request, size=Size(160, 192), plan=PLAN, machine=MACHINE, model={"name": "m", "sha256": "0"}
    )


def video_of(recipe: Recipe, path: Path) -> Path:
    part = path.with_name("part.mp4")
    write_segment(part, pictures(2), crf=30)
    join([part], path, frames=2, soundtrack=None, tags=recipe.tags("Title"))
    return path


def test_there_and_back_through_the_video(media: Path, tmp_path: Path):
    recipe = recipe_in(media)
    again = Recipe.from_file(video_of(recipe, tmp_path / "out.mp4"))
    assert again == recipe
    assert again.digest == recipe.digest
    assert again.to_request([media]) == request_in(media)


@pytest.mark.parametrize(
    "cache",
    [
        None,
        TeaCache(),
        TeaCache(threshold=0.1, coefficients=(1.0, -2.5)),
        MagCache(),
        MagCache(threshold=0.3, longest=4, retention=0.1, ratios=(1.0, 0.9), shift=3.0),
        EasyCache(threshold=0.02, retention=0.3),
    ],
)
def test_each_step_cache_comes_back_as_itself(media: Path, tmp_path: Path, cache: StepCache | None):
    """The three look alike in JSON, a threshold and some numbers, but for their kind."""
    recipe = recipe_in(media, step_cache=cache, distilled=Distilled.FUSIONX_8STEP)
    again = Recipe.from_file(video_of(recipe, tmp_path / "out.mp4")).to_request([media])
    assert (type(again.step_cache), again.step_cache) == (type(cache), cache)
    assert again.distilled is Distilled.FUSIONX_8STEP


def test_a_teacache_of_a_recipe_without_kinds_is_still_one(media: Path):
    recipe = recipe_in(media)
    request = dict(recipe.request) | {"step_cache": {"threshold": 0.1, "coefficients": [1.0, -2.5]}}
    assert replace(recipe, request=request).to_request([media]) == request_in(media)


def test_there_and_back_through_the_json_beside(media: Path, tmp_path: Path):
    recipe = recipe_in(media)
    video = video_of(recipe, tmp_path / "out.mp4")
    sidecar_of(video).write_text(json.dumps({"recipe": recipe.to_json(paths=True)}))
    for path in (video, sidecar_of(video)):
        assert Recipe.from_file(path).to_request() == request_in(media)  # it knows where the files were


def test_the_json_of_another_video_is_not_believed(media: Path, tmp_path: Path):
    video = video_of(recipe_in(media), tmp_path / "out.mp4")
    sidecar_of(video).write_text(json.dumps({"recipe": recipe_in(media, seed=1).to_json(paths=True)}))
    assert Recipe.from_file(video) == recipe_in(media)


def test_the_video_tells_no_folders(media: Path):
    recipe = recipe_in(media)
    assert str(media) not in json.dumps(recipe.to_json())
    assert str(media) not in recipe.tags("Title")["comment"]
    assert str(media) in json.dumps(recipe.to_json(paths=True))


def test_every_setting_is_recorded(media: Path):
    assert set(recipe_in(media).to_json()["request"]) == {field.name for field in fields(Request)}


def test_moving_or_renaming_files_changes_nothing(media: Path, tmp_path: Path):
    before = recipe_in(media)
    moved = tmp_path / "moved"
    media.rename(moved)
    assert recipe_in(moved).digest == before.digest
    (moved / "me.png").rename(moved / "renamed.png")
    renamed = recipe_in(moved, image=moved / "renamed.png")
    assert renamed.digest == before.digest
    assert renamed.differences(before) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seed": 3}, [f"seed: 3 here, {2**40} there"]),
        ({"prompt": "x"}, ["prompt: 'x' here"]),
        ({"apg": None}, ["apg", "apg.momentum", "apg.norm_threshold"]),
        ({"compat": Compat.FIXED}, ["compat: 'fixed' here, 'official' there"]),
        ({"speakers": ()}, ["speakers"]),
    ],
)
def test_differences_are_named(media: Path, change: dict[str, object], told: list[str]):
    ours, theirs = recipe_in(media, **change), recipe_in(media)
    assert ours.digest != theirs.digest
    differences = ours.differences(theirs)
    for expected in told:
        assert any(line.startswith(expected) for line in differences), differences


def test_another_file_of_the_same_name(media: Path):
    before = recipe_in(media)
    (media / "speech.wav").write_bytes(b"something else")
    assert recipe_in(media).differences(before) == ["speakers.1.audio: another file"]


@pytest.mark.parametrize("what", ["machine", "model", "versions", "size", "plan"])
def test_everything_that_affects_pixels_counts(media: Path, what: str):
    before = recipe_in(media)
    changed = {
        "machine": replace(before, machine=replace(MACHINE, threads=3)),
        "model": replace(before, model={"name": "m", "sha256": "1"}),
        "versions": replace(before, versions={**before.versions, "torch": "0"}),
        "size": replace(before, picture={**before.picture, "width": 16}),
        "plan": replace(before, plan={"windows": 2, "sha256": "f"}),
    }[what]
    assert changed.digest != before.digest
    assert changed.differences(before)


def test_a_missing_or_changed_file_is_named(media: Path):
    recipe = recipe_in(media)
    content = (media / "speech.wav").read_bytes()
    (media / "speech.wav").unlink()
    with pytest.raises(InputError, match=r"speech.wav was not found"):
        recipe.to_request([media])
    (media / "speech.wav").write_bytes(content + b"!")
    with pytest.raises(InputError, match=r"speech.wav is not the same file"):
        recipe.to_request([media])


def test_an_unreadable_input(media: Path):
    (media / "speech.wav").unlink()
    with pytest.raises(InputError, match=r"speech.wav cannot be read"):
        recipe_in(media)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", b""),
        ("a.json", b"[1]"),
        ("a.json", b"{}"),
        ("a.json", b'{"recipe": null}'),
        ("a.json", b'{"recipe": {"infinite_talk_recipe": 1}}'),
        ("a.json", b"[" * 100_000),
        ("a.json", b"\xff\xfe"),
        ("a.mp4", b""),
        ("a.mp4", b"no video"),
        ("a.mp4", b"ffconcat version 1.0\nfile other.mp4\n"),
        ("missing.mp4", None),
        ("missing.json", None),
    ],
)
def test_files_without_a_recipe(tmp_path: Path, name: str, content: bytes | None):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match="no recipe"):
        Recipe.from_file(tmp_path / name)


def test_a_video_of_another_program(tmp_path: Path):
    write_segment(tmp_path / "a.mp4", pictures(1), crf=30)
    with pytest.raises(InputError, match="no recipe"):
        Recipe.from_file(tmp_path / "a.mp4")


def test_a_newer_program(media: Path, tmp_path: Path):
    data = recipe_in(media).to_json() | {"infinite_talk_recipe": 99}
    (tmp_path / "a.json").write_text(json.dumps({"recipe": data}))
    with pytest.raises(InputError, match="Update infinite-talk"):
        Recipe.from_file(tmp_path / "a.json")


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prompt=st.text(max_size=200), seed=st.integers(), strength=st.floats(0, 1))
def test_any_text_survives_the_video(media: Path, tmp_path: Path, prompt: str, seed: int, strength: float):
    prompt = prompt.encode("utf-8", "ignore").decode()
    recipe = recipe_in(media, prompt=prompt, seed=seed, colour_strength=strength)
    assert Recipe.from_file(video_of(recipe, tmp_path / "out.mp4")) == recipe
