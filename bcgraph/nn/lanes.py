"""Lanes: networks that run side by side along the batch axis, `[R*N, ...]` with the samples of each together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Pick = tuple[int, int]
"""A lane: the number of an operand, and the lane of it."""


def select_lanes(tensors: Sequence[Tensor], held: Sequence[int], picks: Sequence[Pick]) -> Tensor:
    """The lanes `picks` of `tensors`, each of so many lanes `held`, side by side; a view where they lie so already."""
    parts = [lanes_of(tensors[operand], held[operand], first, count) for operand, first, count in runs(picks)]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def lanes_of(x: Tensor, held: int, first: int, count: int = 1, axis: int = 0) -> Tensor:
    """Of the `held` lanes of `x` along `axis`, `count` from `first` on: a view."""
    samples = x.shape[axis] // held
    return x.narrow(axis, first * samples, count * samples)


def runs(picks: Sequence[Pick]) -> list[tuple[int, int, int]]:
    """Lanes that follow each other in an operand, as (operand, first lane, count)."""
    found: list[tuple[int, int, int]] = []
    for operand, lane in picks:
        if found and found[-1][0] == operand and sum(found[-1][1:]) == lane:
            last = found.pop()
            found.append((operand, last[1], last[2] + 1))
        else:
            found.append((operand, lane, 1))
    return found
