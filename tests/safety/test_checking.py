"""Media are opened in a child process with limits: facts or one of our errors, whatever the file does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from infinite_talk import InputError, Request, Settings, Speaker, UsageError
from infinite_talk.errors import InfiniteTalkError
from infinite_talk.inputs.loudness import integrated_loudness
from infinite_talk.inputs.resize import resize_picture
from infinite_talk.jobs import checking
from infinite_talk.jobs.checking import Checker, Limits
from infinite_talk.jobs.facts import PictureFacts
from infinite_talk.jobs.inspector import crop_of
from infinite_talk.types import Size
from tests.unit.inputs.media import encode, numbered, tone, write_wav

CHECKER = Checker()


def png(path: Path, width: int = 96, height: int = 64) -> Path:
    picture = np.zeros((height, width, 3), np.uint8)
    picture[..., 0] = np.arange(width) * 255 // max(1, width - 1)
    Image.fromarray(picture).save(path, "PNG")
    return path


def claiming_png(path: Path, side: int, data: bytes = b"") -> Path:
    """A PNG whose header promises ``side`` x ``side`` pixels."""
    chunks = [
        (b"IHDR", side.to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])),
        (b"IDAT", data or zlib.compress(bytes(12_000))),
        (b"IEND", b""),
    ]
    body = b"".join(
        len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")
        for kind, content in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def refused(question, *codes: str) -> InputError:
    with pytest.raises(InputError) as caught:
        question()
    assert caught.value.code in codes, caught.value
    return caught.value


def test_facts_of_an_image_and_the_crop_that_is_shown(tmp_path):
    facts = CHECKER.picture(png(tmp_path / "a.jpg"), size="64x64!", preview=tmp_path / "shown.jpg")
    assert (facts.format, facts.width, facts.height, facts.moving) == ("PNG", 96, 64, False)
    assert (facts.output_width, facts.output_height) == (64, 64)
    assert (facts.crop.left, facts.crop.right, facts.crop.top, facts.crop.bottom) == (16, 80, 0, 64)
    shown = np.asarray(Image.open(tmp_path / "shown.jpg").convert("RGB")).astype(int)
    original = np.asarray(Image.open(tmp_path / "a.jpg")).astype(int)
    assert abs(shown[32, 48, 0] - original[32, 48, 0]) < 12  # inside: as it is
    assert abs(shown[32, 92, 0] - original[32, 92, 0] // 3) < 12  # outside: darkened


@given(st.integers(32, 400), st.integers(32, 400), st.sampled_from([(64, 64), (64, 128), (96, 80)]))
def test_the_crop_is_what_resizing_keeps(height, width, output):
    """The slow twin: a ramp of columns and rows is resized; its ends tell what was kept."""
    size = Size(*output)
    crop = crop_of(height, width, size)
    ramp = np.zeros((height, width, 3), np.uint8)
    ramp[..., 0] = np.linspace(0, 255, width).round()
    ramp[..., 1] = np.linspace(0, 255, height).round()[:, None]
    kept = resize_picture(ramp, size).astype(float)
    step = 255 / min(height, width) * max(1.0, 1 / max(size.height / height, size.width / width)) * 2 + 2
    for plane, (begin, end), side in (
        (kept[size.height // 2, :, 0], (crop.left, crop.right), width),
        (kept[:, size.width // 2, 1], (crop.top, crop.bottom), height),
    ):
        assert 0 <= begin < end <= side
        assert abs(plane[0] - begin / side * 255) < step
        assert abs(plane[-1] - end / side * 255) < step


def test_facts_of_a_recording_decoded_to_its_end(tmp_path):
    samples = tone(2.0, level=0.2)
    facts = CHECKER.sound(write_wav(tmp_path / "voice.mp3", samples), start=0.5)
    assert (facts.format, facts.seconds, facts.rate, facts.channels) == ("wav", 1.5, 16_000, 1)
    used = samples[8000:].astype(np.float32)
    assert facts.loudness == pytest.approx(integrated_loudness(used, 16_000), abs=0.01)
    assert facts.peak == pytest.approx(np.abs(samples).max(), abs=1e-3)
    assert max(facts.outline) == 1.0


def test_facts_of_a_film_with_sound(tmp_path):
    film = encode(tmp_path / "film.mp4", pictures=numbered(10), sounds=[tone(0.4, 48_000)[:, None]])
    facts = CHECKER.picture(film, size="64x64!")
    assert facts.moving and facts.sound
    assert (facts.width, facts.height, facts.rate) == (96, 64, 25.0)
    assert facts.seconds == pytest.approx(0.4, abs=0.1)


def test_an_order_is_checked_as_the_run_will(tmp_path):
    png(tmp_path / "a.png"), write_wav(tmp_path / "v.wav", tone(1.0))
    request = Request(image=Path("a.png"), speakers=(Speaker(audio=Path("v.wav")),), size="64x64!")
    checked = CHECKER.order(tmp_path, request, Settings())
    assert (checked.frames, checked.seconds, checked.width, checked.height) == (25, 1.0, 64, 64)
    with pytest.raises(UsageError, match="Nobody speaks"):
        CHECKER.order(tmp_path, Request(image=Path("a.png")), Settings())


@pytest.mark.parametrize("name", ["../secret.png", "/etc/hostname", "inputs/../../x", "link.png", "a\0b"])
def test_t7_an_order_names_files_of_its_own_folder_only(tmp_path, name):
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "link.png").symlink_to(png(tmp_path / "secret.png"))
    for request in (
        Request(image=Path(name), speakers=(Speaker(audio=Path("v.wav")),)),
        Request(image=Path("a.png"), speakers=(Speaker(audio=Path("v.wav"), mask=Path(name)),)),
    ):
        refused(lambda request=request: CHECKER.order(tmp_path / "job", request, Settings()), "path_outside")


def test_a1_i9_i10_v7_errors_come_back_by_name(tmp_path):
    (tmp_path / "empty.wav").write_bytes(b"")
    refused(lambda: CHECKER.sound(tmp_path / "empty.wav"), "audio_empty")
    (tmp_path / "page.png").write_bytes(b"<svg xmlns='http://www.w3.org/2000/svg'/>")
    refused(lambda: CHECKER.picture(tmp_path / "page.png"), "picture_unsupported")
    secret = write_wav(tmp_path / "secret.wav", tone(0.5))
    (tmp_path / "list.mp4").write_text(f"ffconcat version 1.0\nfile '{secret.name}'\n")
    refused(lambda: CHECKER.sound(tmp_path / "list.mp4"), "audio_unsupported")
    refused(lambda: CHECKER.picture(tmp_path / "list.mp4"), "picture_unsupported")


@pytest.mark.parametrize("side", [10_000, 60_000])
def test_i2_i3_a_promise_of_too_many_pixels_is_refused_by_the_header(tmp_path, side):
    refused(lambda: CHECKER.picture(claiming_png(tmp_path / "bomb.png", side)), "image_too_large")


def test_i3_more_memory_than_allowed_is_an_error_and_no_harm(tmp_path):
    """30 million pixels, which pass the cap of pixels, in an address space too small for them."""
    bomb = claiming_png(tmp_path / "big.png", 5_500, zlib.compress(bytes(5_500 * (5_500 * 3 + 1))))
    tight = Checker(limits=Limits(memory=320 * 2**20))
    refused(lambda: tight.picture(bomb), "media_limit", "image_corrupt")
    assert tight.picture(png(tmp_path / "next.png")).width == 96


def test_more_time_than_allowed_is_an_error_and_the_child_is_gone(tmp_path, monkeypatch):
    sleeper = tmp_path / "sleeper.py"
    sleeper.write_text("import os,sys,time\nopen(sys.argv[1],'w').write(str(os.getpid()))\ntime.sleep(60)\n")
    command = (sys.executable, "-S", str(sleeper), str(tmp_path / "pid"))
    monkeypatch.setattr(checking, "_COMMAND", command)
    refused(lambda: Checker(limits=Limits(wall_seconds=1.5)).sound(tmp_path / "any"), "media_limit")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("import os; os.abort()", "media_crash"),
        ("import os; os.kill(os.getpid(), 9)", "media_limit"),
        ("print('{')", "media_crash"),
        ("print('[]')", "media_crash"),
        ('print(\'{"facts": {"format": 5}}\')', "media_crash"),
        ('print(\'{"error": "SystemExit", "message": "", "code": ""}\')', "media_crash"),
        ("print('x' * 3_000_000)", "media_crash"),
    ],
)
def test_whatever_a_child_does_is_an_answer(tmp_path, monkeypatch, script, code):
    """A decoder that is taken over can lie or die, but not raise anything but our errors here."""
    monkeypatch.setattr(checking, "_COMMAND", (sys.executable, "-S", "-c", script))
    refused(lambda: CHECKER.sound(tmp_path / "any"), code)


def test_a_spinning_child_is_ended_by_its_share_of_the_processor(tmp_path):
    """The limits are real: the same function that the child calls, then a loop without end."""
    file = tmp_path / "file"
    script = f"""
