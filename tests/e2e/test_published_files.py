"""Files as they are published make a video through the real engine, in every precision that runs here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from infinite_talk import (
    Attention,
    CapabilityError,
    CheckpointError,
    Engine,
    LoRA,
    Memory,
    OutOfMemoryError,
    Progress,
    Quantization,
    Request,
    Settings,
    Speaker,
)
from infinite_talk.models.dit import WanTransformer
from infinite_talk.weights.precision import policy_for
from tests import dialects, published


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published.write_official(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA in PEFT's names, on layers inside and outside the condition."""
    path = tmp_path_factory.mktemp("loras") / "style.safetensors"
    torch.manual_seed(3)
    tensors = {}
    for layer in ("blocks.0.self_attn.q", "blocks.1.cross_attn.k", "blocks.1.ffn.0"):
        out, width = published.transformer()[f"{layer}.weight"].shape
        tensors[f"diffusion_model.{layer}.lora_A.weight"] = torch.randn(4, width)
        tensors[f"diffusion_model.{layer}.lora_B.weight"] = 0.5 * torch.randn(out, 4)
    dialects.write_plain(path, tensors, torch.float32)
    return path


@pytest.fixture
def request_(portrait: Path, speech: Path) -> Request:
    speaker = Speaker(audio=speech)
    return Request(
        image=portrait, speakers=(speaker,), size="64x64!", steps=2, max_frames=9, window_frames=9,
        motion_frames=5, text_guidance=1.0, audio_guidance=1.0, colour_strength=0.0,
    )  # fmt: skip


def video(request: Request, settings: Settings) -> np.ndarray:
    return np.concatenate([clip.frames.numpy() for clip in Engine(settings).generate(request)]).astype(float)


@pytest.fixture
def plain(folder: Path, request_: Request) -> np.ndarray:
    return video(request_, Settings(model=folder))


def test_the_official_layout_makes_a_video_and_says_what_it_is(
    folder: Path, request_: Request, tmp_path: Path
) -> None:
    heard: list[Progress] = []
    engine = Engine(Settings(model=folder), progress=heard.append)
    result = engine.write(request_, tmp_path / "me.mp4")
    assert result.frames == 9
    assert any("transformer official bf16" in event.note for event in heard)
    assert result.recipe["machine"]["attention"] == "sdpa" == result.recipe["machine"]["attention"]
    assert result.recipe["model"]["version"] == "official, bf16" and result.recipe["model"]["fingerprint"]
    assert {event.runs for event in heard if event.step} == {"cpu, fp32, attention sdpa"}
    sidecar = json.loads((tmp_path / "me.mp4.json").read_text())
    assert any("transformer official bf16" in note for note in sidecar["report"]["notes"])


@pytest.mark.parametrize("quantization", [q for q in Quantization if q is not Quantization.GGUF])
def test_every_precision_makes_nearly_the_same_video(
    folder: Path, request_: Request, plain: np.ndarray, quantization: Quantization
) -> None:
    if policy_for(quantization, None)[1] is not None:
        with pytest.raises(CapabilityError, match=f"{quantization} needs"):
            Engine(Settings(model=folder, quantization=quantization, strict=True)).preview(request_)
    result = video(request_, Settings(model=folder, quantization=quantization))
    bound = 0 if quantization is Quantization.DISABLED else 16  # levels of 255, mean; noise differs by 70
    assert abs(result - plain).mean() <= bound


def test_a_fallback_is_one_line_and_in_the_recipe(folder: Path, request_: Request, tmp_path: Path) -> None:
    heard: list[Progress] = []
    settings = Settings(
        model=folder,
        quantization=Quantization.FP8_E4M3FN_SCALED_FAST,
        attention=Attention.SAGEATTN_3_FP4,
    )
    result = Engine(settings, progress=heard.append).write(request_, tmp_path / "me.mp4")
    notes = [event.note for event in heard if "instead" in event.note or "so fp8" in event.note]
    assert len(notes) == 2
    assert result.recipe["machine"]["quantization"] == "fp8_e4m3fn_scaled"
    assert result.recipe["machine"]["attention"] == "sdpa"


