"""Finding the files of a model in the folders people have: by content, with names only to break ties."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from infinite_talk.errors import CheckpointError, UsageError
from infinite_talk.settings import LoRA, ModelFiles, Settings
from infinite_talk.weights.checkpoint import Part, open_checkpoint
from infinite_talk.weights.find import find_lora, find_model
from infinite_talk.weights.hub.catalogue import preset
from infinite_talk.weights.hub.store import ModelsFolder
from infinite_talk.weights.scan import scan, tokenizers
from tests import dialects, parts

WEIGHTS = dialects.transformer()
BASE, BRANCH = dialects.base_of(WEIGHTS), dialects.adapter_of(WEIGHTS)


@pytest.fixture(scope="module")
def one_of_each(tmp_path_factory) -> dict[str, Path]:
    """One file of every part, to be copied into layouts."""
    folder = tmp_path_factory.mktemp("parts")
    files = {
        name: folder / f"{name}.safetensors" for name in ("transformer", "adapter", "whole", *parts.PARTS)
    }
    dialects.write_plain(files["transformer"], BASE)
    dialects.write_plain(files["adapter"], BRANCH)
    dialects.write_plain(files["whole"], WEIGHTS)
    for name, part in parts.PARTS.items():
        official = part.keys.dialects(part.tiny)[0]
        save_file(
            {n: t.contiguous() for n, t in official.write(parts.random_weights(part)).items()}, files[name]
        )
    return files


@pytest.fixture
def lay(tmp_path, one_of_each):
    """Put parts into a folder: ``lay("models", {"vae/x.safetensors": "vae"})``; an unknown word is a text."""

    def put(folder: str, layout: dict[str, str]) -> Path:
        for path, what in layout.items():
            place = tmp_path / folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            if what in one_of_each:
                shutil.copyfile(one_of_each[what], place)
            else:
                place.write_text(what)
        return tmp_path / folder

    return put


@pytest.fixture
def found(tmp_path):
    """Search with an empty hub cache."""

    def run(model=None, *dirs, people=1, **files):
        settings = Settings(model=model, models_dirs=dirs, files=ModelFiles(**files))
        return find_model(settings, people=people, cache=tmp_path / "no-cache")

    return run


COMFY = {
    "models/diffusion_models/WanVideo/base.safetensors": "transformer",
    "models/model_patches/branch.safetensors": "adapter",
    "models/text_encoders/umt5.safetensors": "text",
    "models/clip_vision/clip_vision_h.safetensors": "vision",
    "models/vae/wan.safetensors": "vae",
    "models/vae_approx/tae.safetensors": "tiny_vae",
    "models/audio_encoders/wav2vec2.safetensors": "speech",
}


def _names(found, root):
    """The found files, relative to a folder."""
    parts_ = ("vae", "text", "vision", "speech", "adapter", "tiny_vae", "tokenizer")
    paths = {name: getattr(found, name) for name in parts_}
    return {name: str(path.relative_to(root)) if path else None for name, path in paths.items()}


def test_the_official_folders(tmp_path, lay, found):
    root = lay(
        "weights",
        {
            "InfiniteTalk/single/infinitetalk.safetensors": "adapter",
            "chinese-wav2vec2-base/model.safetensors": "speech",
            "chinese-wav2vec2-base/config.json": "{}",
            "Wan2.1-I2V-14B-480P/google/umt5-xxl/spiece.model": "pieces",
            "Wan2.1-I2V-14B-480P/xlm-roberta-large/tokenizer.json": "{}",
        },
    )
    wan = root / "Wan2.1-I2V-14B-480P"
    dialects.write_shards(wan, BASE)
    for name, file in {
        "text": "models_t5_umt5-xxl-enc-bf16.pth",
        "vae": "Wan2.1_VAE.pth",
        "vision": "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth",
    }.items():
        part = parts.PARTS[name]
        torch.save(part.keys.dialects(part.tiny)[0].write(parts.random_weights(part)), wan / file)
    result = found(root)
    assert [path.parent for path in result.transformer] == [wan] * len(result.transformer)
    assert len(result.transformer) > 1
    assert _names(result, root) == {
        "vae": "Wan2.1-I2V-14B-480P/Wan2.1_VAE.pth",
        "text": "Wan2.1-I2V-14B-480P/models_t5_umt5-xxl-enc-bf16.pth",
        "vision": "Wan2.1-I2V-14B-480P/models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth",
        "speech": "chinese-wav2vec2-base/model.safetensors",
        "adapter": "InfiniteTalk/single/infinitetalk.safetensors",
        "tiny_vae": None,
        "tokenizer": "Wan2.1-I2V-14B-480P/google/umt5-xxl",
    }
    assert result.name == "weights"
    assert open_checkpoint(*result.transformer).part is Part.TRANSFORMER


@pytest.mark.parametrize("inside", ["", "models"])
def test_folders_of_comfyui(lay, found, inside):
    root = lay(
        "ComfyUI", COMFY | {"models/loras/branch.safetensors": "adapter", "output/x.safetensors": "vae"}
    )
    result = found(None, root / inside, transformer=(Path("base.safetensors"),))
    assert result.transformer == (root / "models/diffusion_models/WanVideo/base.safetensors",)
    assert _names(result, root / "models") == {
        "vae": "vae/wan.safetensors",
        "text": "text_encoders/umt5.safetensors",
        "vision": "clip_vision/clip_vision_h.safetensors",
        "speech": "audio_encoders/wav2vec2.safetensors",
        "adapter": "model_patches/branch.safetensors",
        "tiny_vae": None,  # a draft is not what somebody gets for having the file
        "tokenizer": None,
    }
    assert _names(found(root), root) == _names(result, root)
    draft = found(None, root / inside, transformer=result.transformer, tiny_vae=Path("tae.safetensors"))
    assert draft.tiny_vae == root / "models/vae_approx/tae.safetensors"


def test_folders_of_diffusers(tmp_path, lay, found):
    root = lay(
        "Wan-Diffusers",
        {
            "vae/diffusion_pytorch_model.safetensors": "vae",
            "text_encoder/model.safetensors": "text",
            "image_encoder/model.safetensors": "vision",
            "tokenizer/tokenizer.json": "{}",
            "tokenizer/tokenizer_config.json": '{"tokenizer_class": "T5Tokenizer"}',
            "more/infinitetalk.safetensors": "adapter",
            "more/wav2vec.safetensors": "speech",
        },
    )
    dialects.write_diffusers(root / "transformer", BASE)
    result = found(root)
    assert result.transformer[0].parent == root / "transformer"
    assert result.tokenizer == root / "tokenizer"


def test_a_transformer_with_its_speech_branch_needs_no_other(lay, found):
    root = lay("m", COMFY | {"models/diffusion_models/WanVideo/base.safetensors": "whole"})
    assert found(root).adapter is None
    assert found(root, adapter=root / "models/model_patches/branch.safetensors").adapter is None


def test_named_files_win_over_the_folder(lay, found):
    root = lay("m", COMFY | {"models/vae/other.safetensors": "vae"})
    mine = lay("mine", {"my.safetensors": "vae"})
    assert found(root, vae=mine / "my.safetensors").vae == mine / "my.safetensors"
    assert found(root, root, vae=Path("other")).vae == root / "models/vae/other.safetensors"


def test_the_model_folder_wins_over_the_models_folders(lay, found):
    root = lay("m", COMFY)
    first, second = lay("one", {"a.safetensors": "vae"}), lay("two", {"b.safetensors": "vae"})
    assert found(root, first).vae.parent.name == "vae"
    (root / "models/vae/wan.safetensors").unlink()
    assert found(root, first, second).vae.parent == first
    assert found(root, second, first).vae.parent == second
    assert found(Path("m"), root.parent).vae.parent  # a folder by its bare name, inside a models folder


def test_two_transformers_are_an_error_that_names_both_and_the_option(lay, found):
    root = lay("m", COMFY | {"models/diffusion_models/Wan720.safetensors": "transformer"})
    with pytest.raises(CheckpointError, match="--transformer") as caught:
        found(root)
    assert "Wan720.safetensors (bf16)" in caught.value.message and "base.safetensors" in caught.value.message
    assert caught.value.code == "checkpoint_ambiguous"
    chosen = root / "models/diffusion_models/Wan720.safetensors"
    assert found(root, transformer=(chosen,)).transformer == (chosen,)


def test_the_same_file_under_two_names_is_one(lay, found):
    root = lay("m", COMFY)
    folder = root / "models/diffusion_models"
    (folder / "link.safetensors").symlink_to(folder / "WanVideo/base.safetensors")
    assert len(found(root).transformer) == 1


@pytest.mark.parametrize(("people", "expected"), [(1, "single"), (2, "multi")])
def test_speech_branches_suit_the_people(lay, found, people, expected):
    layout = {path: what for path, what in COMFY.items() if what != "adapter"}
    names = ("InfiniteTalk/single/infinitetalk", "InfiniteTalk/multi/infinitetalk", "multitalk")
    layout |= {f"models/diffusion_models/{name}.safetensors": "adapter" for name in names}
    result = found(lay("m", layout), people=people)
    assert result.adapter.parent.name == expected
    assert any("speech branch" in note and "--adapter" in note for note in result.notes)


def test_speech_branches_that_names_do_not_tell_apart_are_an_error(lay, found):
    with pytest.raises(CheckpointError, match="--adapter"):
        found(lay("m", COMFY | {"models/model_patches/second.safetensors": "adapter"}))


def test_of_several_encoders_a_fixed_one_is_taken_and_said(tmp_path, lay, found):
    root = lay("m", COMFY)
    part = parts.PARTS["vae"]
    stored = part.keys.dialects(part.tiny)[0].write(parts.random_weights(part))
    torch.save(stored, root / "models/vae/a.pth")
    half = {name: tensor.half().contiguous() for name, tensor in stored.items()}
    save_file(half, root / "models/vae/half.safetensors")
    result = found(root)
    assert result.vae.name == "wan.safetensors"  # no pickle, and not the smaller file
    (note,) = result.notes
    assert "wan.safetensors, not" in note and "half.safetensors" in note and "a.pth" in note


@pytest.mark.parametrize(
    ("path", "option", "advice"),
    [
        ("models/model_patches/branch.safetensors", "--adapter", "models pull adapter"),
        ("models/vae/wan.safetensors", "--vae", "models pull vae"),
        ("models/text_encoders/umt5.safetensors", "--text-encoder", "models pull text"),
        ("models/clip_vision/clip_vision_h.safetensors", "--image-encoder", "models pull vision"),
        ("models/audio_encoders/wav2vec2.safetensors", "--speech-encoder", "models pull speech"),
        ("models/diffusion_models/WanVideo/base.safetensors", "--transformer", "models pull"),
    ],
)
def test_what_is_missing_is_named_with_what_to_do(lay, found, path, option, advice):
    root = lay("m", {where: what for where, what in COMFY.items() if where != path})
    with pytest.raises(CheckpointError, match="is missing") as caught:
        found(root)
    assert (
        option in caught.value.message
        and advice in caught.value.message
        and str(root) in caught.value.message
    )
    name = advice.removeprefix("models pull ")
    assert name == "models pull" or preset(name).of(name)


def test_a_missing_shard_is_named(tmp_path, lay, found):
    root = lay("m", {path: what for path, what in COMFY.items() if what != "transformer"})
    dialects.write_shards(root / "models/diffusion_models/wan", BASE)
    shards = sorted((root / "models/diffusion_models/wan").glob("*.safetensors"))
    shards[1].unlink()
    with pytest.raises(CheckpointError, match=shards[1].name):
        found(root)


def test_numbered_shards_need_no_index(tmp_path):
    dialects.write_shards(tmp_path, BASE)
    whole = sorted(tmp_path.glob("*.safetensors"))
    next(tmp_path.glob("*.index.json")).unlink()
    (one,) = scan(tmp_path)
    assert one.paths == tuple(whole) and not one.missing and one.seen.part is Part.TRANSFORMER
    whole[-1].unlink()
    (one,) = scan(tmp_path)
    assert one.missing == (whole[-1].name,)


def test_what_is_damaged_is_passed_over_and_said_when_the_part_is_missed(lay, found):
    root = lay("m", COMFY | {"models/vae/page.safetensors": "<html>", "models/vae/note.txt": "hello"})
    assert found(root).vae.name == "wan.safetensors"
    cut = root / "models/vae/wan.safetensors"
    cut.write_bytes(cut.read_bytes()[:-1])
    with pytest.raises(
        CheckpointError, match=r"codec.*missing.*Passed over.*web page.*cut short.*models pull vae"
    ):
        found(root)


def test_only_umt5_s_tokenizer_counts(lay):
    root = lay(
        "m",
        {
            "xlm-roberta-large/tokenizer.json": "{}",
            "xlm-roberta-large/tokenizer_config.json": '{"tokenizer_class": "XLMRobertaTokenizer"}',
            "google/umt5-xxl/tokenizer.json": "{}",
            "google/umt5-xxl/tokenizer_config.json": '{"tokenizer_class": "T5Tokenizer"}',
        },
    )
    assert [folder.name for folder in tokenizers(root)] == ["umt5-xxl"]


# Presets.


def _pulled(name: str, folder: Path, one_of_each: dict[str, Path], without: str = "") -> None:
    """A preset as if it had been pulled into a folder."""
    store = ModelsFolder(folder)
    for file in preset(name).files:
        if file.path != without:
            place = store.place(file, file.path)
            place.parent.mkdir(parents=True, exist_ok=True)
            if file.part in one_of_each:
                shutil.copyfile(one_of_each[file.part], place)
            else:
                place.write_text("{}")


def test_a_preset_is_found_by_its_name(tmp_path, one_of_each, found, lay):
    _pulled("kijai-fp8-scaled", tmp_path / "got", one_of_each)
    _pulled("comfy-fp8-scaled", tmp_path / "got", one_of_each)
    result = found(Path("kijai-fp8-scaled"), tmp_path / "got")
    assert result.name == "kijai-fp8-scaled"
    (transformer,) = result.transformer
    assert transformer.name == "Wan2_1-I2V-14B-480p_fp8_e4m3fn_scaled_KJ.safetensors"
    assert result.adapter.name == "Wan2_1-InfiniteTalk-Single_fp8_e4m3fn_scaled_KJ.safetensors"
    assert result.vae.name == "Wan2_1_VAE_bf16.safetensors"
    assert result.tokenizer == tmp_path / "got/Wan-AI/Wan2.1-I2V-14B-480P/google/umt5-xxl"
    mine = lay("mine", {"my.safetensors": "vae"}) / "my.safetensors"
    assert found(Path("kijai-fp8-scaled"), tmp_path / "got", vae=mine).vae == mine


def test_loras_of_a_preset_come_along(tmp_path, one_of_each):
    save_file({"a": torch.zeros(1)}, lora := tmp_path / "lora.safetensors")
    _pulled("lightx2v-4step-lora", tmp_path / "got", {**one_of_each, "lora": lora})
    settings = Settings(
        model=Path("lightx2v-4step-lora"), models_dirs=(tmp_path / "got",), loras=(LoRA(path=lora),)
    )
    result = find_model(settings, cache=tmp_path / "none")
    assert [one.path.name for one in result.loras] == [
        "wan2.1_i2v_lora_rank64_lightx2v_4step.safetensors",
        "lora.safetensors",
    ]


def test_an_incomplete_preset_says_how_to_complete_it(tmp_path, one_of_each, found):
    _pulled("gguf-q4", tmp_path / "got", one_of_each, without="wan2.1-i2v-14b-480p-Q4_K_M.gguf")
    with pytest.raises(CheckpointError, match=r"1 of 10 files.*Q4_K_M.*models pull gguf-q4"):
        found(Path("gguf-q4"), tmp_path / "got")


def test_pulled_parts_complete_what_was_named(tmp_path, one_of_each, found):
    _pulled("encoders", tmp_path / "got", one_of_each)
    _pulled("adapter", tmp_path / "got", one_of_each)
    _pulled("adapter-multi", tmp_path / "got", one_of_each)
    result = found(one_of_each["transformer"], tmp_path / "got")
    assert result.transformer == (one_of_each["transformer"],)
    assert "Single" in result.adapter.name
    assert found(one_of_each["transformer"], tmp_path / "got", people=2).adapter.name.endswith(
        "multi_fp16.safetensors"
    )


def test_a_model_that_is_nowhere(found, tmp_path):
    with pytest.raises(CheckpointError, match="gguf-q8"):
        found(Path("gguf-8"))
    with pytest.raises(CheckpointError, match="is not there"):
        found(Path("no/where"))
    with pytest.raises(UsageError, match="one part of a model only"):
        found(Path("vae"))


# LoRAs.


def test_loras_by_bare_name(tmp_path, lay):
    root = lay(
        "c", {"models/loras/Wan/fast.safetensors": "vae", "models/loras/b/same.gguf": "x", "same.gguf": "y"}
    )
    place = root / "models/loras/Wan/fast.safetensors"
    for name in ("fast.safetensors", "fast", "Wan/fast.safetensors"):
        lora = LoRA(path=Path(name), strength=0.5)
        assert find_lora(lora, [root]) == replace(lora, path=place)
    assert find_lora(LoRA(path=place), []).path == place
    with pytest.raises(CheckpointError, match="Several files"):
        find_lora(LoRA(path=Path("same")), [root])
    with pytest.raises(CheckpointError, match=r"--lora.*--models-dir"):
        find_lora(LoRA(path=Path("slow")), [root], cache=tmp_path)
