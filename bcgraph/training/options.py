"""Where and in which precision a training run computes: what depends on the machine, not on the specification."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch

from bcgraph.errors import RunError
from bcgraph.nn.graphs.graphed import GRAPHS, Graphs

Precision: TypeAlias = Literal["32", "64", "bf16-mixed", "16-mixed"]

ACCELERATORS = ("cpu", "cuda", "mps", "auto")
PRECISIONS: tuple[str, ...] = get_args(Precision)


@dataclass(frozen=True, slots=True)
class Options:
    """`accelerator` is `cpu`, `cuda`, `mps` or `auto`; `devices` share each batch.

    On a GPU convolutions may round their operands to the 10 bits of TF32, as torch has it, unless `tf32` is off.
    `graphs` captures train steps and evaluations as CUDA graphs: `auto` on a GPU, where a replay agrees with a plain
    call, `on` there or not at all, `off` never. A train step of several `devices` is captured with `on` alone.

    Raises RunError (E041) for a value out of range.
    """

    accelerator: str = "cpu"
    devices: int = 1
    precision: Precision = "32"
    graphs: Graphs = "auto"
    tf32: bool = True

    def __post_init__(self) -> None:
        allowed = (
            ("accelerator", self.accelerator in ACCELERATORS, f"one of {', '.join(ACCELERATORS)}"),
            ("precision", self.precision in PRECISIONS, f"one of {', '.join(PRECISIONS)}"),
            ("devices", self.devices >= 1, "1 or more"),
            ("graphs", self.graphs in GRAPHS, f"one of {', '.join(GRAPHS)}"),
        )
        for name, holds, range_ in allowed:
            if not holds:
                raise RunError("E041", f"`{name}` is {getattr(self, name)}", hint=f"allowed: {range_}")

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of the parameters."""
        return torch.float64 if self.precision == "64" else torch.float32
