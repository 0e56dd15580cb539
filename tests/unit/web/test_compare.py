"""Two orders: what changes a video and is not the same is listed, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from infinite_talk import Precision, Request, Settings, Speaker
from infinite_talk.frontends.web.compare import differences
from infinite_talk.jobs import Order, StoredFile
from infinite_talk.jobs.node_options import NodeOptions

ORDER = Order(
    request=Request(image=Path("inputs/image.png"), speakers=(Speaker(audio=Path("inputs/audio.wav")),)),
    files=(
        StoredFile("inputs/image.png", "a" * 64, 1, "me.png"),
        StoredFile("inputs/audio.wav", "b" * 64, 1, "hello.wav"),
    ),
)


def test_the_same_is_the_same_whatever_it_is_called():
    assert differences(ORDER, replace(ORDER, title="x", profile="fast", extra={"preset": "draft"})) == []


def test_what_differs_is_named_with_both_values():
    other = replace(
        ORDER,
        request=replace(ORDER.request, seed=7, steps=8),
        settings=Settings(precision=Precision.BF16),
        options=NodeOptions(audio_scale=2.0),
    )
    assert differences(ORDER, other) == [
        ("options.audio_scale", "1.0", "2.0"),
        ("seed", "42", "7"),
        ("steps", "–", "8"),
        ("settings.precision", "auto", "bf16"),
    ]


def test_files_count_by_their_contents():
    other = replace(ORDER, files=(ORDER.files[0], replace(ORDER.files[1], sha256="c" * 64)))
    assert differences(ORDER, other) == [("speakers.1.audio", "hello.wav (bbbbbbbb)", "hello.wav (cccccccc)")]
