"""The transformer gives the recorded outputs of the published program, and its checkpoint keys."""

from __future__ import annotations

import json

import pytest
import torch

from infinite_talk.models.dit import DiTConfig, WanTransformer
from infinite_talk.models.dit.model import sinusoid
from infinite_talk.models.dit.parts import padded
from infinite_talk.models.dit.people import class_maps, class_weights, query_positions
from tests.golden import GoldenFile, golden_dir
from tests.parity.support import DIT_CASES, close, condition_of, weights_of

MANIFEST = golden_dir().parent / "manifests" / "infinitetalk_dit_14b.json"


def built(case: GoldenFile) -> WanTransformer:
    model = WanTransformer(DiTConfig.from_json(case.config)).eval()
    model.load_state_dict(weights_of(case), strict=True)
    return model


def watched(block: torch.nn.Module):
    """A dictionary that fills with the outputs of the block's attentions, and the hooks that do so."""
    seen = {}

    def watch(part: str):
        return getattr(block, part).register_forward_hook(lambda _m, _i, output: seen.update({part: output}))

    return seen, [watch(part) for part in ("self_attn", "cross_attn", "audio_cross_attn")]


@pytest.mark.parametrize("case", DIT_CASES, ids=lambda case: case.name)
@torch.no_grad()
def test_prediction(case: GoldenFile) -> None:
    model = built(case)
    condition = condition_of(model, case)
    outputs = [key for key in case.keys if key.startswith("out/pred")]
    assert outputs
    for key in outputs:
        step = key.removeprefix("out/pred").removeprefix("_") or "0"
        velocity = model(case["in/x"][None], case["in/t"][int(step), None], condition)
        assert velocity.dtype == torch.float32
        close(velocity, case[key])


@pytest.mark.parametrize("case", DIT_CASES, ids=lambda case: case.name)
@torch.no_grad()
def test_time(case: GoldenFile) -> None:
    model = built(case)
    checked = 0
    for i, t in enumerate(case["in/t"]):
        e, e0 = model.embed_time(t[None])
        suffix = f"_{i}" if len(case["in/t"]) > 1 else ""
        found = {"time_e": e, "time_projection": e0, "sinusoid": sinusoid(t[None], model.config.freq_dim)}
        for name, tensor in found.items():
            if (key := f"mid/{name}{suffix}") in case:
                close(tensor, case[key])
                checked += 1
    assert checked


@pytest.mark.parametrize("case", [c for c in DIT_CASES if "mid/block0" in c], ids=lambda case: case.name)
@torch.no_grad()
def test_every_part(case: GoldenFile) -> None:
    """Inputs and outputs on the way, so that a failure points to its place."""
    model = built(case)
    close(model.text_embedding(padded([case["in/context"]], model.config)), case["mid/text_embedding"])
    close(model.img_emb(case["in/clip_fea"]), case["mid/img_emb"])
    speech = model.audio_proj(case["in/audio"][None])  # (1, T, P * tokens, width)
    per_person = speech.unflatten(2, (len(case["in/audio"]), -1)).transpose(1, 2)
    close(per_person, case["mid/audio_proj_out"])

    condition = condition_of(model, case)
    _, e0 = model.embed_time(case["in/t"])
    tokens = model.embed(case["in/x"][None], condition)
    close(tokens.transpose(1, 2), case["mid/patch_embedding"])
    for i, (block, own) in enumerate(zip(model.blocks, condition.blocks, strict=True)):
        seen, hooks = watched(block)
        tokens = block(tokens, e0, condition, own)
        for hook in hooks:
            hook.remove()
        close(tokens, case[f"mid/block{i}"])
        seen["self_attn"], maps, _ = seen["self_attn"]
        for part, output in seen.items():
            close(output, case[f"mid/block{i}.{part}"])
        if maps is not None:
            close(maps[0].T, case[f"mid/block{i}.ref_attn_map"])
            positions = query_positions(maps, model.config)
            # The smallest spread of a map divides rounding errors: compare on the scale of the range 0..24.
            torch.testing.assert_close(
                positions[0], case[f"mid/block{i}.audio_rope_pos_q"], atol=2e-3, rtol=0
            )


@pytest.mark.parametrize(
    "case", [c for c in DIT_CASES if "mid/block0.q_post_rope" in c], ids=lambda case: case.name
)
@torch.no_grad()
def test_class_maps_for_any_number_of_people(case: GoldenFile) -> None:
    """The class maps are recorded for one person too, although nothing needs them there."""
    model = built(case)
    _, _, rows, columns = case["in/y"][0].shape
    classes = class_weights(case["in/ref_target_masks"][None], rows // 2, columns // 2)
    q, k = (case[f"mid/block0.{name}_post_rope"].transpose(1, 2) for name in "qk")
    maps = class_maps(q, k, classes, model.blocks[0].self_attn.attention)
    close(maps[0].T, case["mid/block0.ref_attn_map"])


@pytest.mark.skipif(not MANIFEST.is_file(), reason="the list of published keys is not beside the project")
def test_keys_of_the_published_checkpoint() -> None:
    config = json.loads(MANIFEST.with_suffix(".config.json").read_text())
    with torch.device("meta"):
        model = WanTransformer(DiTConfig.from_json(config))
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    assert shapes == json.loads(MANIFEST.read_text())
