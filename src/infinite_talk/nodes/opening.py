"""From the name of a file to a handle: what loaders have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from infinite_talk.device import choose_device
from infinite_talk.errors import CapabilityError
from infinite_talk.memory.planner import with_spare
from infinite_talk.nodes.handles import Loadable, say
from infinite_talk.nodes.host import EMBEDDED_NAME, host, locate
from infinite_talk.presets import Defaults
from infinite_talk.rooms import Resident
from infinite_talk.runtime import AS_STORED, build_part
from infinite_talk.settings import Attention, Precision, Quantization
from infinite_talk.weights.builder import Store
from infinite_talk.weights.bundle import open_part
from infinite_talk.weights.checkpoint import Checkpoint, Part, open_checkpoint
from infinite_talk.weights.find import find_tokenizer
from infinite_talk.weights.manifest import FILE, read_manifest, verify
from infinite_talk.weights.sizes import text_sizes

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_PARTS = {
    Part.TRANSFORMER: "diffusion_models",
    Part.ADAPTER: "diffusion_models",
    Part.VAE: "vae",
    Part.TINY_VAE: "vae_approx",
    Part.TEXT: "text_encoders",
    Part.VISION: "clip_vision",
    Part.SPEECH: "wav2vec2",
}
"""In which folder each part is."""
ATTENTION = {
    "comfy": Attention.AUTO,
    "sageattn_compiled": Attention.SAGEATTN,
}
"""What the pack's names for attention mean here, where it is not the same name."""
SPARSE = ("radial_sage_attention", "sageattn_ultravico")
"""Names of attention that is a pattern, not another kernel: ``attention.py`` puts it on the model."""


def is_bundle(path: Path) -> bool:
    """Whether a folder is a whole model of this program."""
    return (path / FILE).is_file()


def open_named(part: Part, name: str) -> Checkpoint:
    """Open the file of a name; headers only.

    Raises:
        CheckpointError: it is nowhere, damaged, or of another part.
    """
    path = locate(_PARTS[part], name)
    if not is_bundle(path):
        return open_checkpoint(path, part=part)
    manifest = read_manifest(path)
    if part not in manifest.parts:
        raise CapabilityError(
            f"The model in {path.name} has no part of its own for this loader ({part}): choose a file, or leave it out."
        )
    verify(manifest, (manifest.parts[part].file,))
    return open_part(manifest, part)


def defaults_of_bundle(part: Part, name: str) -> Defaults | None:
    """What a whole model's folder says of itself; ``None`` for a single file."""
    path = locate(_PARTS[part], name)
    return read_manifest(path).defaults if is_bundle(path) else None


def small_dtype(opened: Checkpoint, precision: str, device: torch.device) -> torch.dtype:
    """In what a model other than the transformer runs, with a line where that is not what was asked for."""
    asked = DTYPES[precision]
    if opened.dialect == "bundle" and asked is not torch.float32:
        say(f"{opened.title} runs in fp32 instead of {precision}: it is small, and was trained in it.")
        return torch.float32
    if device.type == "cpu" and asked is torch.float16:
        say(f"{opened.title} runs in fp32 instead of fp16, which CPUs are slow in.")
        return torch.float32
    return asked


def loadable(
    opened: Checkpoint, dtype: torch.dtype, *, policy: Store = AS_STORED, tokenizer: Path | None = None
) -> Loadable[Any]:
    """A model that is built at its first use, on the device of the host."""

    def make(device: torch.device) -> torch.nn.Module:
        swap = text_layers_to_stream(opened, dtype, device)
        return build_part(opened, dtype, device, tokenizer=tokenizer, swap=swap, policy=policy)

    where = choose_device(host().settings)
    return Loadable(
        opened=opened,
        device=where,
        dtype=dtype,
        kept="as stored" if policy is AS_STORED else "fp8_e4m3fn",
        make=make,
        resident=Resident(lambda: make(where), keep=True),
    )


def text_layers_to_stream(opened: Checkpoint, dtype: torch.dtype, device: torch.device) -> int:
    """How many layers of a text encoder pass through a GPU one by one: all, where it does not fit as a whole."""
    if opened.part is not Part.TEXT or device.type != "cuda":
        return 0
    sizes = text_sizes(opened, dtype)
    free = torch.cuda.mem_get_info(device)[0]
    if with_spare(sizes.weights + sizes.work) <= free:
        return 0
    say(f"{opened.title} does not fit into the GPU's free memory; its layers pass through one by one.")
    return sizes.layers


def tokenizer_folder(opened: Checkpoint) -> Path | None:
    """The tokenizer of a text encoder whose own files may lack it; ``None``: beside it, in it, or not needed."""
    if opened.dialect == "bundle":
        return None
    return find_tokenizer(host().places.roots)


def attention_of(mode: str) -> Attention:
    """Our kernel for one of the pack's names.

    Patterns (``attention.py``) run on SageAttention where they leave nothing out.
    """
    if mode in SPARSE:
        return Attention.SAGEATTN
    if mode == "sageattn_compiled":
        say(
            "sageattn_compiled is sageattn here: kernels are opaque to torch.compile, and need no second form."
        )
    return ATTENTION.get(mode) or Attention(mode)


def precision_of(name: str, device: torch.device, *, strict: bool) -> Precision:
    """The transformer's precision; on a CPU float16 becomes float32, with a line.

    Raises:
        CapabilityError: ``strict``, and it would become something else.
    """
    plain = name.removesuffix("_fast")
    if plain == "fp16" and device.type == "cpu":
        if strict:
            raise CapabilityError(f"{name} needs a GPU; choose fp32 or bf16 on the CPU.")
        say(f"The transformer runs in fp32 instead of {name}, which CPUs cannot compute in.")
        return Precision.FP32
    return Precision(plain)


def quantization_of(name: str) -> Quantization:
    """The names are the same."""
    return Quantization(name)


def is_embedded(name: str) -> bool:
    """Whether a name of a file means the embedded model."""
    return host().embedded or name == EMBEDDED_NAME
