"""The commands on workflows of helper nodes alone, which need no model."""

from __future__ import annotations

import json

import av
import pytest

from infinite_talk.frontends.cli.main import run


@pytest.fixture
def here(tmp_path, monkeypatch, portrait):
    """A work folder with a picture in ``input/``, and no configuration of the user."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "input").mkdir()
    (tmp_path / "input" / "me.png").write_bytes(portrait.read_bytes())
    return tmp_path


def write(folder, **nodes) -> str:
    data = {key: {"class_type": kind, "inputs": inputs} for key, (kind, inputs) in nodes.items()}
    (folder / "w.json").write_text(json.dumps(data))
    return str(folder / "w.json")


VIDEO = {
    "images": ["1", 0],
    "frame_rate": 10,
    "loop_count": 0,
    "filename_prefix": "x",
    "format": "video/h264-mp4",
}
VIDEO |= {"pingpong": False, "save_output": True}


def test_one_video_has_the_name_and_several_get_their_nodes_ids(here, capsys):
    film = ("VHS_VideoCombine", VIDEO)
    file = write(
        here,
        **{"1": ("LoadImage", {"image": "me.png"}), "2": film, "3": ("PreviewImage", {"images": ["1", 0]})},
    )
    assert run(["workflow", "run", file, "-o", "out.mp4"]) == 0
    out, err = capsys.readouterr()
    assert out == "out.mp4\n" and "1 pictures of 120x100" in err
    with av.open("out.mp4") as container:
        assert (container.streams.video[0].width, container.streams.video[0].frames) == (120, 1)
    assert run(["workflow", "run", file, "-o", "out.mp4"]) == 6
    assert run(["workflow", "run", file, "-o", "out.mp4", "--force", "-q"]) == 0
    both = write(
        here,
        **{
            "1": ("LoadImage", {"image": "me.png"}),
            "2": film,
            "3": film,
            "4": ("SaveImage", {"images": ["1", 0], "filename_prefix": "x"}),
        },
    )
    assert run(["workflow", "run", both, "-o", "both.mp4", "--json"]) == 0
    files = [one["path"] for one in json.loads(capsys.readouterr().out.splitlines()[-1])["files"]]
    assert files == ["both-2.mp4", "both-3.mp4", "both-4_00001.png"] and all(
        (here / one).is_file() for one in files
    )


def test_a_change_and_a_picture_from_elsewhere(here, tmp_path_factory, portrait, capsys):
    file = write(
        here,
        **{
            "1": ("LoadImage", {"image": "gone.png"}),
            "2": (
                "ImageScale",
                {
                    "image": ["1", 0],
                    "upscale_method": "area",
                    "width": ["4", 0],
                    "height": 50,
                    "crop": "disabled",
                },
            ),
            "3": ("PreviewImage", {"images": ["2", 0]}),
            "4": ("SimpleMath+", {"value": "a * 20 + 0.4", "a": 2}),
        },
    )
    assert run(["workflow", "run", file]) == 3
    assert "gone.png" in capsys.readouterr().err
    assert run(["workflow", "run", file, "--image", str(portrait), "--set", "4.a=3"]) == 0
    assert "1 pictures of 60x50" in capsys.readouterr().err


def test_wrong_options_are_said(here, capsys):
    file = write(
        here, **{"1": ("LoadImage", {"image": "me.png"}), "2": ("PreviewImage", {"images": ["1", 0]})}
    )
    assert run(["workflow", "run", file, "--models", "all"]) == 2
    assert run(["workflow", "run", file, "--audio", "a.wav"]) == 2
    assert "no node that loads one" in capsys.readouterr().err
    assert run(["workflow", "check", str(here / "none.json")]) == 3
    assert run(["workflow", "check", file]) == 0
    assert "2 nodes (api form), 2 of them run:" in capsys.readouterr().out