from pathlib import Path
from infinite_talk.jobs.inspector import limit
limit({{"memory": 2**32, "cpu_seconds": 3, "file_bytes": 1000, "open_files": 40, "wall_seconds": 60}})
try:
    Path({str(file)!r}).write_bytes(bytes(5000))
except OSError as error:
    print(error.errno, flush=True)
while True:
    pass
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "27"  # EFBIG
    assert done.returncode < 0
    assert file.stat().st_size <= 1000


def test_t8_the_child_does_not_inherit_keys(tmp_path, monkeypatch):
    monkeypatch.setenv("INFINITE_TALK_API_KEY", "sesame")
    told = "{'error': 'InputError', 'message': str(dict(os.environ)), 'code': 'x'}"
    script = f"import json,os,sys; json.dump({told}, sys.stdout)"
    monkeypatch.setattr(checking, "_COMMAND", (sys.executable, "-S", "-c", script))
    assert "sesame" not in refused(lambda: CHECKER.sound(tmp_path / "any"), "x").message


def test_i12_names_are_data(tmp_path):
    """A name with quotes, a newline or an option's dash reaches the child as JSON and messages escaped."""
    file = png(tmp_path / ("-rf '; rm -rf \"\n{}" + "😀" * 40 + ".png"))
    assert CHECKER.picture(file).width == 96
    file.write_bytes(b"no picture")
    message = refused(lambda: CHECKER.picture(file), "picture_unsupported").message
    bad = tmp_path / "a\x1b[31m\nb.wav"
    bad.write_bytes(b"no sound")
    message += refused(lambda: CHECKER.sound(bad), "audio_unsupported").message
    assert "\n" not in message and "\x1b" not in message


