"""A random LoRA for the tiny transformer, and the files in which the programs of this world would keep it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from infinite_talk.models.dit import WanTransformer
from infinite_talk.weights.builder import build
from tests.unit.tiny_dit import CONFIG, model, noise

Tensors = dict[str, Tensor]
MODULES = (  # of every sort; the packed ones are in blocks
    "blocks.0.self_attn.q",
    "blocks.0.self_attn.o",
    "blocks.0.cross_attn.k",
    "blocks.0.cross_attn.v_img",
    "blocks.0.ffn.0",
    "blocks.1.self_attn.k",
    "blocks.1.cross_attn.k_img",
    "blocks.1.cross_attn.o",
    "blocks.1.ffn.2",
    "text_embedding.2",
    "time_embedding.0",
    "time_projection.1",
    "img_emb.proj.3",
    "head.head",
)
SPEECH = ("blocks.0.audio_cross_attn.q_linear", "blocks.1.audio_cross_attn.kv_linear", "audio_proj.proj2")
DIFFERENCES = (  # parameters that get a whole difference
    "blocks.0.self_attn.norm_q.weight",
    "blocks.1.cross_attn.norm_k_img.weight",
    "blocks.0.norm3.weight",
    "blocks.0.norm3.bias",
    "blocks.1.ffn.2.bias",
    "blocks.1.self_attn.v.bias",
    "patch_embedding.bias",
    "img_emb.proj.0.weight",
    "head.head.bias",
)
MODULATIONS = ("blocks.1.modulation", "head.modulation")


@dataclass(frozen=True)
class Random:
    """An adapter by our names."""

    pairs: dict[str, tuple[Tensor, Tensor, float | None]]  # module -> up, down, alpha
    differences: Tensors  # by parameter

    def delta(self, name: str) -> Tensor:
        """What it adds to a parameter, computed the obvious way."""
        if name in self.differences:
            return self.differences[name]
        up, down, alpha = self.pairs[name.removesuffix(".weight")]
        whole = up.flatten(1) @ down.flatten(1)
        factor = 1.0 if alpha is None else alpha / down.shape[0]
        return factor * whole.reshape(up.shape[0], *down.shape[1:])

    @property
    def names(self) -> list[str]:
        return [f"{module}.weight" for module in self.pairs] + list(self.differences)

    def without(self, *beginnings: str) -> Random:
        return Random(
            {name: pair for name, pair in self.pairs.items() if not name.startswith(beginnings)},
            {name: tensor for name, tensor in self.differences.items() if not name.startswith(beginnings)},
        )


def random_lora(
    seed: int = 0, rank: int = 3, alpha: float | None = 2.0, *, speech: bool = True, size: float = 0.1
) -> Random:
    shapes = {name: tensor.shape for name, tensor in plain_model().state_dict().items()}
    pairs: dict[str, tuple[Tensor, Tensor, float | None]] = {}
    for i, module in enumerate((*MODULES, *(SPEECH if speech else ()), "patch_embedding")):
        out, *into = shapes[f"{module}.weight"]
        kernel = (1,) * (len(into) - 1)
        up = noise(out, rank, *kernel, seed=1000 * seed + 2 * i) * size
        down = noise(rank, *into, seed=1000 * seed + 2 * i + 1)
        # Values that every dtype of a file holds exactly.
        pairs[module] = up.bfloat16().float(), down.bfloat16().float(), alpha
    differences = {
        name: (noise(*shapes[name], seed=1000 * seed + 500 + i) * size).bfloat16().float()
        for i, name in enumerate((*DIFFERENCES, *MODULATIONS))
    }
    return Random(pairs, differences)


def plain_model() -> WanTransformer:
    """The tiny transformer with norms and modulations that do something."""
    made = model()
    for i, (name, parameter) in enumerate(made.named_parameters()):
        if parameter.dim() == 1:
            with torch.no_grad():
                parameter.add_(0.1 * noise(*parameter.shape, seed=7000 + i))
        assert name
    return made.eval()


def merged_by_hand(loras: list[tuple[Random, float]], base: nn.Module | None = None) -> WanTransformer:
    """The slow twin: a model whose weights are ``W + strength * delta``, summed in float32."""
    state = {name: tensor.clone() for name, tensor in (base or plain_model()).state_dict().items()}
    for lora, strength in loras:
        for name in lora.names:
            state[name] = state[name] + strength * lora.delta(name)
    return build(lambda: WanTransformer(CONFIG), state)


# Dialects


def written(
    lora: Random,
    module: Callable[[str], str],
    pair: tuple[str, str] = ("lora_down.weight", "lora_up.weight"),
    *,
    alpha: bool = True,
    modulation: str = "diff_m",
) -> Tensors:
    """A file of pairs and differences, with the layers called as ``module`` says."""
    tensors: Tensors = {}
    for name, (up, down, scale) in lora.pairs.items():
        tensors[f"{module(name)}.{pair[0]}"], tensors[f"{module(name)}.{pair[1]}"] = down, up
        if alpha and scale is not None:
            tensors[f"{module(name)}.alpha"] = torch.tensor(scale)
    for name, tensor in lora.differences.items():
        owner, _, leaf = name.rpartition(".")
        if leaf == "modulation" and modulation == "diff":
            tensors[f"{module(name)}.diff"] = tensor
        else:
            ending = {"weight": "diff", "bias": "diff_b", "modulation": "diff_m"}[leaf]
            tensors[f"{module(owner)}.{ending}"] = tensor
    return tensors


# In the order in which diffusers' conversion script replaces them.
_DIFFUSERS = (
    ("time_embedding.0", "condition_embedder.time_embedder.linear_1"),
    ("time_embedding.2", "condition_embedder.time_embedder.linear_2"),
    ("text_embedding.0", "condition_embedder.text_embedder.linear_1"),
    ("text_embedding.2", "condition_embedder.text_embedder.linear_2"),
    ("time_projection.1", "condition_embedder.time_proj"),
    ("head.modulation", "scale_shift_table"),
    ("head.head", "proj_out"),
    ("modulation", "scale_shift_table"),
    ("ffn.0", "ffn.net.0.proj"),
    ("ffn.2", "ffn.net.2"),
    ("norm3", "norm2"),
    ("img_emb.proj.0", "condition_embedder.image_embedder.norm1"),
    ("img_emb.proj.1", "condition_embedder.image_embedder.ff.net.0.proj"),
    ("img_emb.proj.3", "condition_embedder.image_embedder.ff.net.2"),
    ("cross_attn.norm_k_img", "attn2.norm_added_k"),
    ("cross_attn.k_img", "attn2.add_k_proj"),
    ("cross_attn.v_img", "attn2.add_v_proj"),
    *((f"self_attn.{letter}", f"attn1.to_{letter}") for letter in "qkv"),
    *((f"cross_attn.{letter}", f"attn2.to_{letter}") for letter in "qkv"),
    ("self_attn.o", "attn1.to_out.0"),
    ("cross_attn.o", "attn2.to_out.0"),
    ("self_attn.norm", "attn1.norm"),
    ("cross_attn.norm", "attn2.norm"),
)


def diffusers(name: str) -> str:
    if "audio" in name:  # diffusers has no InfiniteTalk
        return name
    for ours, theirs in _DIFFUSERS:
        name = name.replace(ours, theirs)
    return name


def flat(name: str) -> str:
    return name.replace(".", "_")


PEFT = ("lora_A.default.weight", "lora_B.default.weight")
AB = ("lora_A.weight", "lora_B.weight")
DIALECTS: dict[str, Callable[[Random], Tensors]] = {
    "bare": lambda lora: written(lora, lambda name: name),
    "lightx2v": lambda lora: written(lora, lambda name: f"diffusion_model.{name}"),
    "fusionx": lambda lora: written(lora, lambda name: f"diffusion_model.{name}", AB),
    "comfy": lambda lora: written(lora, lambda name: f"model.diffusion_model.{name}", modulation="diff"),
    "kohya": lambda lora: written(lora, lambda name: f"lora_unet__{flat(name)}"),
    "musubi": lambda lora: written(lora, lambda name: f"lora_unet_{flat(name)}"),
    "kohya with dots": lambda lora: written(lora, lambda name: "lora_unet_" + name.replace(".", "_", 1)),
    "kohya of diffusers": lambda lora: written(
        lora, lambda name: f"lora_unet_{flat(diffusers(name))}", modulation="diff"
    ),
    "lycoris": lambda lora: written(lora, lambda name: f"lycoris_{flat(name)}"),
    "diffusers": lambda lora: written(
        lora, lambda name: f"transformer.{diffusers(name)}", AB, modulation="diff"
    ),
    "old diffusers": lambda lora: written(
        lora,
        lambda name: f"transformer.{diffusers(name)}",
        ("lora.down.weight", "lora.up.weight"),
        modulation="diff",
    ),
    "finetrainers": lambda lora: written(
        lora, lambda name: f"diffusion_model.{diffusers(name)}", AB, modulation="diff"
    ),
    "peft": lambda lora: written(lora, lambda name: f"base_model.model.{name}", PEFT),
    "peft of diffusers": lambda lora: written(
        lora, lambda name: f"base_model.model.transformer.{diffusers(name)}", PEFT, modulation="diff"
    ),
    "diffsynth": lambda lora: written(lora, lambda name: f"pipe.dit.{name}", PEFT),
}


def saved(folder: Path, tensors: Tensors, dtype: torch.dtype = torch.float32, **metadata: str) -> Path:
    path = folder / "some_lora.safetensors"
    stored = {
        name: (tensor if name.endswith("alpha") else tensor.to(dtype)).contiguous()
        for name, tensor in tensors.items()
    }
    save_file(stored, path, metadata=metadata)
    return path
