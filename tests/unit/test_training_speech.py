"""Speech for training: every phoneme has a mouth, tracks follow the sound, held-out speech stays held out."""

import random
import string

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import drawn
from training.speech import codec, flite, text, voices
from training.speech.augment import DeviceBank, augment, crops, normalise
from training.speech.bank import SpeechBank, from_mulaw, mulaw_table, save_travelling, to_mulaw
from training.speech.phonemes import BILABIAL, CLASSES, DOMINANCE, SILENCE, TARGETS, viseme_parts
from training.speech.phones import Phone, Spoken
from training.speech.score import best_lag, correlation, evaluate
from training.speech.tracks import HOP, classes_at, mouth_track, settle, speech_level, to_frames
from training.speech.utterance import Utterance, assemble

RATE = 16000


def tone(seconds: float, hertz: float = 220.0, gain: float = 0.3) -> np.ndarray:
    time = np.arange(int(seconds * RATE)) / RATE
    return (gain * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def babble_word(seed: int = 0) -> Spoken:
    """A made word "a-p-a-m-u" with sound where sound belongs."""
    spans = [(0.0, 0.2, "ɑː"), (0.2, 0.3, "p"), (0.3, 0.5, "æ"), (0.5, 0.6, "m"), (0.6, 0.9, "uː")]
    gains = {"p": 0.0, "m": 0.1}
    sound = np.concatenate([tone(b - a, 150 + 10 * seed, gains.get(name, 0.3)) for a, b, name in spans])
    return Spoken(sound, [Phone(a, b, name) for a, b, name in spans])


def utterance(seed: int = 0, voice: str = "flite/slt") -> Utterance:
    return assemble([babble_word(seed), babble_word(seed + 1)], voice, random.Random(seed))


# phonemes


@given(st.text(max_size=8))
def test_every_name_has_a_mouth(name):
    parts = viseme_parts(name)
    assert parts
    assert sum(share for _, share in parts) == pytest.approx(1)
    assert all(0 <= viseme < len(CLASSES) and share > 0 for viseme, share in parts)


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("b", ["pbm"]), ("ˈoʊ", ["ao", "uw"]), ("dʒ", ["sh"]), ("t͡ʃ", ["sh"]), ("ɜː", ["er"]),
        ("aɪ", ["aa", "ih"]),
        ("hh", ["k"]), ("th", ["th"]), ("ey", ["eh", "iy"]), ("", ["sil"]), ("pau", ["sil"]), ("ã", ["aa"]),
        ("ç", ["y"]), ("ˈɛɹ", ["eh", "r"]), ("ɕ", ["sh"]), ("√", ["ax"]),
    ],
)  # fmt: skip
def test_names_of_the_synthesisers(name, classes):
    assert [CLASSES[viseme] for viseme, _ in viseme_parts(name)] == classes


def test_targets_are_mouths():
    assert TARGETS.shape == (len(CLASSES), 6)
    assert TARGETS.min() >= 0
    assert TARGETS.max() <= 1
    assert (DOMINANCE > 0).all()
    assert TARGETS[SILENCE, 0] == TARGETS[BILABIAL, 0] == 0


# tracks


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(CLASSES) - 1), st.integers(1, 30)), min_size=1, max_size=20))
def test_mouth_stays_in_range(spans):
    classes = np.concatenate([np.full(count, viseme, np.uint8) for viseme, count in spans])
    track = mouth_track(classes, np.full(len(classes), 0.7, np.float32))
    assert track.mouth.shape == (len(classes), 6)
    assert track.mouth.min() >= 0
    assert track.mouth.max() <= 1


