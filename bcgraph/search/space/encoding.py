"""Architectures as Optuna parameters: one categorical parameter for each connection that a network may have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution

from bcgraph.search.space.pairs import Architecture, Pair, Space

NONE = "none"
"""The value of a parameter that stands for no connection."""


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """The parameters of a space: `bc0`, `bc1`, ..., each a pair such as `4->0`, or `none`."""
    choices = (NONE, *(_text(space.pair(i)) for i in range(space.pairs)))
    return {f"bc{k}": CategoricalDistribution(choices) for k in range(min(space.max_backward, space.pairs))}


def encode(architecture: Architecture, parameters: Mapping[str, BaseDistribution]) -> dict[str, str]:
    """The values of all parameters for an architecture; unused ones are `none`."""
    texts = [_text(p) for p in architecture]
    return dict(zip(parameters, texts + [NONE] * (len(parameters) - len(texts)), strict=True))


def decode(values: Mapping[str, Any]) -> Architecture:
    """The architecture of parameter values; a repeated pair counts once."""
    return tuple(sorted({_pair(v) for v in values.values() if v != NONE}))


def _text(pair: Pair) -> str:
    return f"{pair[0]}->{pair[1]}"


def _pair(text: str) -> Pair:
    source, target = text.split("->")
    return int(source), int(target)
