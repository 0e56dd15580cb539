"""Loaders: the engine's own models, what this machine makes of a choice, and weights that are read once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from shutil import copyfile

import pytest
import torch
from safetensors.torch import load_file, save_file

from infinite_talk.errors import CapabilityError, CheckpointError, UsageError
from infinite_talk.memory import Work
from infinite_talk.models.dit import WanTransformer
from infinite_talk.models.dit.keys import is_speech_key
from infinite_talk.nodes import (
    CLIPVisionLoader,
    DownloadAndLoadWav2VecModel,
    LoadWanVideoT5TextEncoder,
    MultiTalkModelLoader,
    QwenLoader,
    WanVideoBlockSwap,
    WanVideoExtraModelSelect,
    WanVideoLoraSelect,
    WanVideoModelLoader,
    WanVideoSetBlockSwap,
    WanVideoSetLoRAs,
    WanVideoTorchCompileSettings,
    WanVideoVACEModelSelect,
    WanVideoVAELoader,
    WanVideoVRAMManagement,
    Wav2VecModelLoader,
)
from infinite_talk.nodes.attention import Decayed, Radial
from infinite_talk.nodes.caches import WanVideoMagCache, cache_of
from infinite_talk.nodes.handles import Vae, WanModel, need_model, need_vae
from infinite_talk.nodes.host import ModelFolders, host, hosted
from infinite_talk.nodes.opening import open_named
from infinite_talk.ops.linear import PackedLinear
from infinite_talk.rooms import Rooms
from infinite_talk.runtime import Runtime, build_part
from infinite_talk.settings import Attention, Memory, Precision, Quantization
from infinite_talk.types import Size
from infinite_talk.weights.checkpoint import Checkpoint, Part
from tests.bundles import CONFIGS
from tests.unit.lora.files import AB

WORK = Work(size=Size(64, 64), frames=17, motion=5, steps=2)


def load(bundle: Path, *args, **more) -> WanModel:
    return WanVideoModelLoader().loadmodel(str(bundle), *(args or ("fp32",)), **more)[0]


def lora_file(path: Path, strength: float = 1.0) -> Path:
    """Rank 2 on the query of the only block."""
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.randn(*shape, generator=generator) * strength for shape in ((2, 24), (24, 2)))
    name = "diffusion_model.blocks.0.self_attn.q"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({f"{name}.{AB[0]}": a, f"{name}.{AB[1]}": b}, path)
    return path


def query(model: WanModel) -> torch.Tensor:
    """What the query of the first block makes of ones."""
    with model.at_hand(WORK) as transformer:
        found: torch.Tensor = transformer.blocks[0].self_attn.q(torch.ones(1, 24))[0]
        return found.clone()


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry for each time that a transformer is read."""
    seen: list[str] = []
    build = Runtime._build_transformer
    monkeypatch.setattr(Runtime, "_build_transformer", lambda self: (seen.append("read"), build(self))[1])
    return seen


def test_the_transformer_is_the_engines(tiny_bundle: Path, engine_rooms: Rooms) -> None:
    model = load(tiny_bundle)
    (vae,) = WanVideoVAELoader().loadmodel(str(tiny_bundle), "fp32")
    with model.at_hand(WORK, vae) as transformer:
        assert isinstance(transformer, WanTransformer)
        expected = dict(engine_rooms.transformer.named_parameters())
        for name, parameter in transformer.named_parameters():
            assert torch.equal(parameter, expected[name]), name
    assert (model.kind, model.layers, model.runs) == ("InfiniteTalk", 1, "cpu, fp32, attention sdpa")
    assert model.plan(WORK, vae).blocks_to_swap == 0


def test_weights_are_read_at_first_use_and_shared_by_variants(tiny_bundle: Path, builds: list[str]) -> None:
    model = load(tiny_bundle)
    assert not builds
    with model.at_hand(WORK), replace(model, options=("x",)).at_hand(WORK):
        pass
    with model.with_memory(Memory(keep_encoders=False)).at_hand(WORK):
        assert builds == ["read"]
    model.release()
    with model.at_hand(WORK):
        assert builds == ["read"] * 2