@pytest.mark.parametrize("writer", ["gguf", "scaled fp8", "lightx2v", "quanto", "combined"])
def test_other_dialects_of_the_same_weights_make_nearly_the_same_video(
    folder: Path, request_: Request, plain: np.ndarray, writer: str, tmp_path: Path
) -> None:
    write = {
        "gguf": lambda place, weights: dialects.write_gguf(place / "wan.gguf", weights, "Q8_0"),
        "scaled fp8": lambda place, weights: dialects.write_scaled_fp8(place / "wan.safetensors", weights),
        "lightx2v": lambda place, weights: dialects.write_lightx2v(place / "wan.safetensors", weights),
        "quanto": lambda place, weights: dialects.write_quanto(place / "wan.safetensors", weights),
        "combined": lambda place, weights: dialects.write_plain(
            place / "wan.safetensors", dialects.prefixed(weights, "model.diffusion_model.")
        ),
    }[writer]
    other = published.write_official(tmp_path, write)
    assert abs(video(request_, Settings(model=other)) - plain).mean() <= 16


def test_a_lora_acts_the_same_merged_and_at_run_time(
    folder: Path, request_: Request, plain: np.ndarray, lora: Path
) -> None:
    merged, beside, off, per_step = (
        video(request_, Settings(model=folder, loras=(LoRA(path=lora, strength=strength, merge=merge),)))
        for strength, merge in ((1.0, True), (1.0, False), (0.0, True), ((1.0, 0.0), False))
    )
    assert abs(merged - plain).mean() > 1
    assert abs(merged - beside).mean() < 0.05
    assert (off == plain).all()
    assert (per_step != merged).any() and (per_step != plain).any()


def test_a_lora_of_another_model_is_refused_before_anything_is_loaded(
    folder: Path, request_: Request, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.safetensors"
    name = "diffusion_model.blocks.0.self_attn.q"
    tensors = {f"{name}.lora_A.weight": torch.ones(4, 99), f"{name}.lora_B.weight": torch.ones(99, 4)}
    dialects.write_plain(wrong, tensors)
    with pytest.raises(CheckpointError, match=r"wrong\.safetensors does not fit"):
        Engine(Settings(model=folder, loras=(LoRA(path=wrong),))).preview(request_)


def test_a_missing_part_is_named_with_the_command_that_gets_it(request_: Request, tmp_path: Path) -> None:
    folder = published.write_official(tmp_path)
    (folder / "Wan2.1-I2V-14B-480P" / "Wan2.1_VAE.pth").unlink()
    with pytest.raises(CheckpointError, match="infinite-talk models pull"):
        Engine(Settings(model=folder)).preview(request_)


class Failing:
    """The transformer's memory runs out at some calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
        self.left, self.calls, forward = times, 0, WanTransformer.forward

        def fail(model: WanTransformer, *args: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            if self.left:
                self.left -= 1
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB.")
            return forward(model, *args)

        monkeypatch.setattr(WanTransformer, "forward", fail)


def test_when_memory_runs_out_the_window_is_made_again_with_less(
    folder: Path, request_: Request, plain: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []
    Failing(monkeypatch, 1)
    engine = Engine(Settings(model=folder), progress=lambda event: heard.append(event.note))
    clips = list(engine.generate(request_))
    retried = [note for note in heard if "memory ran out in window 1" in note]
    assert len(retried) == 1
    assert np.abs(np.concatenate([clip.frames.numpy() for clip in clips]) - plain).max() <= 1


def test_memory_that_never_suffices_ends_with_advice_and_the_next_job_is_unaffected(
    folder: Path, request_: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = Failing(monkeypatch, 1000)
    engine = Engine(Settings(model=folder))
    with pytest.raises(OutOfMemoryError, match=r"[Cc]hoose"):
        list(engine.generate(request_))
    assert failing.calls < 30
    failing.left = 0
    assert sum(len(clip.frames) for clip in engine.generate(request_)) == 9


def test_memory_settings_are_checked_at_the_door(folder: Path, request_: Request) -> None:
    from infinite_talk import UsageError

    with pytest.raises(UsageError, match="blocks"):
        Engine(Settings(model=folder, memory=Memory(blocks_to_swap=41))).preview(request_)
