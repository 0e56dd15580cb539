"""Mel-Band RoFormer: bands, keys and sizes of the published file, the network against its definition, long sounds."""

from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from infinite_talk import CheckpointError
from infinite_talk.models.separation import MelBandRoFormer, SeparatorConfig
from infinite_talk.models.separation.bands import mel_bands
from infinite_talk.models.separation.separate import fades, separate
from infinite_talk.nodes.helpers.place import Place
from infinite_talk.nodes.helpers.roformer import load_separator
from infinite_talk.nodes.helpers.separation import MelBandRoFormerModelLoader, MelBandRoFormerSampler
from infinite_talk.nodes.host import Host, ModelFolders, hosted

TINY = SeparatorConfig(dim=8, depth=2, heads=2, dim_head=4, bands=4, rate=8000, n_fft=64, hop=16, chunk=640)
BANDS = """0:7 4:6 7:6 10:6 13:6 16:6 19:6 22:6 25:6 28:6 31:6 34:6 37:6 40:6 43:6 46:7 49:7 53:7 56:9 60:9 65:9 69:10
74:10 79:11 84:13 90:13 97:13 103:15 110:16 118:17 126:19 135:20 145:20 155:22 165:24 177:26 189:28 203:29 217:31 232:33
248:36 265:39 284:41 304:44 325:47 348:50 372:54 398:57 426:61 455:66 487:71 521:76 558:80 597:86 638:93 683:99 731:105
782:113 836:122 895:130"""
"""First bin and number of bins of each band, of librosa's filter bank at 44.1 kHz: what the published weights fit."""


def tiny(seed: int = 0) -> MelBandRoFormer:
    torch.manual_seed(seed)
    model = MelBandRoFormer(TINY).eval()
    for one in model.parameters():
        torch.nn.init.normal_(one, std=0.5)
    return model


def test_the_bands_are_those_of_the_published_weights():
    found = mel_bands(60, 1025, 44_100)
    assert " ".join(f"{band[0]}:{len(band)}" for band in found).split() == BANDS.split()
    assert all((band[1:] - band[:-1] == 1).all() for band in found)


def test_keys_and_sizes_are_those_of_the_published_file():
    with torch.device("meta"):
        model = MelBandRoFormer(SeparatorConfig())
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    first = 7 * 2 * 2  # bins, channels, real and imaginary part
    assert shapes["band_split.to_features.0.0.gamma"] == (first,)
    assert shapes["band_split.to_features.0.1.weight"] == (384, first)
    for axis in (0, 1):
        layer = f"layers.5.{axis}"
        assert shapes[f"{layer}.layers.0.0.norm.gamma"] == (384,)
        assert shapes[f"{layer}.layers.0.0.to_qkv.weight"] == (1536, 384)
        assert shapes[f"{layer}.layers.0.0.to_gates.weight"] == (8, 384)
        assert shapes[f"{layer}.layers.0.0.to_out.0.weight"] == (384, 512)
        assert shapes[f"{layer}.layers.0.1.net.0.gamma"] == (384,)
        assert shapes[f"{layer}.layers.0.1.net.1.weight"] == (1536, 384)
        assert shapes[f"{layer}.layers.0.1.net.4.bias"] == (384,)
        assert shapes[f"{layer}.norm.gamma"] == (384,)
    assert shapes["mask_estimators.0.to_freqs.59.0.0.weight"] == (1536, 384)
    assert shapes["mask_estimators.0.to_freqs.59.0.2.weight"] == (1536, 1536)
    assert shapes["mask_estimators.0.to_freqs.59.0.4.weight"] == (2 * 130 * 4, 1536)
    assert sum(shapes[f"band_split.to_features.{band}.0.gamma"][0] for band in range(60)) == 7916
    assert sum(math.prod(shape) for shape in shapes.values()) == pytest.approx(228.2e6, rel=1e-3)