def test_other_loras_make_another_transformer_and_the_same_ones_do_not(
    tiny_bundle: Path, tmp_path: Path, builds: list[str]
) -> None:
    file = lora_file(tmp_path / "models" / "loras" / "style.safetensors")
    plain = load(tiny_bundle)
    expected = query(plain)
    parts = load_file(file)
    down, up = (parts[f"diffusion_model.blocks.0.self_attn.q.{half}"] for half in AB)
    for merge in (True, False):
        (entries,) = WanVideoLoraSelect().getlorapath("style.safetensors", 0.5, merge_loras=merge)
        (styled,) = WanVideoSetLoRAs().setlora(plain, entries)
        builds.clear()
        found = query(styled)
        torch.testing.assert_close(
            found, expected + 0.5 * (up @ (down @ torch.ones(24))), atol=1e-4, rtol=1e-4
        )
        query(styled)
        assert builds == ["read"]
    torch.testing.assert_close(query(plain), expected)
    assert WanVideoSetLoRAs().setlora(plain)[0] is plain
    with pytest.raises(CheckpointError, match="does not fit"):
        wrong = tmp_path / "models" / "loras" / "wrong.safetensors"
        save_file(
            {f"blocks.7.ffn.0.{AB[0]}": torch.ones(1, 24), f"blocks.7.ffn.0.{AB[1]}": torch.ones(32, 1)},
            wrong,
        )
        load(tiny_bundle, lora=WanVideoLoraSelect().getlorapath("wrong.safetensors")[0])


def test_names_of_the_pack_are_settings(tiny_bundle: Path) -> None:
    settings = load(tiny_bundle, "bf16", quantization="fp8_e4m3fn_scaled", attention_mode="comfy").settings
    assert settings.precision is Precision.BF16
    assert settings.quantization is Quantization.FP8_E4M3FN_SCALED
    assert settings.attention is Attention.AUTO
    assert load(tiny_bundle, attention_mode="sageattn_compiled").settings.attention is Attention.SAGEATTN
    assert load(tiny_bundle, quantization="nf4").settings.quantization is Quantization.NF4
    with load(tiny_bundle, quantization="fp8_e4m3fn").at_hand(WORK) as transformer:
        assert any(isinstance(module, PackedLinear) for module in transformer.modules())


