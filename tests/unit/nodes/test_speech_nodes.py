"""Speech: the engine's own features, several speakers on one time line, and what is done to a recording."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from infinite_talk.conditioning.speech import encode_speech
from infinite_talk.errors import InputError, UsageError
from infinite_talk.inputs.loudness import integrated_loudness
from infinite_talk.nodes import MultiTalkSilentEmbeds, MultiTalkWav2VecEmbeds, Wav2VecModelLoader
from infinite_talk.nodes.speech import NOISE_DB, TAIL, low_passed, mono, noise
from infinite_talk.request import Compat
from infinite_talk.rooms import Rooms
from infinite_talk.types import FPS, SPEECH_RATE, Plan, Window
from tests.unit.tiny import source

RATE = 16_000


@pytest.fixture
def wav2vec(tiny_bundle: Path):
    return Wav2VecModelLoader().loadmodel(str(tiny_bundle))[0]


def audio(
    seconds: float = 0.6, seed: int = 0, rate: int = RATE, channels: int = 1, loud: float = 0.1
) -> dict:
    drawn = torch.randn(1, channels, round(seconds * rate), generator=torch.Generator().manual_seed(seed))
    return {"waveform": drawn * loud, "sample_rate": rate}


def hear(wav2vec, *recordings: dict, **more):
    names = dict(zip(("audio_1", "audio_2", "audio_3", "audio_4"), recordings, strict=False))
    return MultiTalkWav2VecEmbeds().process(wav2vec, **names, **{"normalize_loudness": False, **more})


def engine_features(rooms: Rooms, waveform: torch.Tensor, heard: int) -> torch.Tensor:
    """As the engine hears a recording in a plan whose last window reaches to frame ``heard``."""
    window = Window(index=0, start=heard - 81 - 2, frames=81, overlap=0, new=1, reference=0)
    spoken = replace(source(1), speech=(waveform.numpy(),))
    return encode_speech(spoken, Plan((window,), heard), Compat.FIXED, rooms)[0]


def test_one_speaker_is_heard_as_the_engine_hears_it(wav2vec, engine_rooms: Rooms) -> None:
    sound = audio(0.6)
    embeds, heard, frames = hear(wav2vec, sound)
    (features,) = embeds["audio_features"]
    assert frames == embeds["num_frames"] == 15
    expected = engine_features(engine_rooms, sound["waveform"][0, 0], frames + TAIL)
    torch.testing.assert_close(features, expected)
    torch.testing.assert_close(heard["waveform"], sound["waveform"])
    assert embeds["audio_scale"] == embeds["audio_cfg_scale"] == 1.0
    assert embeds["ref_target_masks"] is None


@pytest.mark.parametrize(("how", "begin"), [("para", 0), ("add", 9600)])
def test_two_speakers_lie_on_one_time_line_and_hear_silence_beside_their_own_words(
    wav2vec, how: str, begin: int
) -> None:
    first, second = audio(0.6, seed=1), audio(0.4, seed=2)
    embeds, heard, frames = hear(wav2vec, first, second, multi_audio_type=how)
    total = 16000 if how == "add" else 9600
    assert frames == total * FPS // SPEECH_RATE
    placed = torch.zeros(1, 1, total)
    placed[..., begin : begin + 6400] = second["waveform"]
    alone, _, _ = hear(wav2vec, {"waveform": placed, "sample_rate": RATE})
    torch.testing.assert_close(embeds["audio_features"][1], alone["audio_features"][0])
    placed[..., :9600] += first["waveform"]
    torch.testing.assert_close(heard["waveform"], placed)


def test_the_number_of_frames_follows_the_rate_and_ends_at_the_limit(wav2vec) -> None:
    assert hear(wav2vec, audio(1.0), fps=10.0)[2] == 10
    embeds, heard, frames = hear(wav2vec, audio(1.0), fps=10.0, num_frames=4)
    assert frames == 4
    assert heard["waveform"].shape[-1] == 6400
    assert len(embeds["audio_features"][0]) == 4 + TAIL


def test_channels_are_averaged_and_the_rate_is_converted(wav2vec) -> None:
    sound = audio(0.6, channels=2)
    embeds, _, _ = hear(wav2vec, sound)
    averaged, _, _ = hear(wav2vec, {"waveform": sound["waveform"].mean(1, keepdim=True), "sample_rate": RATE})
    assert torch.equal(embeds["audio_features"][0], averaged["audio_features"][0])
    _, heard, frames = hear(wav2vec, audio(0.6, rate=44_100))
    assert abs(heard["waveform"].shape[-1] - 9600) <= 1
    assert frames in (14, 15)


def test_loudness_noise_floor_and_low_pass(wav2vec) -> None:
    quiet = audio(1.0, loud=0.01)
    _, heard, _ = hear(wav2vec, quiet, normalize_loudness=True)
    assert integrated_loudness(heard["waveform"][0, 0].numpy(), RATE) == pytest.approx(-23, abs=0.05)
    _, noisy, _ = hear(wav2vec, quiet, add_noise_floor=True)
    torch.testing.assert_close(
        noisy["waveform"][0, 0], quiet["waveform"][0, 0] + torch.from_numpy(noise(RATE))
    )
    assert 20 * np.log10(np.std(noise(RATE))) == pytest.approx(NOISE_DB, abs=0.2)
    time = np.arange(RATE) / RATE
    low, high = (np.sin(2 * np.pi * hertz * time).astype(np.float32) for hertz in (200, 7000))
    inside = slice(1000, -1000)
    np.testing.assert_allclose(
        low_passed(low + high)[inside], low[inside], atol=0.01
    )  # and nothing is delayed
    _, smooth, _ = hear(wav2vec, quiet, smooth_transients=True)
    np.testing.assert_allclose(
        smooth["waveform"][0, 0], low_passed(quiet["waveform"][0, 0].numpy()), atol=1e-6
    )


def test_scales_and_masks_are_handed_on(wav2vec) -> None:
    masks = torch.ones(3, 8, 8)
    embeds, _, _ = hear(
        wav2vec, audio(), audio(seed=1), audio_scale=1.5, audio_cfg_scale=[2.0, 1.0], ref_target_masks=masks
    )
    assert embeds["audio_scale"] == 1.5
    assert embeds["audio_cfg_scale"] == [2.0, 1.0]
    assert embeds["ref_target_masks"] is masks
    with pytest.raises(UsageError, match=r"shape \(1, 8, 8\) for 2 recordings"):
        hear(wav2vec, audio(), audio(seed=1), ref_target_masks=masks[:1])


def test_only_the_encoder_of_training_is_taken(wav2vec) -> None:
    with pytest.raises(UsageError, match="chinese-wav2vec2-base"):
        hear(replace(wav2vec, kind="facebook"), audio())
    with pytest.raises(UsageError, match="connect Wav2VecModelLoader"):
        hear("wav2vec", audio())


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ({"samples": 1}, "no AUDIO"),
        ({"waveform": torch.zeros(1, 1, 0), "sample_rate": RATE}, "empty"),
        ({"waveform": torch.full((1, 1, 9), torch.nan), "sample_rate": RATE}, "NaN"),
    ],
)
def test_what_is_no_recording_is_refused(given_: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        mono("audio_1", given_)


def test_silence_is_what_the_encoder_hears_in_silence(wav2vec) -> None:
    (embeds,) = MultiTalkSilentEmbeds().process(20, wav2vec_model=wav2vec)
    silent, _, _ = hear(wav2vec, {"waveform": torch.zeros(1, 1, 12800), "sample_rate": RATE})
    assert isinstance(embeds["audio_features"], torch.Tensor)
    assert embeds["num_frames"] == 20
    torch.testing.assert_close(embeds["audio_features"], silent["audio_features"][0])


def test_speech_that_is_missing_is_named(wav2vec) -> None:
    with pytest.raises(UsageError, match="audio_1 of MultiTalkWav2VecEmbeds"):
        MultiTalkWav2VecEmbeds().process(wav2vec, True, 25.0, 81)
