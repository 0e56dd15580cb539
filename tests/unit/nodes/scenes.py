"""A talking scene small enough for a test of a second: handles of tiny models with random weights, and embeds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import torch

from infinite_talk.errors import OutOfMemoryError
from infinite_talk.memory import MemoryPlan, Work
from infinite_talk.models.dit import WanTransformer
from infinite_talk.nodes.handles import Vae, WanModel
from infinite_talk.nodes.sampler import WanVideoSampler
from infinite_talk.rooms import Codec, Rooms
from infinite_talk.runtime import Runtime
from tests.unit import tiny

SIDE = 32
FRAMES, MOTION = 17, 5  # of a window
CONFIG = tiny.TRANSFORMER
PLAN = MemoryPlan(
    blocks_to_swap=0,
    prefetch_blocks=0,
    keep_keys_values=True,
    rows_at_once=None,
    batch_branches=False,
    decode_frames=4,
    vae_tile=None,
    keep_encoders=True,
    text_blocks_to_swap=0,
    peak=0.0,
    host=0.0,
    limit=0.0,
    stages=(),
    reason="",
)


class TinyModel(WanModel):
    """A transformer of a few thousand parameters that is there already."""

    def __init__(
        self,
        rooms: Rooms,
        kind: Literal["InfiniteTalk", "MultiTalk"] = "InfiniteTalk",
        *,
        loras: tuple[Path, ...] = (),
        fantasy_talking: Any = None,
        fantasy_portrait: Any = None,
    ) -> None:
        for name, value in {
            "settings": SimpleNamespace(loras=[SimpleNamespace(path=path) for path in loras]),
            "opened": SimpleNamespace(config=CONFIG, title="tiny_480p"),
            "kind": kind,
            "defaults": None,
            "overrides": (),
            "options": (),
            "fantasy_talking": fantasy_talking,
            "fantasy_portrait": fantasy_portrait,
            "rooms": rooms,
            "events": [],
            "plans": [],
        }.items():
            object.__setattr__(self, name, value)

    rooms: Rooms
    events: list[str]
    plans: list[str]
    runs = "cpu"
    dtype = torch.float32
    device = torch.device("cpu")

    def plan(self, work: Work, vae: Vae | None = None) -> MemoryPlan:
        return replace(PLAN, reason=f"plan {len(self.plans)}")

    def lower(self, plan: MemoryPlan, work: Work) -> MemoryPlan:
        self.plans.append(plan.reason)
        if len(self.plans) > 2:
            raise OutOfMemoryError("nothing is left to save")
        return replace(PLAN, reason=f"plan {len(self.plans)}")

    def short_of_memory(self) -> AbstractContextManager[list[str]]:
        return Runtime.short_of_memory(None)  # type: ignore[arg-type]

    @contextmanager
    def at_hand(
        self, work: Work, vae: Vae | None = None, plan: MemoryPlan | None = None
    ) -> Iterator[WanTransformer]:
        self.events.append("comes")
        yield self.rooms.transformer

    def release(self) -> None:
        self.events.append("goes")


class TinyVae(Vae):
    """A codec that is there already."""

    def __init__(self, rooms: Rooms) -> None:
        object.__setattr__(self, "rooms", rooms)

    loaded = True

    def codec(self, *, tile: int | None = None, frames: int | None = None) -> Codec:
        return self.rooms.codec


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def image_embeds(rooms: Rooms, **changes: Any) -> dict[str, Any]:
    """As WanVideoImageToVideoMultiTalk gives them, for one picture."""
    return {
        "multitalk_sampling": True,
        "multitalk_start_image": noise(1, 3, 1, SIDE, SIDE, seed=1).clamp(-1, 1),
        "frame_window_size": FRAMES,
        "motion_frame": MOTION,
        "target_h": SIDE,
        "target_w": SIDE,
        "tiled_vae": False,
        "force_offload": False,
        "colormatch": "disabled",
        "vae": TinyVae(rooms),
        "target_shape": (16, 1 + (FRAMES - 1) // 4, SIDE // 8, SIDE // 8),
        "clip_context": noise(1, CONFIG.clip_tokens, CONFIG.clip_dim, seed=2),
        "multitalk_mode": "auto",
        "output_path": "",
        **changes,
    }


def multitalk_embeds(frames: int = FRAMES, people: int = 1, **changes: Any) -> dict[str, Any]:
    """As MultiTalkWav2VecEmbeds gives them."""
    features = [
        noise(frames, CONFIG.audio_blocks, CONFIG.audio_channels, seed=3 + person) for person in range(people)
    ]
    return {
        "audio_features": features,
        "audio_scale": 1.0,
        "audio_cfg_scale": 1.0,
        "ref_target_masks": None,
        **changes,
    }


def text_embeds(prompts: int = 1) -> dict[str, Any]:
    return {
        "prompt_embeds": [noise(3, CONFIG.text_dim, seed=10 + i) for i in range(prompts)],
        "negative_prompt_embeds": [noise(2, CONFIG.text_dim, seed=20)],
        "echoshot": False,
    }


def arguments(rooms: Rooms, **changes: Any) -> dict[str, Any]:
    """Arguments of ``process`` for one window in two Euler steps without guidance."""
    return {
        "model": TinyModel(rooms),
        "image_embeds": image_embeds(rooms),
        "shift": 3.0,
        "steps": 2,
        "cfg": 1.0,
        "seed": 5,
        "scheduler": "euler",
        "riflex_freq_index": 0,
        "text_embeds": text_embeds(),
        "multitalk_embeds": multitalk_embeds(),
        **changes,
    }


def video(rooms: Rooms, **changes: Any) -> torch.Tensor:
    """The frames ``(T, H, W, 3)`` of a talking video."""
    (result,) = WanVideoSampler().process(**arguments(rooms, **changes))
    found: torch.Tensor = result["video"]
    return found


def latent(rooms: Rooms, **changes: Any) -> torch.Tensor:
    """The latent of the ordinary path."""
    samples, _ = WanVideoSampler().process(**arguments(rooms, **changes))
    found: torch.Tensor = samples["samples"]
    return found
