"""The vocal separator of the helper nodes, from its file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from infinite_talk.device import choose_device
from infinite_talk.models.separation import MelBandRoFormer, SeparatorConfig
from infinite_talk.models.separation.separate import separate
from infinite_talk.nodes.helpers.waveforms import resampled
from infinite_talk.nodes.host import host
from infinite_talk.ops.linear import Packed
from infinite_talk.weights.builder import build
from infinite_talk.weights.sources import open_tensors

_COMPUTED = ".rotary_embed.freqs"
"""Ending of keys that hold what a formula gives."""


@dataclass(frozen=True, slots=True, eq=False)
class Separator:
    """A loaded model (MELROFORMERMODEL)."""

    model: MelBandRoFormer

    def separate(self, waveform: torch.Tensor, rate: int) -> tuple[torch.Tensor, torch.Tensor, int]:
        """Voice and the rest of ``(C, S)``, both ``(2, S')`` at the model's rate.

        Mono sounds on both channels; of more than two channels both hear the mean.
        """
        wanted = self.model.config.rate
        stereo = waveform if len(waveform) == 2 else waveform.mean(dim=0, keepdim=True).expand(2, -1)
        sound = resampled(stereo.contiguous(), rate, wanted)
        voice = separate(self.model, sound)
        return voice, sound - voice, wanted


def load_separator(path: Path, config: SeparatorConfig | None = None) -> Separator:
    """Read a model, strictly, on the device of the host.

    Raises:
        CheckpointError: it is another model's file, or damaged.
    """
    tensors = open_tensors(path)
    needed: dict[str, torch.Tensor | Packed] = {
        name: tensors[name] for name in tensors if not name.endswith(_COMPUTED)
    }
    model = build(
        lambda: MelBandRoFormer(config or SeparatorConfig()),
        needed,
        dtype=torch.float32,
        device=choose_device(host().settings),
        source=path.name,
    )
    return Separator(model)
