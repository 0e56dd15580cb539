"""Models come when they are needed; the codec in one piece and in many gives the same frames."""

from __future__ import annotations

import weakref
from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from infinite_talk import rooms as rooms_module
from infinite_talk.models.vae import VideoVAE
from infinite_talk.rooms import Resident, Rooms
from tests.unit.tiny import tiny_rooms


def test_long_videos_are_coded_in_pieces_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    rooms = tiny_rooms()
    video = torch.rand(3, 17, 32, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1
    latent = rooms.encode_video(video)
    decoded = rooms.decode_video(latent)
    calls: list[int] = []
    chunks = type(rooms.vae).decode_chunks
    monkeypatch.setattr(
        type(rooms.vae), "decode_chunks", lambda vae, x, n: (calls.append(n), chunks(vae, x, n))[1]
    )
    for limit, expected in ((1, 1), (2 * 4 * 32 * 48 * 16, 2)):
        monkeypatch.setattr(rooms_module, "CACHE_BYTES", limit)
        torch.testing.assert_close(rooms.encode_video(video), latent, atol=1e-5, rtol=1e-5)
        # Random weights amplify rounding; a wrong piece would be off by the size of the values.
        torch.testing.assert_close(rooms.decode_video(latent), decoded, atol=5e-3, rtol=0)
        assert calls.pop() == expected


@pytest.mark.parametrize("keep", [True, False])
def test_a_model_is_built_at_its_first_use_and_leaves_unless_it_is_kept(keep: bool) -> None:
    rooms, built = tiny_rooms(), []

    def make() -> torch.nn.Linear:
        built.append(weakref.ref(model := torch.nn.Linear(2, 2)))
        return model

    resident = Resident(make, keep=keep)
    assert not built
    with rooms.using(resident) as model:
        assert isinstance(model, torch.nn.Linear)
    del model
    assert (built[0]() is not None) == keep
    with pytest.raises(RuntimeError), rooms.using(resident):
        raise RuntimeError("an error leaves nothing behind")
    assert len(built) == (1 if keep else 2)
    resident.release()
    assert all(made() is None for made in built)


@pytest.mark.parametrize("what", ["decode", "encode"])
def test_a_codec_that_leaves_the_range_of_16_bits_answers_in_32(
    what: str, caplog: pytest.LogCaptureFixture
) -> None:
    rooms = tiny_rooms()
    vae = rooms.vae
    assert isinstance(vae, VideoVAE)
    half = replace(rooms, vae=deepcopy(vae).half())
    generator = torch.Generator().manual_seed(1)
    video = torch.rand(3, 5, 16, 16, generator=generator) * 2 - 1
    latent = rooms.encode_video(video)

    def run(rooms: Rooms) -> torch.Tensor:
        return rooms.decode_video(latent) if what == "decode" else rooms.encode_video(video)

    assert run(half).isfinite().all()
    assert not caplog.records
    coder = half.vae.decoder if what == "decode" else half.vae.encoder  # type: ignore[union-attr]
    coder.conv1.weight.data.fill_(6e4)
    exact = replace(rooms, vae=deepcopy(half.vae).float())
    torch.testing.assert_close(run(half), run(exact), atol=1e-4, rtol=0)
    assert run(exact).isfinite().all()
    assert "float16" in caplog.text
    assert half.vae.dtype is torch.float16
