"""Loading and writing of media by nodes: the same pixels and samples, whole files, nothing outside the folders."""

from __future__ import annotations

import json
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from infinite_talk import InputError, UsageError
from infinite_talk.media.film import write_film
from infinite_talk.nodes.helpers.loading import (
    LoadAudio,
    LoadImage,
    VHS_LoadAudio,
    VHS_LoadAudioUpload,
    VHS_LoadVideo,
    VHS_LoadVideoPath,
)
from infinite_talk.nodes.helpers.place import Place
from infinite_talk.nodes.helpers.saving import SaveImage, SaveVideo, VHS_VideoCombine
from infinite_talk.nodes.helpers.separation import (
    AudioSeparation,
    MelBandRoFormerModelLoader,
    MelBandRoFormerSampler,
)
from infinite_talk.nodes.helpers.sound import AudioConcat, AudioCrop, TrimAudioDuration, clock
from infinite_talk.nodes.helpers.video import CreateVideo, GetVideoComponents, LoadVideo
from infinite_talk.nodes.helpers.waveforms import WaveformTrack, resampled
from infinite_talk.nodes.host import Host, hosted


def tone(seconds: float, rate: int = 8000, channels: int = 1) -> dict:
    time = torch.arange(round(seconds * rate)) / rate
    return {
        "waveform": (0.5 * torch.sin(2 * np.pi * 300 * time)).expand(1, channels, -1),
        "sample_rate": rate,
    }


def greys(count: int, height: int = 32, width: int = 48) -> torch.Tensor:
    """Frame ``i`` has the grey ``i * 8 / 255``."""
    return (torch.arange(count)[:, None, None, None] * 8 / 255).expand(count, height, width, 3).contiguous()


def film(path: Path, count: int, *, rate: int = 10, sound: dict | None = None) -> Path:
    pictures = ((greys(count) * 255).round().to(torch.uint8)).numpy()
    track = None if sound is None else WaveformTrack(sound["waveform"][0], sound["sample_rate"])
    write_film(
        path, iter(pictures), height=32, width=48, rate=Fraction(rate), crf=1, soundtrack=track, tags={}
    )
    return path


