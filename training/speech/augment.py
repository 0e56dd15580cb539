"""Make clean synthetic speech sound like recordings: batched, on the device, with the mouth track kept in
step.

Every function takes sound (B, S) at 16 kHz and a generator, and draws for each clip on its own. Nothing
here moves the sound in time, except `crops`, which plays a clip faster or slower and moves its track along.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

RATE = 16000
HOP = 160
FPS = 25


@dataclass(frozen=True)
class Crops:
    """A batch: `sound` (B, S), and at 25 fps `mouth` (B, F, 6), `level` (B, F) in 0..1, `classes` (B, F)
    int64.
    """

    sound: Tensor
    mouth: Tensor
    level: Tensor
    classes: Tensor


@dataclass(frozen=True)
class DeviceBank:
    """A speech bank on the device: mu-law `sound` (160 T,), `track` (T, 7) bytes (mouth, level), `classes`
    (T,).
    """

    sound: Tensor
    track: Tensor
    classes: Tensor
    table: Tensor

    @property
    def frames(self) -> int:
        """Length in frames of 10 ms."""
        return len(self.classes)


def uniform(generator: torch.Generator, shape: tuple[int, ...], low: float, high: float) -> Tensor:
    """Uniform numbers on the generator's device."""
    return low + (high - low) * torch.rand(shape, generator=generator, device=generator.device)


def chosen(generator: torch.Generator, count: int, share: float) -> Tensor:
    """A (count, 1) mask of 0 and 1 with this share of ones."""
    return (torch.rand((count, 1), generator=generator, device=generator.device) < share).float()


def crops(bank: DeviceBank, starts: Tensor, speed: Tensor, frames: int) -> Crops:
    """Cut clips of `frames` video frames that begin at `starts` (B,) (10 ms frames), played at `speed` (B,).

    Speed changes tempo, pitch and formants together, as another speaker would; the track is read at the
    same times. The caller leaves room: start + 4 * frames * speed + 2 frames must lie inside the bank.
    """
    samples = frames * RATE // FPS
    device = bank.sound.device
    at = (
        starts[:, None].double() * HOP
        + torch.arange(samples, device=device).double()[None] * speed[:, None].double()
    )
    low = at.floor().long()
    share = (at - low).float()
    table = bank.table
    left, right = table[bank.sound[low].long()], table[bank.sound[low + 1].long()]
    sound = left + (right - left) * share
    seconds = (torch.arange(frames, device=device).double() + 0.5) / FPS
    place = starts[:, None].double() + 100 * seconds[None] * speed[:, None].double() - 0.5
    below = place.floor().long().clamp_(0, bank.frames - 2)
    part = (place - below).float().clamp_(0, 1)[..., None]
    track = bank.track[below].float() * (1 - part) + bank.track[below + 1].float() * part
    nearest = (place + 0.5).floor().long().clamp_(0, bank.frames - 1)
    return Crops(sound, track[..., :6] / 255, track[..., 6] / 255, bank.classes[nearest].long())


def augment(sound: Tensor, generator: torch.Generator) -> Tensor:
    """The whole chain, (B, S) -> (B, S), then `normalise` with a small error of loudness."""
    batch = sound.shape[0]
    sound = swell(sound, generator)
    sound = filtered(sound, generator)
    sound = mix(sound, reverberate(sound, generator), chosen(generator, batch, 0.4))
    sound = sound + tones(sound, generator) * chosen(generator, batch, 0.12)
    sound = sound + babble(sound, generator) * chosen(generator, batch, 0.15)
    sound = sound + noise(sound, generator) * chosen(generator, batch, 0.7)
    sound = mix(sound, driven(sound, generator), chosen(generator, batch, 0.15))
    sound = mix(sound, coarse_spectrum(sound, generator), chosen(generator, batch, 0.2))
    return normalise(sound) * 10 ** (uniform(generator, (batch, 1), -2, 2) / 20)


def normalise(sound: Tensor) -> Tensor:
    """Zero mean and unit variance for each clip, as wav2vec 2.0 asks."""
    centred = sound - sound.mean(-1, keepdim=True)
    return centred / torch.sqrt(centred.var(-1, keepdim=True, correction=0) + 1e-7)


def mix(first: Tensor, second: Tensor, choice: Tensor) -> Tensor:
    """Take `second` where `choice` is 1."""
    return first + (second - first) * choice


