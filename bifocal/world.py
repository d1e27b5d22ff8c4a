"""Which process this is, among how many, on which device; a world of one is ordinary."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from bifocal.errors import ConfigError


@dataclass(frozen=True, slots=True)
class World:
    """The processes that share a run."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


def pick_device(name: str) -> torch.device:
    """Return the device of that name; "auto" takes the accelerator if there is one.

    Raises:
        ConfigError: the machine has no such device.
    """
    accelerator = torch.accelerator.current_accelerator()
    if name == "auto":
        return accelerator or torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"no device is named '{name}': use auto, cpu, cuda or mps") from None
    if device.type != "cpu" and (accelerator is None or accelerator.type != device.type):
        raise ConfigError(f"this machine has no '{name}': use device=auto or device=cpu")
    return device
