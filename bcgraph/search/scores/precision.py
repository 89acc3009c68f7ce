"""The precisions that scored networks compute in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from bcgraph.errors import SearchError, nearest


@dataclass(frozen=True, slots=True)
class Precision:
    """The types of the forward pass, which decides the spikes, and of the input gradients of convolutions.

    With `whole` weights are rounded to 16 bits where they meet spikes, so that their sums are exact (see
    `bcgraph.nn.conv.int16`).
    """

    forward: torch.dtype
    gradient: torch.dtype
    whole: bool = False


FLOAT32 = Precision(torch.float32, torch.float32)

PRECISIONS: Mapping[str, Precision] = {
    "float32": FLOAT32,
    "float64": Precision(torch.float64, torch.float64),
    "bfloat16": Precision(torch.bfloat16, torch.bfloat16),
    "mixed": Precision(torch.float32, torch.bfloat16),
    "int16": Precision(torch.float32, torch.bfloat16, whole=True),
}
"""By the names that `--score-dtype` takes. `mixed` gives the spikes, and so the N-score, of float32."""


def precision(name: str) -> Precision:
    """The precision of this name. Raises SearchError (E089) for an unknown name."""
    if name not in PRECISIONS:
        hint = nearest(name, PRECISIONS) or f"one of {', '.join(PRECISIONS)}"
        raise SearchError("E089", f"scores cannot be computed in `{name}`", hint=hint)
    return PRECISIONS[name]