def test_what_a_cpu_cannot_do_becomes_one_line_or_an_error(
    tiny_bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    compiled = WanVideoTorchCompileSettings().set_args()[0]
    model = load(tiny_bundle, "fp16_fast", compile_args=compiled)
    assert model.settings.precision is Precision.FP32
    assert model.float16_sums
    assert model.compilation is not None
    for line in (
        "fp32 instead of fp16_fast",
        "sums in float16 need an NVIDIA GPU",
        "torch.compile is used on NVIDIA",
    ):
        assert line in caplog.text
    query(model)
    with (
        hosted(replace(host(), settings=replace(host().settings, strict=True))),
        pytest.raises(CapabilityError),
    ):
        load(tiny_bundle, "fp16")


@pytest.mark.parametrize(
    ("mode", "pattern"), [("radial_sage_attention", Radial()), ("sageattn_ultravico", Decayed())]
)
def test_a_sparse_pattern_is_put_on_the_model(tiny_bundle: Path, mode: str, pattern: object) -> None:
    model = load(tiny_bundle, attention_mode=mode)
    assert model.options == (pattern,)
    assert model.settings.attention is Attention.SAGEATTN  # of the attentions beside it


def test_block_swap_and_memory_management_reach_the_planner(
    tiny_bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    (swap,) = WanVideoBlockSwap().setargs(20, prefetch_blocks=1)
    model = load(tiny_bundle, block_swap_args=swap)
    assert (model.settings.memory.blocks_to_swap, model.settings.memory.prefetch_blocks) == (1, 1)
    assert "20 blocks to swap were asked for; the transformer has 1" in caplog.text
    assert (
        WanVideoSetBlockSwap().loadmodel(model, {"blocks_to_swap": 0})[0].settings.memory.blocks_to_swap == 0
    )
    assert WanVideoSetBlockSwap().loadmodel(model)[0] is model
    (share,) = WanVideoVRAMManagement().setargs(0.0)
    assert load(tiny_bundle, vram_management_args=share).settings.memory.blocks_to_swap == 0
    with pytest.raises(UsageError, match="exclude each other"):
        load(tiny_bundle, block_swap_args=swap, vram_management_args=share)
    with pytest.raises(UsageError, match="valid are blocks_to_swap"):
        load(tiny_bundle, block_swap_args={"blocks": 1})


def test_modules_of_other_families_are_refused_when_they_are_used(tiny_bundle: Path) -> None:
    for extra in (
        WanVideoVACEModelSelect().getvacepath("vace.safetensors")[0],
        WanVideoExtraModelSelect().getmodelpath("lynx.safetensors")[0],
    ):
        with pytest.raises(CapabilityError, match=r"(?i)leave"):
            load(tiny_bundle, extra_model=extra)
    with pytest.raises(CapabilityError, match="not rewritten"):
        QwenLoader().load("qwen.safetensors")


def test_a_speech_branch_is_a_file_of_its_own_and_named_by_it(
    tiny_bundle: Path, tmp_path: Path, engine_rooms: Rooms
) -> None:
    (own,) = MultiTalkModelLoader().loadmodel("embedded")
    assert (own.opened, own.kind) == (None, "InfiniteTalk")
    assert load(tiny_bundle, multitalk_model=own).kind == "InfiniteTalk"
    folder = tmp_path / "models" / "diffusion_models"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIGS["transformer"]))
    whole = load_file(tiny_bundle / "transformer.safetensors")
    speech = {name: tensor for name, tensor in whole.items() if is_speech_key(name)}
    save_file(
        {name: tensor for name, tensor in whole.items() if name not in speech}, folder / "wan.safetensors"
    )
    save_file(whole, folder / "both.safetensors")
    for name, kind in (
        ("Wan2_1-InfiniteTalk.safetensors", "InfiniteTalk"),
        ("multitalk.safetensors", "MultiTalk"),
    ):
        save_file(speech, folder / name)
        (branch,) = MultiTalkModelLoader().loadmodel(name)
        assert branch.kind == kind
        model = WanVideoModelLoader().loadmodel("wan.safetensors", "fp32", multitalk_model=branch)[0]
        assert model.kind == kind
        with model.at_hand(WORK) as transformer:
            found, expected = transformer.state_dict(), engine_rooms.transformer.state_dict()
            assert all(torch.equal(found[key], expected[key]) for key in expected)
        with pytest.raises(CheckpointError, match="its own speech branch"):
            load(tiny_bundle, multitalk_model=branch)
    assert WanVideoModelLoader().loadmodel("both.safetensors", "fp32")[0].kind == "InfiniteTalk"
    with pytest.raises(CheckpointError, match="without a speech branch"):
        WanVideoModelLoader().loadmodel("wan.safetensors", "fp32")


def test_a_file_of_another_part_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "models" / "vae" / "wrong.safetensors"
    file.parent.mkdir(parents=True)
    copyfile(tiny_bundle / "speech.safetensors", file)
    with pytest.raises(CheckpointError, match="speech encoder"):
        WanVideoVAELoader().loadmodel("wrong.safetensors")


def test_the_text_encoder_in_eight_bits_says_nearly_the_same(tiny_bundle: Path) -> None:
    plain, narrow = (
        LoadWanVideoT5TextEncoder().loadmodel(str(tiny_bundle), quantization=kept)[0]
        for kept in ("disabled", "fp8_e4m3fn")
    )
    with plain.at_hand() as one, narrow.at_hand() as other:
        assert any(isinstance(module, PackedLinear) for module in other.modules())
        first, second = one.encode(["a cat"])[0], other.encode(["a cat"])[0]
    assert torch.nn.functional.cosine_similarity(first, second, dim=1).min() > 0.98
    assert not torch.equal(first, second)