def opened(path: Path) -> tuple[list[int], Fraction, np.ndarray | None, dict]:
    """Grey of each frame, rate, samples ``(C, S)``, tags."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        rate, tags = stream.average_rate, dict(container.metadata)
        frames = [round(float(frame.to_ndarray(format="gray").mean())) for frame in container.decode(stream)]
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return frames, rate, None, tags
        blocks = [frame.to_ndarray() for frame in container.decode(container.streams.audio[0])]
    return frames, rate, np.concatenate(blocks, axis=1), tags


def test_a_picture_comes_as_it_is(tmp_path):
    pixels = np.arange(40 * 50 * 3, dtype=np.uint32).reshape(40, 50, 3).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "woman.png")
    place = Place(folders=(tmp_path,))
    image, mask = LoadImage().load_image("sub/woman.png [input]", place=place)
    np.testing.assert_array_equal((image[0] * 255).round().numpy(), pixels)
    assert image.shape == (1, 40, 50, 3) and mask.ndim == 3


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "C:\\secret.png", "a/../../secret.png"])
def test_names_do_not_lead_out_of_the_folders(tmp_path, name):
    (tmp_path / "in").mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "secret.png")
    with pytest.raises(UsageError, match="--image"):
        LoadImage().load_image(name, place=Place(folders=(tmp_path / "in",)))


def test_a_file_given_on_the_command_line_may_be_anywhere(tmp_path):
    Image.new("RGB", (40, 40)).save(tmp_path / "here.png")
    place = Place(given=frozenset({tmp_path / "here.png"}))
    assert LoadImage().load_image(str(tmp_path / "here.png"), place=place)[0].shape == (1, 40, 40, 3)
    with pytest.raises(InputError, match="looked in"):
        LoadImage().load_image("gone.png", place=place)


def test_sound_keeps_its_channels_and_rate(tmp_path):
    samples = np.stack([np.linspace(-0.5, 0.5, 8000), np.linspace(0.5, -0.5, 8000)], 1).astype(np.float32)
    whole = np.round(samples * 32767).astype("<i2")
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((2, 2, 8000, 0, "NONE", ""))
        file.writeframes(whole.tobytes())
    samples = whole.astype(np.float32) / 32768
    place = Place(folders=(tmp_path,))
    (audio,) = LoadAudio().load("a.wav", place=place)
    assert audio["sample_rate"] == 8000
    np.testing.assert_array_equal(audio["waveform"][0].numpy(), samples.T)
    part, seconds = VHS_LoadAudioUpload().load_audio("a.wav", 0.25, 0.5, place=place)
    assert seconds == 0.5
    np.testing.assert_array_equal(part["waveform"][0].numpy(), samples[2000:6000].T)
    assert VHS_LoadAudio().load_audio("a.wav", 0.25, place=place)[1] == 0.75
    with pytest.raises(InputError):
        LoadAudio().load("a.wav", place=Place(folders=(tmp_path,), max_seconds=0.5))


@pytest.mark.parametrize(
    ("options", "shown", "rate"),
    [
        ({}, range(12), 10),
        ({"format": "Wan"}, range(9), 10),  # 4n + 1
        ({"skip_first_frames": 2, "select_every_nth": 3}, (2, 5, 8, 11), 10 / 3),
        ({"frame_load_cap": 4}, range(4), 10),
        ({"force_rate": 5}, range(0, 12, 2), 5),
        ({"force_rate": 20, "frame_load_cap": 6}, (0, 0, 1, 1, 2, 2), 20),
    ],
)
def test_the_wanted_pictures_of_a_film(tmp_path, options, shown, rate):
    film(tmp_path / "v.mp4", 12, sound=tone(1.2))
    place = Place(folders=(tmp_path,))
    pictures, count, sound, facts = VHS_LoadVideo().load_video("v.mp4", place=place, **options)
    got = (pictures.mean(dim=(1, 2, 3)) * 255 / 8).round().int().tolist()
    assert got == list(shown) and count == len(got)
    assert facts["loaded_fps"] == pytest.approx(rate) and facts["source_fps"] == 10
    seconds = min(count / rate, 1.2 - options.get("skip_first_frames", 0) / 10)
    assert sound["waveform"].shape[-1] / sound["sample_rate"] == pytest.approx(
        seconds, abs=0.13
    )  # AAC ends with whole packets


def test_a_whole_film_in_its_parts(tmp_path):
    film(tmp_path / "v.mp4", 5, sound=tone(0.5))
    (video,) = LoadVideo().load("v.mp4", place=Place(folders=(tmp_path,)))
    images, audio, fps = GetVideoComponents().part(video)
    assert images.shape == (5, 32, 48, 3) and fps == 10 and audio["sample_rate"] == 8000
    by_path = VHS_LoadVideoPath().load_video("v.mp4", format="None", place=Place(folders=(tmp_path,)))
    assert torch.equal(by_path[0], images)
    with pytest.raises(UsageError, match="CreateVideo"):
        GetVideoComponents().part(images)


def test_a_film_is_scaled_and_cropped_and_may_be_silent(tmp_path):
    film(tmp_path / "v.mp4", 2)
    place = Place(folders=(tmp_path,))
    pictures, _, sound, _ = VHS_LoadVideo().load_video(
        "v.mp4", custom_width=20, custom_height=20, place=place
    )
    assert pictures.shape == (2, 24, 24, 3) and sound is None  # the nearest multiples of 8
    with pytest.raises(InputError, match="frame_load_cap"):
        VHS_LoadVideo().load_video("v.mp4", place=Place(folders=(tmp_path,), max_bytes=32 * 48 * 12))


def test_a_video_has_all_frames_its_rate_its_sound_and_the_workflow(tmp_path):
    place = Place(outputs={"9": tmp_path / "sub" / "out.mp4"})
    told = VHS_VideoCombine().combine_video(
        greys(10), 12.5, audio=tone(0.5), place=place, unique_id="9", crf=5, prompt={"1": {}},
        extra_pnginfo={"workflow": {"nodes": []}},
    )  # fmt: skip
    frames, rate, sound, tags = opened(tmp_path / "sub" / "out.mp4")
    assert rate == Fraction(25, 2) and len(frames) == 10
    assert sound.shape[1] == pytest.approx(0.8 * 8000, abs=1024)  # as long as the pictures, silent at the end
    assert np.abs(sound[:, :3500]).max() > 0.3 and np.abs(sound[:, -800:]).max() < 0.05
    assert json.loads(tags["comment"]) == {"prompt": '{"1": {}}', "workflow": {"nodes": []}}
    assert "AI-generated" in tags["description"]
    assert told["ui"]["videos"][0]["frames"] == 10 and not list(tmp_path.rglob("*.part"))


def test_a_video_may_end_with_its_sound(tmp_path):
    lines = []
    place = Place(outputs={"9": tmp_path / "o.mp4"}, follow_sound=True, tell=lines.append)
    VHS_VideoCombine().combine_video(greys(30), 25, audio=tone(0.9), place=place, unique_id="9")
    assert len(opened(tmp_path / "o.mp4")[0]) == 23  # 22.5, to the nearest
    assert lines == ["o.mp4: 7 frames after the end of the sound are cut off."]
    VHS_VideoCombine().combine_video(greys(9), 25, audio=tone(0.9), place=place, unique_id="9")
    assert len(opened(tmp_path / "o.mp4")[0]) == 9


def test_pingpong_goes_back_and_odd_sides_become_even(tmp_path):
    place = Place(outputs={"9": tmp_path / "o.mp4"})
    VHS_VideoCombine().combine_video(
        greys(4, 33, 47), 8, pingpong=True, save_metadata=False, place=place, unique_id="9"
    )
    frames, _, sound, tags = opened(tmp_path / "o.mp4")
    assert frames == pytest.approx([0, 8, 16, 24, 16, 8], abs=1) and sound is None and "comment" not in tags
    with av.open(str(tmp_path / "o.mp4")) as container:
        assert (container.streams.video[0].height, container.streams.video[0].width) == (34, 48)


@pytest.mark.parametrize(
    "options", [{"format": "image/gif"}, {"pix_fmt": "yuv420p10le"}, {"crf": 60}, {"vae": 1}]
)
def test_what_is_not_written_is_said(options):
    with pytest.raises(UsageError):
        VHS_VideoCombine().combine_video(greys(2), 8, **options)


def test_a_video_of_comfyuis_own_nodes_and_single_pictures(tmp_path):
    place = Place(outputs={"9": tmp_path / "o.mp4"})
    (video,) = CreateVideo().create_video(greys(5), 10.0, tone(0.5))
    SaveVideo().save_video(video, place=place, unique_id="9")
    assert len(opened(tmp_path / "o.mp4")[0]) == 5
    with pytest.raises(UsageError, match="CreateVideo"):
        SaveVideo().save_video("x", place=place, unique_id="9")
    SaveImage().save_images(greys(2), place=place, unique_id="9")
    assert np.asarray(Image.open(tmp_path / "o_00002.png")).max() == 8


def test_parts_of_a_sound():
    audio = tone(2.0, channels=2)
    (part,) = TrimAudioDuration().trim(audio, 0.5, 1.0)
    assert torch.equal(part["waveform"], audio["waveform"][..., 4000:12000])
    assert torch.equal(
        TrimAudioDuration().trim(audio, -0.5, 9.0)[0]["waveform"], audio["waveform"][..., 12000:]
    )
    assert torch.equal(AudioCrop().main(audio, "0:01", "0:09")[0]["waveform"], audio["waveform"][..., 8000:])
    assert torch.equal(AudioCrop().main(audio, "1.5", "0:00")[0]["waveform"], audio["waveform"][..., 12000:])
    with pytest.raises(UsageError, match=r"lasts 2\.00 s"):
        TrimAudioDuration().trim(audio, 3.0, 1.0)
    assert clock("1:02:03.5") == 3723.5
    with pytest.raises(UsageError, match="1:30"):
        clock("soon")


def test_sounds_follow_each_other_at_the_higher_rate():
    one, two = tone(0.5, 8000), tone(0.25, 16000, channels=2)
    (joined,) = AudioConcat().concatenate(one, two)
    assert joined["sample_rate"] == 16000 and joined["waveform"].shape == (1, 2, 8000 + 4000)
    assert torch.equal(joined["waveform"][0, :, 8000:], two["waveform"][0])
    assert torch.equal(joined["waveform"][0, 0, :8000], resampled(one["waveform"][0], 8000, 16000)[0])


def test_without_weights_the_whole_sound_is_the_voice_and_that_is_said():
    lines: list[str] = []
    place = Place(tell=lines.append)
    for host in (Host(), Host(embedded=True)):
        with hosted(host):
            (model,) = MelBandRoFormerModelLoader().loadmodel("x/Mel.safetensors", place=place, unique_id="3")
        assert model is None
    assert len(lines) == 2 and all("as it is" in line and "node 3" in line for line in lines)
    audio = tone(0.1)
    vocals, rest = MelBandRoFormerSampler().process(None, audio)
    assert torch.equal(vocals["waveform"], audio["waveform"]) and not rest["waveform"].any()
    parts = AudioSeparation().main(audio, place=place, unique_id="4")
    assert torch.equal(parts[3]["waveform"], audio["waveform"]) and not parts[0]["waveform"].any()
    assert len(lines) == 3