def test_v10_mutated_files_end_in_facts_or_our_errors(tmp_path):
    """A few of many; each in a child of its own, so that a crash would be an answer too."""
    random = np.random.default_rng(6)
    seeds = [
        png(tmp_path / "a.png").read_bytes(),
        encode(tmp_path / "f.mp4", pictures=numbered(4)).read_bytes(),
    ]
    limits = Limits(wall_seconds=10, cpu_seconds=8)
    for number, seed in enumerate(seeds):
        data = np.frombuffer(seed, np.uint8).copy()
        data[random.integers(0, data.size, 20)] = random.integers(0, 256, 20)
        file = tmp_path / f"mutant{number}"
        file.write_bytes(data.tobytes())
        try:
            assert isinstance(Checker(limits=limits).picture(file), PictureFacts)
        except InfiniteTalkError as error:
            assert error.message and error.code != "media_limit"


def test_the_childs_answer_is_plain_json(tmp_path):
    """Seen from outside: a question in, one object out, no NaN."""
    voice = write_wav(tmp_path / "silence.wav", np.zeros(8000))
    order = {"question": "sound", "given": {"path": str(voice), "start": 0.0, "end": None}}
    order |= {"max_pixels": 10**6, "max_audio_seconds": 60.0, "default_size": "480"}
    order |= {
        "limits": {
            "memory": 2**32,
            "cpu_seconds": 60,
            "file_bytes": 2**20,
            "open_files": 64,
            "wall_seconds": 60,
        }
    }
    done = subprocess.run(
        [sys.executable, "-m", "infinite_talk.jobs.inspector"], input=json.dumps(order), capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    facts = json.loads(done.stdout, parse_constant=pytest.fail)["facts"]
    assert facts["loudness"] is None and facts["peak"] == 0
