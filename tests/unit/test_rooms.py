"""Models come when they are needed; the codec in one piece and in many gives the same frames."""

from __future__ import annotations

import weakref

import pytest
import torch

from infinite_talk import rooms as rooms_module
from infinite_talk.rooms import Resident
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
        monkeypatch.setattr(rooms_module, "MAP_BYTES", limit)
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
