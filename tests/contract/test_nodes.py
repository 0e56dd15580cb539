"""The nodes are those of the pack whose names they have: names, methods, inputs, defaults, ranges, outputs.

``tests/data/nodes.json`` holds the pack's declarations (ComfyUI-WanVideoWrapper 1.4.6) without its texts; choices in
angle brackets are files. What is added to them, or left out, stands in the tables of this test and in docs/nodes.md.
"""

from __future__ import annotations

import inspect
import json
from typing import Any

import pytest

from infinite_talk import nodes
from infinite_talk.nodes.declare import inputs_of
from infinite_talk.nodes.registry import NODES, node_class
from infinite_talk.nodes.texts import all_differences, description, tooltip
from tests.contract.source import ROOT

THEIRS: dict[str, Any] = json.loads((ROOT / "tests" / "data" / "nodes.json").read_text("utf-8"))
MAY_ADD = {
    ("WanVideoModelLoader", "quantization"),
    ("WanVideoModelLoader", "attention_mode"),
    *((node, "scheduler") for node, one in THEIRS.items() if "choices" in one["inputs"].get("scheduler", {})),
    ("WanVideoSetAttentionModeOverride", "attention_mode"),
    ("WanVideoSetRadialAttention", "dense_attention_mode"),
}
"""Choices to which ours are added, behind the pack's."""
MORE = {"WanVideoFlowEdit"}
"""Nodes of earlier versions of the pack, which the present one has given up."""
PYTHON_DIFFERS = {("WanVideoTorchCompileSettings", "force_parameter_static_shapes"): True}
"""Defaults in Python that are not the declared ones, in the pack and therefore here."""


def inputs(name: str) -> dict[str, tuple[str, Any, dict[str, Any]]]:
    """Section, type and options of each input of ours, hidden ones too."""
    found = {}
    for section, declared in node_class(name).INPUT_TYPES().items():
        for key, entry in declared.items():
            kind, options = (
                (entry, {}) if isinstance(entry, str) else (entry[0], entry[1] if len(entry) > 1 else {})
            )
            found[key] = (section, kind, dict(options))
    return found


def is_file(choice: object) -> bool:
    return isinstance(choice, str) and choice.startswith("<")


def test_every_node_is_there_and_no_other():
    assert set(NODES) == set(THEIRS) | MORE
    assert set(nodes.NODE_CLASS_MAPPINGS) == set(nodes.NODE_DISPLAY_NAME_MAPPINGS) == set(NODES)


@pytest.mark.parametrize("name", THEIRS)
def test_a_node_has_its_title_method_and_outputs(name):
    node, theirs = getattr(nodes, name), THEIRS[name]
    assert node.__name__ == name
    assert nodes.NODE_DISPLAY_NAME_MAPPINGS[name] == theirs["title"]
    assert theirs["function"] == node.FUNCTION
    assert callable(getattr(node(), node.FUNCTION))
    outputs = [list(pair) for pair in zip(node.RETURN_TYPES, node.RETURN_NAMES, strict=True)]
    for ours, other in zip(outputs, theirs["outputs"], strict=True):
        # An output of the type COMBO is the list of its choices, in ComfyUI's way of writing types.
        assert ours[1] == other[1]
        assert ours[0] == other[0] or (other[0] == "COMBO" and isinstance(ours[0], (list, str)))


@pytest.mark.parametrize("name", THEIRS)
def test_a_node_has_its_inputs(name):
    ours, theirs = inputs(name), THEIRS[name]["inputs"]
    assert set(ours) == set(theirs)
    for key, other in theirs.items():
        section, kind, options = ours[key]
        where = f"{name}.{key}"
        assert section == other["section"], where
        if other["type"] == "COMBO":
            check_choices(name, key, list(kind), options, other)
            continue
        assert kind == other["type"], where
        for option in {"default", "min", "max", "step", "forceInput"} & other.keys():
            if other[option] is None:
                continue  # a socket: that nothing is connected by default need not be written down
            assert options.get(option) == other[option], f"{where}.{option}"
        if kind in ("INT", "FLOAT"):
            assert {"min", "max"} & options.keys() == {"min", "max"} & other.keys(), where


