"""The codec in one piece and in many gives the same frames."""

from __future__ import annotations

import pytest
import torch

from infinite_talk import rooms as rooms_module
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
        monkeypatch.setattr(rooms_module, "BYTES_AT_ONCE", limit)
        torch.testing.assert_close(rooms.encode_video(video), latent, atol=1e-5, rtol=1e-5)
        # Random weights amplify rounding; a wrong piece would be off by the size of the values.
        torch.testing.assert_close(rooms.decode_video(latent), decoded, atol=5e-3, rtol=0)
        assert calls.pop() == expected
