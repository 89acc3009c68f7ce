"""Where and in which precision a training is computed: what depends on the machine, not on the specification."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch

from bcgraph.errors import RunError

Precision: TypeAlias = Literal["32", "64", "bf16-mixed", "16-mixed"]

ACCELERATORS = ("cpu", "cuda", "mps", "auto")

# What Lightning Fabric calls them. 64 is plain as far as Fabric is concerned: the model itself is compiled in float64.
FABRIC = {"32": "32-true", "64": "32-true", "bf16-mixed": "bf16-mixed", "16-mixed": "16-mixed"}


def place(accelerator: str) -> str:
    """The device of a kind, `cpu`, `cuda` or `mps`, where `auto` leaves it open. The CPU is there without asking.

    Raises RunError: E041 for an unknown kind, E074 when this machine has no such device.
    """
    if accelerator == "cpu":
        return accelerator
    # Asking loads Lightning.
    from bcgraph.training.distributed.fabric import kind

    return kind(Options(accelerator))


@dataclass(frozen=True, slots=True)
class Options:
    """`accelerator` is `cpu`, `cuda`, `mps` or `auto`; `devices` share each batch.

    Raises RunError (E041) for what is out of range.
    """

    accelerator: str = "cpu"
    devices: int = 1
    precision: Precision = "32"

    def __post_init__(self) -> None:
        allowed = (
            ("accelerator", self.accelerator in ACCELERATORS, f"one of {', '.join(ACCELERATORS)}"),
            ("precision", self.precision in FABRIC, f"one of {', '.join(FABRIC)}"),
            ("devices", self.devices >= 1, "1 or more"),
        )
        for name, holds, range_ in allowed:
            if not holds:
                raise RunError("E041", f"`{name}` is {getattr(self, name)}", hint=f"allowed: {range_}")

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of the parameters."""
        return torch.float64 if self.precision == "64" else torch.float32
