"""Firing rates of a compiled network on data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bcgraph.compiler.targets.fx.module import spikes
from bcgraph.training.accuracy import evaluating


def measure(model: Any, batches: Iterator[tuple[Any, Any]]) -> dict[tuple[int, int], float]:
    """Firing rates by (port, step) of a compiled network over batches of data, in evaluation mode.

    `model` is a module of the schedule `unrolled` or `folded`; `batches` yields (x, y) as `Split.batches` does.
    """
    fired: dict[tuple[int, int], float] = {}
    values: dict[tuple[int, int], int] = {}
    like = next(model.parameters())
    with evaluating(model):
        for x, _ in batches:
            _, found = spikes(model, x.to(device=like.device, dtype=like.dtype))
            for place, value in found.items():
                fired[place] = fired.get(place, 0.0) + float(value.double().sum())
                values[place] = values.get(place, 0) + value.numel()
    return {place: fired[place] / values[place] for place in fired}
