"""Architectures as Optuna parameters: one categorical parameter for each connection that a network may have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution

from bcgraph.search.space.search_space import Architecture, Key, SearchSpace
from bcgraph.spaces import Member

NONE = "none"
"""The value of a parameter that stands for no connection."""


@dataclass(frozen=True)
class Encoding:
    """The parameters of a space: `bc0`, `bc1`, ..., each a connection such as `4->0`, or `none`.

    The fixed connections of a space are no parameters: they are always there.
    """

    space: SearchSpace

    @cached_property
    def parameters(self) -> Mapping[str, BaseDistribution]:
        """The distributions of all parameters by name."""
        choices = (NONE, *self._keys)
        return {f"bc{k}": CategoricalDistribution(choices) for k in range(min(self.space.most, self.space.count))}

    def encode(self, architecture: Architecture) -> dict[str, str]:
        """The values of all parameters for an architecture; unused ones are `none`."""
        texts = [_text(key) for key in architecture if key not in self.space.fixed]
        return dict(zip(self.parameters, texts + [NONE] * (len(self.parameters) - len(texts)), strict=True))

    def decode(self, values: Mapping[str, Any]) -> Architecture:
        """The architecture of parameter values; of connections that cannot stand together the first counts."""
        found: dict[Any, Key] = {}
        for value in values.values():
            if value != NONE:
                key = self._keys[value]
                found.setdefault(key.slot if isinstance(key, Member) else key, key)
        return tuple(sorted((*self.space.fixed, *found.values())))

    @cached_property
    def _keys(self) -> Mapping[str, Key]:
        keys = (self.space.key(number) for number in range(self.space.count))
        return {_text(key): key for key in keys}


def _text(key: Key) -> str:
    return str(key) if isinstance(key, Member) else f"{key[0]}->{key[1]}"
