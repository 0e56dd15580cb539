"""The repository as a node pack of ComfyUI: what is registered, under which names, and how nodes run there."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib

import pytest

from infinite_talk import Device, Phase, Progress
from infinite_talk.frontends.comfy.host import Bar, comfy_host
from infinite_talk.frontends.comfy.pack import PREFIX, explained, filled, for_comfy
from infinite_talk.nodes.host import host
from infinite_talk.nodes.registry import NODES
from tests.contract.source import ROOT
from tests.unit.comfy.stand_in import Interrupted


class Doubler:
    """A node that tells its host how far it is."""

    RETURN_TYPES = ("INT", "INT")
    RETURN_NAMES = ("double", "again")
    FUNCTION = "run"
    CATEGORY = "WanVideoWrapper"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802 - ComfyUI's name
        return {"required": {"steps": ("INT", {"default": 2})}, "hidden": {"unique_id": "UNIQUE_ID"}}

    def run(self, steps, **_):
        for step in range(1, steps + 1):
            host().listen(Progress(phase=Phase.SAMPLING, windows=2, step=step, steps=steps))
        return (2 * steps,)


def test_every_node_is_registered_under_its_name(comfy):
    pack = comfy.load()
    assert set(NODES) | {"InfiniteTalkPortrait"} == set(pack.NODE_CLASS_MAPPINGS)
    assert set(pack.NODE_DISPLAY_NAME_MAPPINGS) == set(pack.NODE_CLASS_MAPPINGS)
    assert (ROOT / pack.WEB_DIRECTORY / "infinite_talk.js").is_file()
    for name, node in pack.NODE_CLASS_MAPPINGS.items():
        json.dumps(node.INPUT_TYPES())  # as ComfyUI's server sends it
        assert callable(getattr(node, node.FUNCTION)), name
        assert node.DESCRIPTION
    assert pack.NODE_CLASS_MAPPINGS["WanVideoSampler"].CATEGORY == "WanVideoWrapper"


def test_a_second_load_does_not_take_itself_for_the_other_pack(comfy):
    assert set(comfy.load().NODE_CLASS_MAPPINGS) == set(comfy.load().NODE_CLASS_MAPPINGS)


def test_beside_the_registered_other_pack_all_nodes_have_a_prefix(comfy):
    comfy.nodes["WanVideoSampler"] = Doubler
    pack = comfy.load()
    assert {PREFIX + name for name in NODES} < set(pack.NODE_CLASS_MAPPINGS)
    assert not set(NODES) & set(pack.NODE_CLASS_MAPPINGS)
    assert comfy.nodes["WanVideoSampler"] is Doubler
    assert pack.NODE_DISPLAY_NAME_MAPPINGS[PREFIX + "WanVideoSampler"] == "WanVideo Sampler (Infinite Talk)"
    assert pack.NODE_CLASS_MAPPINGS[PREFIX + "WanVideoSampler"].CATEGORY == "InfiniteTalk"


@pytest.mark.parametrize(
    ("folder", "prefixed"),
    [("ComfyUI-WanVideoWrapper", True), ("ComfyUI-WanVideoWrapper.disabled", False), ("other", False)],
)
def test_the_other_pack_counts_before_it_is_loaded(comfy, folder, prefixed):
    there = comfy.custom_nodes / folder
    there.mkdir()
    (there / "__init__.py").touch()
    assert (PREFIX + "WanVideoSampler" in comfy.load().NODE_CLASS_MAPPINGS) is prefixed


def test_one_name_that_somebody_else_has_is_left_to_them(comfy):
    comfy.nodes["NormalizeAudioLoudness"] = Doubler
    names = set(comfy.load().NODE_CLASS_MAPPINGS)
    assert {PREFIX + "NormalizeAudioLoudness", "WanVideoSampler"} < names
    assert "NormalizeAudioLoudness" not in names


def test_nodes_that_comfyui_has_itself_are_never_registered(comfy):
    assert "CLIPVisionLoader" not in comfy.load().NODE_CLASS_MAPPINGS


def test_loaders_offer_the_files_of_comfyuis_folders(comfy):
    comfy.add_model("vae", "wan/codec.safetensors")
    offered = comfy.load().NODE_CLASS_MAPPINGS["WanVideoVAELoader"].INPUT_TYPES()["required"]["model_name"][0]
    assert list(offered) == ["embedded", "wan/codec.safetensors"]


def test_outside_of_comfyui_the_entry_is_empty_and_light():
    """Linters, and tests that pass by it: no torch, no nodes, no ``src`` twice."""
    code = (
        "import importlib.util as u, sys\n"
        f"s = u.spec_from_file_location('pack', {str(ROOT / '__init__.py')!r})\n"
        "m = u.module_from_spec(s); s.loader.exec_module(m)\n"
        "assert m.NODE_CLASS_MAPPINGS == {} and 'torch' not in sys.modules and 'infinite_talk' not in sys.modules\n"
        f"assert sys.path.count({str(ROOT / 'src')!r}) == 1"
    )
    env = {"PATH": ""}
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False, env=env
    )
    assert done.returncode == 0, done.stderr


def test_a_node_runs_under_comfyuis_progress_bar(comfy):
    node = for_comfy("Doubler", Doubler)
    assert node().run(steps=3) == (6, 6)
    assert comfy.bars == [[6, 1, 2, 3]]
    node().run(steps=2)
    assert comfy.bars[1:] == [[4, 1, 2]]


def test_an_interrupt_stops_a_node_at_the_next_step(comfy):
    comfy.interrupt_after = 1
    with pytest.raises(Interrupted):
        for_comfy("Doubler", Doubler)().run(steps=5)
    assert comfy.bars == [[10, 1]]


def test_other_models_make_room_once_for_ours(comfy):
    bar = Bar()
    for _ in range(3):
        bar(Progress(phase=Phase.LOADING))
    assert comfy.unloaded == 1


def test_the_host_is_comfyuis(comfy):
    assert comfy_host().settings.device is Device.CPU
    assert str(comfy_host().text_cache).startswith(str(comfy.root / "user"))


def test_tooltips_come_in_two_languages_and_leave_the_declaration_alone():
    declared = {
        "required": {"steps": ("INT", {"default": 4}), "vae": ("WANVAE",)},
        "hidden": {"unique_id": "UNIQUE_ID"},
    }
    found = explained("WanVideoSampler", declared)
    assert found["required"]["steps"][1]["tooltip"].startswith("Denoising steps")
    assert "步" in found["required"]["steps"][1]["tooltip_zh"]
    assert found["required"]["vae"][1]["tooltip"]
    assert found["hidden"] == {"unique_id": "UNIQUE_ID"}
    assert declared["required"]["steps"] == ("INT", {"default": 4})


def test_finished_frames_stand_for_both_outputs():
    frames = {"video": 1}
    assert filled((frames,), 2) == (frames, frames)
    assert filled((1, 2), 2) == (1, 2)


def test_requirements_are_those_of_the_package_without_torch():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lines = (ROOT / "requirements.txt").read_text("utf-8").splitlines()
    listed = [line for line in lines if line and not line.startswith("#")]
    assert listed == [line for line in project["dependencies"] if not line.startswith("torch")]


def test_the_registry_of_comfyui_finds_what_it_needs():
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    comfy = pyproject["tool"]["comfy"]
    assert comfy["PublisherId"]
    assert comfy["DisplayName"] == "Infinite Talk"
    assert (ROOT / comfy["web"]).is_dir()