def power(sound: Tensor) -> Tensor:
    """Root mean square of each clip's louder half (B, 1): pauses do not count."""
    frames = sound.unfold(-1, 1600, 1600).pow(2).mean(-1)
    return frames.topk(max(1, frames.shape[-1] // 2), dim=-1).values.mean(-1, keepdim=True).add(1e-8).sqrt()


def swell(sound: Tensor, generator: torch.Generator) -> Tensor:
    """Slow changes of loudness within +-5 dB, as a speaker moves."""
    batch, samples = sound.shape
    knots = uniform(generator, (batch, 1, 4), -5, 5)
    curve = functional.interpolate(knots, size=samples, mode="linear", align_corners=True)[:, 0]
    return sound * 10 ** (curve / 20)


def filtered(sound: Tensor, generator: torch.Generator) -> Tensor:
    """Tilt, bumps and band limits: microphones, rooms, telephones. Zero phase, so nothing moves."""
    batch, samples = sound.shape
    spectrum = torch.fft.rfft(sound)
    hertz = torch.linspace(0, RATE / 2, spectrum.shape[-1], device=sound.device)[None]
    octave = torch.log2(hertz.clamp(min=50) / 1000)
    gain = uniform(generator, (batch, 1), -5, 3) * octave  # dB
    for _ in range(3):
        centre, width = uniform(generator, (batch, 1), -3, 3), uniform(generator, (batch, 1), 0.2, 1.0)
        gain = gain + uniform(generator, (batch, 1), -8, 8) * torch.exp(-(((octave - centre) / width) ** 2))
    phone, dull = chosen(generator, batch, 0.12), chosen(generator, batch, 0.25)
    top = 9000 - dull * uniform(generator, (batch, 1), 1500, 6000)
    top = top + phone * (3400 - top)
    bottom = uniform(generator, (batch, 1), 10, 150) * (1 - phone) + 300 * phone
    gain = (
        gain
        - 40 * torch.relu(torch.log2(hertz.clamp(min=1) / top))
        - 24 * torch.relu(torch.log2(bottom / hertz.clamp(min=1)))
    )
    return torch.fft.irfft(spectrum * 10 ** (gain.clamp(-80, 30) / 20), n=samples)


def reverberate(sound: Tensor, generator: torch.Generator) -> Tensor:
    """A room: decaying noise behind the direct sound, 0.1 to 0.7 s, 0 to 18 dB below it."""
    batch, samples = sound.shape
    length = 11200
    time = torch.arange(length, device=sound.device)[None] / RATE
    decay = torch.exp(-6.9 * time / uniform(generator, (batch, 1), 0.1, 0.7))
    tail = torch.randn((batch, length), generator=generator, device=sound.device) * decay
    tail = tail * (time > uniform(generator, (batch, 1), 0.002, 0.02))
    tail = tail / tail.pow(2).sum(-1, keepdim=True).sqrt()
    size = samples + length
    wet = torch.fft.irfft(torch.fft.rfft(sound, n=size) * torch.fft.rfft(tail, n=size), n=size)[:, :samples]
    return sound + wet * 10 ** (-uniform(generator, (batch, 1), 0, 18) / 20)


def noise(sound: Tensor, generator: torch.Generator) -> Tensor:
    """Coloured noise, 3 to 45 dB below the speech, to be added."""
    batch, samples = sound.shape
    white = torch.randn((batch, samples), generator=generator, device=sound.device)
    spectrum = torch.fft.rfft(white)
    hertz = torch.linspace(0, RATE / 2, spectrum.shape[-1], device=sound.device)[None].clamp(min=40)
    spectrum = spectrum * (hertz / 1000) ** -uniform(generator, (batch, 1), -0.3, 1.2)
    coloured = torch.fft.irfft(spectrum, n=samples)
    coloured = coloured / coloured.pow(2).mean(-1, keepdim=True).sqrt()
    return coloured * power(sound) * 10 ** (-uniform(generator, (batch, 1), 3, 45) / 20)


def tones(sound: Tensor, generator: torch.Generator) -> Tensor:
    """Something like music, 8 to 35 dB below the speech: four notes with harmonics that come and go."""
    batch, samples = sound.shape
    time = torch.arange(samples, device=sound.device)[None] / RATE
    music = torch.zeros_like(sound)
    for _ in range(4):
        pitch = 55 * 2 ** uniform(generator, (batch, 1), 0, 4)
        beat, phase = uniform(generator, (batch, 1), 0.5, 4), uniform(generator, (batch, 1), 0, 6.28)
        envelope = torch.sin(3.1416 * beat * time + phase).clamp(min=0)
        for harmonic in (1, 2, 3):
            music = music + envelope * torch.sin(6.2832 * pitch * harmonic * time) / harmonic
    music = music / power(music)
    return music * power(sound) * 10 ** (-uniform(generator, (batch, 1), 8, 35) / 20)


def babble(sound: Tensor, generator: torch.Generator) -> Tensor:
    """Another clip of the batch far behind, 12 to 30 dB below, to be added."""
    other = sound.roll(1, 0).roll(sound.shape[-1] // 3, 1)
    gain = power(sound) / power(other) * 10 ** (-uniform(generator, (sound.shape[0], 1), 12, 30) / 20)
    return other * gain


def driven(sound: Tensor, generator: torch.Generator) -> Tensor:
    """An overdriven microphone: soft clipping."""
    gain = uniform(generator, (sound.shape[0], 1), 1, 6) / (3 * power(sound))
    return torch.tanh(sound * gain) / gain


def coarse_spectrum(sound: Tensor, generator: torch.Generator) -> Tensor:
    """A low bit rate: weak parts of each short spectrum vanish, as in lossy codecs."""
    window = torch.hann_window(512, device=sound.device)
    spectrum = torch.stft(sound, 512, 256, window=window, return_complex=True)
    size = spectrum.abs()
    floor = (
        size.amax(1, keepdim=True) * 10 ** (-uniform(generator, (sound.shape[0], 1), 20, 45) / 20)[..., None]
    )
    return torch.istft(spectrum * (size > floor), 512, 256, window=window, length=sound.shape[-1])
