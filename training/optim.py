"""Optimiser, averaging, clock and multi-GPU plumbing shared by the training stages.

Muon (Jordan et al., 2024, "Muon: an optimizer for hidden layers") orthogonalises the momentum of every weight
matrix; here with the root-mean-square matching of Liu et al., 2025 ("Muon is scalable for LLM training"), so
that one learning rate serves it and AdamW. It reaches a given loss in roughly half of AdamW's steps on models
of this size, which matters because the whole recipe has to fit into minutes.
"""

from __future__ import annotations

import math
import os
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import nn


def orthogonalise(stack: torch.Tensor, iterations: int = 5) -> torch.Tensor:
    """Nearest semi-orthogonal matrices of a stack ``(N, rows, columns)`` by Newton-Schulz iteration."""
    a, b, c = 3.4445, -4.7750, 2.0315  # quintic whose slope at 0 is steep; values of the Muon paper
    x = stack.bfloat16()
    transposed = x.shape[1] > x.shape[2]
    if transposed:
        x = x.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if transposed else x).to(stack.dtype)


class Muon:
    """Muon for weights of two or more dimensions, AdamW for everything else.

    Matrices of equal shape are orthogonalised together: a model of many small layers would otherwise spend
    its time launching kernels.
    """

    def __init__(self, model: nn.Module, lr: float, *, adam_names: tuple[str, ...] = (), decay: float = 0.01):
        self.lr, self.decay = lr, decay
        self.groups: dict[tuple[int, int], list[nn.Parameter]] = defaultdict(list)
        others = []
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            if (
                parameter.ndim < 2
                or min(parameter.shape[0], parameter.numel() // parameter.shape[0]) < 8
                or any(n in name for n in adam_names)
            ):
                others.append(parameter)
            else:
                self.groups[parameter.shape[0], parameter.numel() // parameter.shape[0]].append(parameter)
        self.momentum = {key: [torch.zeros_like(p).flatten(1) for p in ps] for key, ps in self.groups.items()}
        fused = bool(others) and others[0].is_cuda
        self.adam = torch.optim.AdamW(others, lr=lr, betas=(0.9, 0.98), weight_decay=0.0, fused=fused)

    @torch.no_grad()
    def step(self, scale: float) -> None:
        """One update at ``scale`` times the base learning rate."""
        for group in self.adam.param_groups:
            group["lr"] = self.lr * scale
        self.adam.step()
        for (rows, columns), members in self.groups.items():
            # A layer that this step did not use (the time convolutions of a VAE shown a picture) stays as it is.
            used = [i for i, p in enumerate(members) if p.grad is not None]
            if not used:
                continue
            parameters = [members[i] for i in used]
            buffers = [self.momentum[rows, columns][i] for i in used]
            gradients = [p.grad.flatten(1) for p in parameters]
            torch._foreach_lerp_(buffers, gradients, 0.05)
            update = orthogonalise(torch.stack(torch._foreach_lerp(gradients, buffers, 0.95)))
            size = -self.lr * scale * 0.2 * math.sqrt(max(rows, columns))
            torch._foreach_mul_(parameters, 1 - self.lr * scale * self.decay)
            torch._foreach_add_(
                parameters, [u.view_as(p) for u, p in zip(update, parameters, strict=True)], alpha=size
            )

    def zero_grad(self, model: nn.Module) -> None:
        for parameter in model.parameters():
            parameter.grad = None


class Average:
    """Exponential moving average of the weights; what is evaluated and shipped."""

    def __init__(self, model: nn.Module, decay: float = 0.998):
        self.decay, self.steps = decay, 0
        self.live = [p for p in model.parameters() if p.requires_grad]
        self.names = [n for n, p in model.named_parameters() if p.requires_grad]
        self.mean = [p.detach().clone().float() for p in self.live]

    @torch.no_grad()
    def update(self) -> None:
        self.steps += 1
        weight = max(1 - self.decay, 1 / (self.steps + 1))
        torch._foreach_lerp_(self.mean, [p.float() for p in self.live], weight)

    def state(self) -> dict[str, torch.Tensor]:
        return dict(zip(self.names, self.mean, strict=True))

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        own = dict(model.named_parameters())
        for name, value in self.state().items():
            own[name].copy_(value)


class Clock:
    """Learning-rate schedule by wall time: a run always ends in time, whatever the machine."""

    def __init__(self, minutes: float, warmup: float = 0.03):
        self.start, self.seconds, self.warmup = time.monotonic(), minutes * 60, warmup

    def begin_now(self) -> None:
        """Take compilation out of the schedule; the end stays where it is."""
        end = self.start + self.seconds
        self.start = time.monotonic()
        self.seconds = max(1.0, end - self.start)

    @property
    def progress(self) -> float:
        return min(1.0, (time.monotonic() - self.start) / self.seconds)

    def scale(self, progress: float, floor: float = 0.02) -> float:
        """Linear warm-up, flat to one half, then a cosine to ``floor``."""
        if progress < self.warmup:
            return (progress + 1e-3) / self.warmup
        if progress < 0.5:
            return 1.0
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * (progress - 0.5) / 0.5))


class Ranks:
    """The processes of one run (one per GPU); a single process needs no launcher."""

    def __init__(self) -> None:
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        self.index = int(os.environ.get("RANK", "0"))
        self.device = torch.device(f"cuda:{self.index}" if torch.cuda.is_available() else "cpu")
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
            torch.backends.cudnn.benchmark = True
            torch.set_float32_matmul_precision("high")
        if self.count > 1:
            dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo")

    @property
    def first(self) -> bool:
        return self.index == 0

    def share_weights(self, model: nn.Module) -> None:
        """Every rank starts from rank 0's weights."""
        if self.count > 1:
            for tensor in (*model.parameters(), *model.buffers()):
                dense = tensor.data.contiguous()  # NCCL takes no other memory format
                dist.broadcast(dense, 0)
                tensor.data.copy_(dense)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        if self.count == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([g.flatten() for g in gradients])
        dist.all_reduce(flat, op=dist.ReduceOp.AVG if self.device.type == "cuda" else dist.ReduceOp.SUM)
        if self.device.type != "cuda":
            flat /= self.count
        offset = 0
        for g in gradients:
            g.copy_(flat[offset : offset + g.numel()].view_as(g))
            offset += g.numel()

    def agree(self, value: float) -> float:
        """Rank 0's value on every rank, so that all leave a loop at the same step."""
        if self.count == 1:
            return value
        box = torch.tensor([value], device=self.device, dtype=torch.float64)
        dist.broadcast(box, 0)
        return float(box)

    def close(self) -> None:
        if self.count > 1:
            dist.barrier()
            dist.destroy_process_group()


def save(path: Path, state: dict[str, torch.Tensor], dtype: torch.dtype = torch.float16) -> None:
    """Write weights under a temporary name first: a run cut short never leaves half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    save_file({k: v.detach().to(dtype).contiguous().cpu() for k, v in state.items()}, temporary)
    temporary.replace(path)


def load(path: Path, model: nn.Module) -> None:
    """Load weights strictly, upcast to the model's precision."""
    state = load_file(path)
    model.load_state_dict({k: v.float() for k, v in state.items()}, strict=True)