def check_choices(name, key, ours, options, other):
    """All of theirs in their order, then ours; files come first, and ``embedded`` before them."""
    plain = [choice for choice in other["choices"] if not is_file(choice)]
    files = len(plain) < len(other["choices"])
    kept = [choice for choice in ours if choice in plain]
    assert kept == plain, f"{name}.{key}"
    if files:
        # What the embedded model has a part for, or nothing: there is no LoRA and no adapter for it.
        assert ours[0] in ("embedded", "none"), f"{name}.{key}"
    elif (name, key) not in MAY_ADD:
        assert ours == plain, f"{name}.{key}"
    if not is_file(other["default"]):
        assert options.get("default", ours[0]) == other["default"], f"{name}.{key}"


@pytest.mark.parametrize("name", THEIRS)
def test_python_defaults_are_the_declared_ones(name):
    """A script that leaves an input out gets what the editor shows, but where the pack itself differs."""
    node, differ = node_class(name), dict(THEIRS[name].get("python_defaults", {}))
    differ |= {key: value for (of, key), value in PYTHON_DIFFERS.items() if of == name}
    parameters = inspect.signature(getattr(node, node.FUNCTION)).parameters
    several = [p for p in parameters.values() if p.kind is p.VAR_KEYWORD]
    for key, (kind, options) in inputs_of(node).items():
        if key not in parameters:
            assert several, f"{name}.{node.FUNCTION} does not take {key}"
            continue
        default = parameters[key].default
        if default is inspect.Parameter.empty or kind not in ("INT", "FLOAT", "BOOLEAN"):
            continue
        if default is None and options.get("default") is not None:
            continue
        assert default == differ.get(key, options.get("default")), f"{name}.{key}"


ORDER = {
    "WanVideoModelLoader": "model base_precision load_device quantization compile_args attention_mode block_swap_args "
    "lora vram_management_args extra_model",
    "WanVideoLoraSelect": "lora strength unique_id blocks prev_lora low_mem_load merge_loras",
    "WanVideoTextEncode": "positive_prompt negative_prompt t5 force_offload model_to_offload use_disk_cache device",
    "WanVideoClipVisionEncode": "clip_vision image_1 strength_1 strength_2 force_offload crop combine_embeds image_2 "
    "negative_image tiles ratio",
    "MultiTalkWav2VecEmbeds": "wav2vec_model normalize_loudness fps num_frames audio_1 audio_scale audio_cfg_scale "
    "multi_audio_type audio_2 audio_3 audio_4 ref_target_masks add_noise_floor smooth_transients",
    "WanVideoImageToVideoMultiTalk": "vae width height frame_window_size motion_frame force_offload colormatch "
    "start_image tiled_vae clip_embeds mode output_path",
    "WanVideoImageToVideoEncode": "width height num_frames force_offload noise_aug_strength start_latent_strength "
    "end_latent_strength",
    "WanVideoEncode": "vae image enable_vae_tiling tile_x tile_y tile_stride_x tile_stride_y noise_aug_strength "
    "latent_strength mask",
    "WanVideoDecode": "vae samples enable_vae_tiling tile_x tile_y tile_stride_x tile_stride_y normalization",
}
"""How scripts that do not name their arguments give them: the order of the pack's methods, which is not always that of
its editor."""


@pytest.mark.parametrize("name", ORDER)
def test_arguments_without_names_come_in_the_packs_order(name):
    node = node_class(name)
    parameters = list(inspect.signature(getattr(node, node.FUNCTION)).parameters)[1:]
    wanted = ORDER[name].split()
    assert parameters[: len(wanted)] == wanted


@pytest.mark.parametrize("name", NODES)
def test_everything_is_explained_in_both_languages(name):
    told = [description(name), *(tooltip(name, key) for key in inputs(name))]
    assert all(text is not None and text.en and text.zh for text in told), name


def test_differences_are_about_nodes_and_inputs_that_exist():
    for name, entries in all_differences().items():
        assert set(entries) <= {"node", *inputs(name)}, name


def test_an_added_choice_is_told():
    for name, key in MAY_ADD:
        plain = THEIRS[name]["inputs"][key]["choices"]
        if list(inputs(name)[key][1]) != plain:
            assert {key, "node"} & all_differences().get(name, {}).keys(), f"{name}.{key}"