def slow(model: MelBandRoFormer, sound: Tensor) -> Tensor:
    """The definition in loops, for one sound ``(2, S)``: no batches, no gathering, attention written out."""
    c, weights = model.config, dict(model.named_parameters())

    def norm(x, name):
        return x / x.norm(dim=-1, keepdim=True) * math.sqrt(x.shape[-1]) * weights[f"{name}.gamma"]

    def linear(x, name):
        return x @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", torch.zeros(1))

    def turned(x):  # (L, d): pairs turned by position * 10000 ** (-2 j / d)
        out = torch.empty_like(x)
        for place in range(len(x)):
            for pair in range(c.dim_head // 2):
                angle = place * 10000 ** (-2 * pair / c.dim_head)
                a, b = x[place, 2 * pair], x[place, 2 * pair + 1]
                out[place, 2 * pair] = a * math.cos(angle) - b * math.sin(angle)
                out[place, 2 * pair + 1] = a * math.sin(angle) + b * math.cos(angle)
        return out

    def layer(x, name):  # (L, D)
        h = norm(x, f"{name}.layers.0.0.norm")
        qkv = linear(h, f"{name}.layers.0.0.to_qkv").reshape(len(x), 3, c.heads, c.dim_head)
        gates = linear(h, f"{name}.layers.0.0.to_gates").sigmoid()
        heads = []
        for head in range(c.heads):
            q, k, v = turned(qkv[:, 0, head]), turned(qkv[:, 1, head]), qkv[:, 2, head]
            heads.append((q @ k.T / math.sqrt(c.dim_head)).softmax(-1) @ v * gates[:, head : head + 1])
        x = x + linear(torch.cat(heads, dim=-1), f"{name}.layers.0.0.to_out.0")
        h = linear(norm(x, f"{name}.layers.0.1.net.0"), f"{name}.layers.0.1.net.1")
        x = x + linear(torch.nn.functional.gelu(h), f"{name}.layers.0.1.net.4")
        return norm(x, f"{name}.norm")

    window = torch.hann_window(c.n_fft)
    spectra = [torch.stft(one, c.n_fft, c.hop, window=window, return_complex=True) for one in sound]
    frames, bands = spectra[0].shape[1], mel_bands(c.bands, c.bins, c.rate)
    x = torch.empty(frames, c.bands, c.dim)
    for frame in range(frames):
        for number, band in enumerate(bands):
            values = [
                part
                for row in band
                for one in spectra
                for part in (one[row, frame].real, one[row, frame].imag)
            ]
            h = norm(torch.stack(values), f"band_split.to_features.{number}.0")
            x[frame, number] = linear(h, f"band_split.to_features.{number}.1")
    for depth in range(c.depth):
        x = torch.stack([layer(x[:, band], f"layers.{depth}.0") for band in range(c.bands)], dim=1)
        x = torch.stack([layer(x[frame], f"layers.{depth}.1") for frame in range(frames)])
    totals, counts = [torch.zeros_like(one) for one in spectra], torch.zeros(c.bins)
    for number, band in enumerate(bands):
        name = f"mask_estimators.0.to_freqs.{number}.0"
        h = linear(linear(linear(x[:, number], f"{name}.0").tanh(), f"{name}.2").tanh(), f"{name}.4")
        value, gate = h.chunk(2, dim=-1)
        mask = (value * gate.sigmoid()).reshape(frames, len(band), 2, 2)
        for place, row in enumerate(band):
            counts[row] += 1
            for channel in (0, 1):
                totals[channel][row] += torch.complex(mask[:, place, channel, 0], mask[:, place, channel, 1])
    return torch.stack(
        [
            torch.istft(one * total / counts[:, None], c.n_fft, c.hop, window=window, length=sound.shape[1])
            for one, total in zip(spectra, totals, strict=True)
        ]
    )


def test_the_network_is_its_definition():
    model, sound = tiny(), torch.randn(2, 160, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        torch.testing.assert_close(model(sound[None])[0], slow(model, sound), rtol=1e-4, atol=1e-5)


class Half(torch.nn.Module):
    """Stands in for the network: half of everything."""

    config = TINY
    window = torch.zeros(1)

    def forward(self, sound):
        assert sound.shape == (1, 2, TINY.chunk)
        return sound / 2


@pytest.mark.parametrize("length", [1, 100, 320, 321, 640, 641, 1000, 2000, 3210])
def test_chunks_join_without_seams(length):
    sound = torch.randn(2, length)
    torch.testing.assert_close(separate(Half(), sound), sound / 2)


def test_fades_are_where_other_chunks_are_heard():
    assert fades(6, 2, first=True, last=False).tolist() == [1, 1, 1, 1, 1, 0.5]
    assert fades(6, 2, first=False, last=True).tolist() == [0.5, 1, 1, 1, 1, 1]


def test_a_file_loads_strictly_and_the_node_separates(tmp_path):
    model = tiny()
    keys = {name: value.clone() for name, value in model.state_dict().items()}
    rotary = {
        f"layers.{d}.{a}.layers.0.0.rotary_embed.freqs": torch.ones(2) for d in range(2) for a in range(2)
    }
    path = tmp_path / "diffusion_models" / "m.safetensors"
    path.parent.mkdir()
    save_file(keys | rotary, path)
    loaded = load_separator(path, TINY)
    sound = torch.randn(1, 900)
    voice, rest, rate = loaded.separate(sound, TINY.rate)
    assert rate == TINY.rate and voice.shape == (2, 900)
    torch.testing.assert_close(voice, separate(model, sound.expand(2, -1)))
    torch.testing.assert_close(voice + rest, sound.expand(2, -1))
    vocals, instruments = MelBandRoFormerSampler().process(
        loaded, {"waveform": sound[None], "sample_rate": 8000}
    )
    torch.testing.assert_close(vocals["waveform"][0], voice)
    torch.testing.assert_close(instruments["waveform"][0], rest)
    del keys["layers.0.0.norm.gamma"]
    save_file(keys, path)
    with pytest.raises(CheckpointError, match=r"layers\.0\.0\.norm\.gamma"):
        load_separator(path, TINY)
    with hosted(Host(places=ModelFolders((tmp_path,)))), pytest.raises(CheckpointError):
        MelBandRoFormerModelLoader().loadmodel(
            "x\\m.safetensors", place=Place()
        )  # found, and of another size
