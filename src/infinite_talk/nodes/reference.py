"""Writes ``docs/nodes.md`` from the nodes themselves: ``python -m infinite_talk.nodes.reference``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from infinite_talk.nodes.declare import Declared, Files, inputs_of
from infinite_talk.nodes.registry import NODES, node_class
from infinite_talk.nodes.texts import description, differences, tooltip

HEAD = """# Nodes

Written by `python -m infinite_talk.nodes.reference > docs/nodes.md`; a test compares it with the nodes.

The nodes have the names, inputs, defaults and ranges of ComfyUI-WanVideoWrapper 1.4.6, so that workflows and scripts go
on as they are: in ComfyUI (clone this repository into `custom_nodes`, see [below](#in-comfyui)), in
`infinite-talk workflow run`, and in Python:

```python
from infinite_talk.nodes import WanVideoModelLoader, WanVideoSampler, WanVideoDecode
```

In the tables: what each input does, and what differs from that pack, with the reason. An input that is not mentioned in
the last column does the same there. What was wrong in that pack, and the tests that show it is not so here, stands in
[faults.md](faults.md). For all nodes: values out of range, of another type, or not among the choices are
refused in words, as are unknown keys of argument dictionaries and unknown keywords; `embedded`, the first choice of
every loader, is the part of the small model that comes with the package.

How a machine works is said once for it, in `Settings` or on the command line, and not with each sampler: TF32
(`--tf32`), the library of products (`--gemm`), fused QKV (`--fuse-qkv`), dense inputs of the attention
(`--contiguous`).
"""
COMFYUI = """## In ComfyUI

Clone the repository into `ComfyUI/custom_nodes` and install what `requirements.txt` lists, if ComfyUI's manager has not
done it; torch is never touched. Workflows to begin with are in `example_workflows/`. Tooltips are English, and Chinese
where ComfyUI speaks Chinese. Where ComfyUI-WanVideoWrapper is installed too, all nodes here are called
`InfiniteTalk` + name and titled "... (Infinite Talk)"; where another pack has one of the names, that one alone.
Progress, interrupts, model folders and the device are ComfyUI's. One node exists in ComfyUI only: **Infinite Talk
Portrait** makes a talking video of any length from an `IMAGE` and one or two `AUDIO`, and gives a `VIDEO`.
"""
PIPELINE = """## InfiniteTalkPipeline

The nodes in the order of a talking video, behind two calls, for programs that were written for the pipeline of a WebUI:

```python
from infinite_talk import InfiniteTalkPipeline

pipeline = InfiniteTalkPipeline("models", output_dir="out")
pipeline.load_models(
    model_name="wan2.1-i2v-14b-480p.safetensors",
    vae_name="vae.safetensors",
    t5_model_name="umt5-xxl.safetensors",
    clip_vision_name="clip_vision_h.safetensors",
    wav2vec_model_name="wav2vec2-chinese-base.safetensors",
    multitalk_model_name="infinitetalk_single.safetensors",
)
path = pipeline.generate("me.png", "speech.wav", "a woman talks", width=640, height=640, steps=6, shift=11.0)
```

`load_models` opens and checks the files and returns `True`; `generate` returns the path of an mp4 with its sound.
What goes wrong raises an error of `infinite_talk.errors`. Every option of `generate` is a field of
`infinite_talk.pipeline.PipelineOptions`, which says what it does; an unknown one is a `TypeError` with the nearest
name. What is not as in that WebUI: all of the speech is encoded, windows have 81 frames whatever the length, the
picture's CLIP features arrive, quantisation, attention, block swap, sampler, scheduler, steps and guidance act, a
crop without a duration goes to the end, and 25 frames per second are the default. `sampler_name` and `scheduler`
become one name (`dpm++_sde` on the schedule of `unipc` is `dpm++_sde`), or are refused where they exclude each other.
`fp4_scaled` are weights in NVFP4 (there 8 bits under that name); `sageattn_3_fp4` falls back with a line in the log
where there is no Blackwell GPU.
"""
GROUPS = {
    "loaders": "Models",
    "loras": "LoRAs",
    "encoders": "Encoders",
    "text": "Text",
    "vision": "CLIP",
    "image": "Image to video",
    "talking": "Image to video",
    "speech": "Speech",
    "codec": "Latents and frames",
    "sampler": "Sampler",
    "schedules": "Schedules",
    "techniques": "Techniques",
    "caches": "Step caches",
    "guidance": "Guidance and windows",
    "machine": "Machine",
    "adapters": "Adapters",
    "fantasy": "Adapters",
    "utilities": "Utilities",
}
"""Headings by a node's module, in the order of the page."""
_MANY = 12
"""Choices that are listed; more are counted."""


def reference() -> str:
    """The whole page."""

    def group(name: str) -> str:
        return GROUPS.get(NODES[name].module, "More")

    order = [*dict.fromkeys(GROUPS.values()), "More"]
    parts = [HEAD]
    for heading, names in groupby(sorted(NODES, key=lambda name: order.index(group(name))), key=group):
        parts.append(f"## {heading}\n")
        parts += [_node(name) for name in names]
    return "\n".join([*parts, COMFYUI, PIPELINE])


def _node(name: str) -> str:
    node, told, differ = node_class(name), description(name), differences(name)
    given = ", ".join(
        f"`{label}` ({_kind(kind, {})})"
        for kind, label in zip(node.RETURN_TYPES, node.RETURN_NAMES, strict=True)
    )
    lines = [f"### {NODES[name].title}", "", f"`{name}.{node.FUNCTION}` → {given}", ""]
    if told:
        lines += [told.en, ""]
    if "node" in differ:
        lines += [f"Differs: {differ['node']}", ""]
    if rows := list(_rows(name, inputs_of(node), differ)):
        lines += ["| input | type, default, range | what it does | differs |", "|---|---|---|---|", *rows, ""]
    return "\n".join(lines)


def _rows(name: str, declared: Mapping[str, Declared], differ: Mapping[str, str]) -> Iterator[str]:
    """One for each input; the forty switches of a LoRA's blocks share one."""
    switches = [key for key in declared if key.startswith("blocks.")]
    for key, (kind, options) in declared.items():
        if key in switches[1:]:
            continue
        shown = f"`{switches[0]}` ... `{switches[-1]}`" if key in switches else f"`{key}`"
        told = tooltip(name, key)
        cells = (shown, _kind(kind, options), told.en if told else "", differ.get(key, ""))
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _kind(kind: Any, options: Mapping[str, Any]) -> str:  # noqa: ANN401 - a type's name, or choices
    default = options.get("default")
    if isinstance(kind, Files):
        return "file"
    if isinstance(kind, (list, tuple)):
        listed = "COMBO" if len(kind) > _MANY else ", ".join(map(str, kind))
        several = f" of {len(kind)}" if len(kind) > _MANY else ""
        return f"{listed}{several}" + (f"; default {default}" if default is not None else "")
    low, high = options.get("min"), options.get("max")
    limits = "" if low is None and high is None else f", {_bound(low)} to {_bound(high)}"
    return f"{kind}" + (f"; default {default}" if default not in (None, "") else "") + limits


def _bound(number: float | None) -> str:
    return "any" if number is None else f"{number}"


if __name__ == "__main__":
    sys.stdout.write(reference())