@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp32"])
def test_models_of_plain_files_run_in_the_precision_that_was_asked_for(
    tiny_bundle: Path, tmp_path: Path, precision: str
) -> None:
    for part, folder in (("vae", "vae"), ("text", "text_encoders")):
        (tmp_path / "models" / folder).mkdir(parents=True)
        copyfile(tiny_bundle / f"{part}.safetensors", tmp_path / "models" / folder / f"{part}.safetensors")
    (vae,) = WanVideoVAELoader().loadmodel("vae.safetensors", precision)
    with vae.exact.at_hand() as model:
        # A CPU would be slow in float16.
        assert model.dtype is {"bf16": torch.bfloat16}.get(precision, torch.float32)
    frames = torch.rand(3, 5, 64, 64) * 2 - 1
    latent = vae.codec().encode_video(frames)
    assert latent.dtype is torch.float32
    exact = WanVideoVAELoader().loadmodel(str(tiny_bundle))[0].codec().encode_video(frames)
    assert (latent - exact).abs().mean() < 0.02 * exact.abs().mean()
    if precision != "fp16":  # which the text encoder is not offered in
        (t5,) = LoadWanVideoT5TextEncoder().loadmodel("text.safetensors", precision)
        with t5.at_hand() as model:
            assert model.encode(["a"])[0].dtype is t5.dtype


def test_a_picture_is_seen_in_half_precision_too(tiny_bundle: Path) -> None:
    (clip,) = CLIPVisionLoader().load_clip(str(tiny_bundle))
    half = build_part(clip.opened, torch.bfloat16, torch.device("cpu"))
    picture = torch.rand(1, 3, 32, 32)
    with torch.inference_mode(), clip.at_hand() as exact:
        found, expected = half(picture), exact(picture)
    assert found.dtype is torch.bfloat16
    assert torch.nn.functional.cosine_similarity(found.float(), expected, dim=-1).min() > 0.99


def test_speech_encoders_are_told_apart_by_name(tmp_path: Path, tiny_bundle: Path) -> None:
    assert Wav2VecModelLoader().loadmodel(str(tiny_bundle))[0].kind == "tencent"
    with pytest.raises(CapabilityError, match="TencentGameMate"):
        DownloadAndLoadWav2VecModel().loadmodel("facebook/wav2vec2-base-960h")
    with hosted(replace(host(), embedded=True)):
        assert DownloadAndLoadWav2VecModel().loadmodel("facebook/wav2vec2-base-960h")[0].kind == "tencent"


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_the_other_packs_download_is_taken(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    opened: list[str] = []

    def tiny(part: Part, name: str) -> Checkpoint:  # a file of the real one's size would take 0.4 GB
        opened.append(name)
        return open_named(part, str(tiny_bundle))

    monkeypatch.setattr("infinite_talk.nodes.encoders.open_named", tiny)
    for repository, kind in (
        ("TencentGameMate/chinese-wav2vec2-base", "tencent"),
        ("facebook/wav2vec2-base-960h", "facebook"),
    ):
        path = tmp_path / "models" / "transformers" / repository / file
        path.parent.mkdir(parents=True)
        path.touch()
        with hosted(replace(host(), places=ModelFolders((tmp_path,)))):
            (model,) = DownloadAndLoadWav2VecModel().loadmodel(repository)
        assert (model.kind, opened.pop()) == (kind, str(path))


def test_a_download_is_not_tried_when_it_is_forbidden(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE"):
        DownloadAndLoadWav2VecModel().loadmodel()


def test_the_embedded_model_serves_every_loader() -> None:
    """Each one opens its part; the numbers of the engine's own path are compared on the tiny model."""
    for loader, titles in (
        (WanVideoModelLoader, "transformer"),
        (LoadWanVideoT5TextEncoder, "text"),
        (CLIPVisionLoader, "vision"),
    ):
        (handle,) = getattr(loader(), loader.FUNCTION)("embedded")
        assert handle.opened.title == f"{titles}.safetensors"
    assert WanVideoVAELoader().loadmodel("embedded")[0].exact.title == "vae.safetensors"
    assert Wav2VecModelLoader().loadmodel("embedded")[0].model.title == "speech.safetensors"


def test_step_caches_know_the_numbers_that_came_with_the_embedded_model() -> None:
    (model,) = WanVideoModelLoader().loadmodel("embedded")
    (asked,) = WanVideoMagCache().setargs(0.02, 4, 1, -1, "offload_device")
    found = cache_of(asked, title=model.name, width=model.opened.config.dim, measured=model.defaults)
    assert found is not None
    assert found.cache.ratios == model.defaults.magcache


def test_handles_of_others_are_refused_in_words() -> None:
    with pytest.raises(UsageError, match="connect WanVideoModelLoader"):
        need_model({"sd": 1})
    with pytest.raises(UsageError, match="connect WanVideoVAELoader"):
        need_vae(object())
    assert not Vae().loaded
