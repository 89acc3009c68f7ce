"""Types of numbers: in what a neuron computes, and in what it keeps its membranes."""

from __future__ import annotations

import torch
from torch import Tensor

HALVES = (torch.bfloat16, torch.float16)


def arithmetic(dtype: torch.dtype) -> torch.dtype:
    """The type in which values of `dtype` are computed: float64 for itself, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def membranes(current: Tensor) -> torch.dtype:
    """The type of the states of a neuron with such a current.

    Under autocast, currents come in half precision while everything that is kept over time stays in float32: a
    membrane adds up many small currents. A network that is in half precision as a whole has such membranes too.
    """
    half = current.dtype in HALVES and torch.is_autocast_enabled(current.device.type)
    return torch.float32 if half else current.dtype


def kept(current: Tensor) -> torch.dtype:
    """The type in which kernels keep the values of a neuron with such a current for the backward pass.

    Where currents are in bfloat16 they are rounded to that: gradients come in it as well, and half of the memory is
    left. float16 has too small a range for membranes.
    """
    return torch.bfloat16 if current.dtype == torch.bfloat16 else membranes(current)
