"""The device that attention runs on, as far as kernels care."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from infinite_talk.ops.attention.base import Capability


@dataclass(frozen=True, slots=True)
class Here:
    """A device; ``capability`` is ``None`` for anything but an NVIDIA GPU."""

    device: torch.device
    capability: Capability | None
    name: str

    @property
    def says(self) -> str:
        """For people, as the end of "... this is"."""
        if self.capability is None:
            return "the CPU" if self.device.type == "cpu" else f"{self.device.type}"
        major, minor = self.capability
        return f"{self.name} ({major}.{minor})"


def here(device: torch.device) -> Here:
    """What torch says about a device."""
    if device.type != "cuda" or torch.version.cuda is None:
        return Here(device, None, device.type)
    return Here(
        device,
        torch.cuda.get_device_capability(device),
        torch.cuda.get_device_name(device).removeprefix("NVIDIA "),
    )