def test_lips_meet_and_the_mouth_rests():
    spoken = utterance(3)
    mouth = spoken.track().mouth
    for start, stop in spans_of(spoken.classes == BILABIAL):
        assert mouth[(start + stop) // 2, 0] < 0.02
    pauses = [(a, b) for a, b in spans_of(spoken.classes == SILENCE) if b - a > 20]
    assert pauses
    for start, stop in pauses:
        assert mouth[start + 8 : stop - 8, 0].max(initial=0) < 0.02
    assert mouth[:, 0].max() > 0.4


def test_short_closures_still_close():
    """Even 20 ms of "b" between open vowels brings the lips together."""
    classes = np.full(60, CLASSES.index("aa"), np.uint8)
    classes[30:32] = BILABIAL
    mouth = mouth_track(classes, np.ones(60, np.float32)).mouth
    assert mouth[29:33, 0].min() < 0.02
    assert mouth[20, 0] > 0.6


def test_loud_speech_opens_wider():
    classes = np.full(100, CLASSES.index("aa"), np.uint8)
    soft, loud = (mouth_track(classes, np.full(100, level, np.float32)).mouth[50, 0] for level in (0.1, 0.9))
    assert 0.5 < soft < loud


def test_sound_overrules_wrong_phones():
    level = np.ones(100, np.float32)
    level[60:90] = 0
    classes = np.full(100, CLASSES.index("aa"), np.uint8)
    classes[20:25] = SILENCE  # loud: no pause
    settled = settle(classes, level)
    assert (settled[:60] == CLASSES.index("aa")).all()
    assert (settled[64:86] == SILENCE).all()


def test_classes_cover_the_phones():
    classes = classes_at([Phone(0.1, 0.2, "m"), Phone(0.2, 0.4, "aɪ")], 50)
    names = [CLASSES[c] for c in classes]
    assert names[:10] == ["sil"] * 10
    assert names[10:20] == ["pbm"] * 10
    assert names[20:40] == ["aa"] * 11 + ["ih"] * 9
    assert set(names[40:]) == {"sil"}


def test_frames_are_read_at_their_centres():
    ramp = (np.arange(400) + 0.5) / 100  # the value of each 10 ms is its own time
    frames = to_frames(ramp, 100)
    assert np.allclose(frames, (np.arange(100) + 0.5) / 25)
    assert to_frames(np.stack([ramp, ramp], 1), 10).shape == (10, 2)
    assert np.allclose(to_frames(ramp, 110)[100:], ramp[-1])


def test_level_is_relative():
    sound = np.concatenate([np.zeros(8000, np.float32), tone(1.0)])
    assert np.allclose(speech_level(sound), speech_level(sound * 0.1), atol=1e-3)
    assert speech_level(sound)[:30].max() < 0.02


# utterances and banks


def test_sound_and_track_have_one_length():
    spoken = utterance(1)
    track = spoken.track()
    assert len(spoken.sound) == HOP * len(spoken.classes) == HOP * len(track.mouth)
    assert np.abs(spoken.sound).max() <= 1
    quiet = spans_of(np.abs(spoken.sound) < 1e-6)
    assert sum(b - a >= 0.2 * RATE for a, b in quiet) >= 3  # before, between, after


def test_bank_keeps_utterances(tmp_path):
    spoken = [utterance(0), utterance(5, "espeak/ed")]
    bank = SpeechBank.join([SpeechBank.of(spoken[:1]), SpeechBank.of(spoken[1:])])
    bank.save(tmp_path / "bank.safetensors")
    read = SpeechBank.open(tmp_path / "bank.safetensors")
    assert [read.voice_of(i) for i in range(2)] == ["flite/slt", "espeak/ed"]
    for i, one in enumerate(spoken):
        assert np.abs(read.sound_of(i) - one.sound).max() < 0.02
        assert np.abs(read.mouth_of(i) - one.track().mouth).max() <= 0.5 / 255 + 1e-6
    assert len(read.sound) == HOP * len(read.level)


def test_travelling_bank_gives_the_same_mouth(tmp_path):
    spoken = [utterance(0), utterance(1, "kokoro/x")]
    save_travelling(spoken, tmp_path / "small.safetensors")
    read = SpeechBank.open(tmp_path / "small.safetensors")
    for i, one in enumerate(spoken):
        assert np.array_equal(read.classes[read.frames_of(i)], one.classes)
        assert correlation(read.sound_of(i), one.sound) > 0.995
        assert np.abs(read.mouth_of(i) - one.track().mouth).max() < 0.05


def test_codec_rebuilds_sound():
    rng = np.random.default_rng(0)
    sound = (0.1 * rng.standard_normal(20011)).astype(np.float32)
    again = codec.decode(codec.encode(sound, 0.004), len(sound), 0.004)
    assert again.shape == sound.shape
    assert np.sqrt(np.mean((again - sound) ** 2)) < 3e-3  # rounding alone: the transform itself is exact
    rough = codec.encode(sound, 0.05)
    assert sum(map(len, rough)) < len(sound) / 2


def test_mulaw_is_nearly_exact():
    sound = np.linspace(-1, 1, 999, dtype=np.float32)
    assert np.abs(from_mulaw(to_mulaw(sound)) - sound).max() < 0.023
    assert (to_mulaw(mulaw_table()) == np.arange(256)).all()


# augmentation


def pulses() -> DeviceBank:
    """A bank whose sound is loud exactly where its track says that the mouth is open."""
    open_now = (np.arange(1200) // 40) % 2 == 0
    noise = np.random.default_rng(0).standard_normal(1200 * HOP) * 0.2
    sound = to_mulaw((noise * np.repeat(open_now, HOP)).astype(np.float32))
    track = np.repeat((open_now * 255).astype(np.uint8)[:, None], 7, 1)
    parts = (sound, track, open_now.astype(np.uint8), mulaw_table())
    return DeviceBank(*(torch.from_numpy(part) for part in parts))


def loudness_by_frame(sound: torch.Tensor) -> torch.Tensor:
    return sound.reshape(sound.shape[0], -1, 640).pow(2).mean(-1)


@pytest.mark.parametrize("speed", [0.8, 1.0, 1.25])
def test_speed_moves_sound_and_mouth_together(speed):
    clip = crops(pulses(), torch.tensor([0, 37, 111]), torch.full((3,), speed), 100)
    assert clip.sound.shape == (3, 100 * 640)
    assert clip.mouth.shape == (3, 100, 6)
    for loud, mouth in zip(loudness_by_frame(clip.sound), clip.mouth[..., 0], strict=True):
        assert correlation(loud.numpy(), mouth.numpy()) > 0.93
        assert best_lag(loud.numpy(), mouth.numpy()) == 0


@pytest.mark.parametrize("seed", range(4))
def test_augmentation_moves_nothing_in_time(seed):
    clip = crops(pulses(), torch.tensor([0, 37, 111, 200]), torch.ones(4), 100)
    sound = augment(clip.sound, torch.Generator().manual_seed(seed))
    assert sound.shape == clip.sound.shape
    assert torch.isfinite(sound).all()
    for loud, mouth in zip(loudness_by_frame(sound), clip.mouth[..., 0], strict=True):
        assert abs(best_lag(loud.sqrt().numpy(), mouth.numpy())) <= 1
        assert correlation(loud.sqrt().numpy(), mouth.numpy()) > 0.5


def test_augmentation_survives_silence():
    sound = augment(torch.zeros(2, RATE * 2), torch.Generator().manual_seed(0))
    assert torch.isfinite(sound).all()


def test_normalise():
    sound = normalise(torch.randn(2, 4000) * 0.01 + 3)
    assert torch.allclose(sound.mean(-1), torch.zeros(2), atol=1e-4)
    assert torch.allclose(sound.var(-1), torch.ones(2), atol=0.01)


# what is held out


def test_held_out_voices_are_never_drawn_for_training():
    for engine, names in (
        ("espeak", voices.ESPEAK_SPEAKERS),
        ("flite", voices.FLITE_VOICES),
        ("kokoro", voices.KOKORO_VOICES),
        ("piper", voices.PIPER_VOICES),
    ):
        train, held = (set(voices.speakers(engine, names, kind)) for kind in (False, True))
        assert train
        assert not train & held
        assert train | held == set(names)
        assert held == {name.split("/")[1] for name in voices.HELD_OUT if name.startswith(engine + "/")}


@pytest.mark.parametrize("language", text.LANGUAGES)
def test_held_out_sentences_are_never_drawn_for_training(language):
    train, held = random.Random(0), random.Random(0)
    spoken = {text.sentence(train, language) for _ in range(60)}
    kept = {text.sentence(held, language, held_out=True) for _ in range(10)}
    assert not spoken & kept
    assert all(text.is_held_out(s) for s in kept)
    assert not any("{" in s or "|" in s or "  " in s for s in spoken | kept)


def test_text_is_a_function_of_the_seed():
    first, second = ([text.passage(random.Random(4), "en") for _ in range(3)] for _ in range(2))
    assert first == second
    assert any(letter in string.ascii_letters for letter in first[0][0])


# scores and synthesisers


def test_scores_know_good_from_late_and_wrong():
    bank = SpeechBank.of([utterance(seed) for seed in range(4)])
    truths = {len(bank.sound_of(i)): bank.mouth_of(i) for i in range(4)}

    def perfect(sound, frames):
        return to_frames(truths[len(sound)], frames), np.zeros(frames)

    def late(sound, frames):
        return np.roll(perfect(sound, frames)[0], 2, 0), np.zeros(frames)

    def frozen(_, frames):
        return np.full((frames, 6), 0.4), np.zeros(frames)

    good, shifted, dead = (evaluate(bank, estimator) for estimator in (perfect, late, frozen))
    assert good["r"]["open"] == pytest.approx(1)
    assert good["lag_frames"] == {"mean": 0.0, "most": 0}
    assert good["open_in_silence"] < 0.02
    assert shifted["lag_frames"]["mean"] == 2
    assert dead["r"]["open"] == 0
    assert dead["open_in_silence"] > 0.3


def test_flite_durations_are_read():
    phones = flite.parse_durations("pau:0.180 hh:0.281 ax:0.334 ")
    assert phones == [Phone(0.0, 0.18, "pau"), Phone(0.18, 0.281, "hh"), Phone(0.281, 0.334, "ax")]


@pytest.fixture(scope="module")
def espeak():
    pytest.importorskip("espeakng_loader")
    return drawn.espeak()


def test_espeak_speaks_with_times(espeak):
    from training.speech.espeak import Prosody

    spoken = espeak.speak("Mama, put a big paper map by the baby.", "en-us+f2", Prosody())
    assert len(spoken.sound) > RATE
    assert spoken.phones[-1].stop == pytest.approx(len(spoken.sound) / RATE, abs=0.02)
    assert all(a.stop <= b.start + 1e-6 for a, b in zip(spoken.phones, spoken.phones[1:], strict=False))
    names = "".join(phone.name for phone in spoken.phones)
    assert all(letter in names for letter in "mpb")
    one = assemble([spoken], "espeak/f2", random.Random(0))
    mouth, level = one.track().mouth, speech_level(one.sound)
    assert mouth[one.classes == BILABIAL, 0].mean() < 0.03
    assert correlation(mouth[:, 0], level) > 0.5


def test_espeak_spells_ipa(espeak):
    assert espeak.ipa("a big map", "en-us").replace("ˈ", "").replace("ˌ", "") == "ɐ bɪɡ mæp"


def test_espeak_refuses_unknown_voices(espeak):
    with pytest.raises(ValueError, match="no voice 'xx-none'"):
        espeak.ipa("hello", "xx-none")


# the training itself


def test_encoder_trains_a_step_and_is_kept(tmp_path):
    pytest.importorskip("transformers")
    import argparse

    from training import train_speech
    from training.speech import encoder

    bank = SpeechBank.of([utterance(seed) for seed in range(24)])
    bank.save(tmp_path / "bank.safetensors")
    args = argparse.Namespace(
        bank=tmp_path / "bank.safetensors", held_out=[tmp_path / "bank.safetensors"], out=tmp_path / "run",
        minutes=0, steps=1, seconds=8, device="cpu", seed=0, resume=None, tiny=True, most=1,
    )  # fmt: skip
    report = train_speech.train(args)
    assert report["step"] == 1
    assert set(report["bank"]["r"]) == {"open", "width", "round", "teeth", "tongue", "tuck"}
    again = encoder.load(tmp_path / "run")
    found = again.estimate(torch.randn(1, RATE), 25)
    assert found.mouth.shape == (1, 25, 6)
    assert again.encoder(torch.randn(1, RATE), 25).shape == (1, 25, 2, 32)
    assert train_speech.train(argparse.Namespace(**(vars(args) | {"resume": args.out})))["step"] == 2


def spans_of(mask: np.ndarray) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate(([0], mask.astype(np.int8), [0]))))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]
