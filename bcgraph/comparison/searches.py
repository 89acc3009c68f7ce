"""What several searches have found, pooled: where their connections lead (paper figure 1), beside random networks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bcgraph.comparison.statistics import SURE
from bcgraph.errors import RunError

Found = tuple[tuple[int, int], ...]
"""The backward connections of a network found, source and target."""

FRONT = 1 / 3
"""The share of the ports that counts as the front of a network."""


@dataclass(frozen=True)
class Pooled:
    """The connections found by searches on networks with the same `ports`."""

    ports: tuple[str, ...]
    found: tuple[Found, ...]

    def targets(self) -> list[int]:
        """How many connections lead into each port."""
        ends = [target for each in self.found for _, target in each]
        return [ends.count(port) for port in range(len(self.ports))]

    def expected(self) -> list[float]:
        """How many would, were as many connections drawn evenly from all pairs of ports."""
        ports = len(self.ports)
        number, pairs = sum(self.targets()), ports * (ports + 1) // 2
        return [number * (ports - port) / pairs for port in range(ports)]

    @property
    def front(self) -> int:
        """How many ports are the front third of the network."""
        return max(1, math.ceil(FRONT * len(self.ports)))

    def verdict(self) -> str:
        """Whether connections lead into the front more often than by chance, by a two-sided binomial test."""
        number = sum(self.targets())
        if not number:
            return "no search has found a connection"
        from scipy import stats

        held = sum(self.targets()[: self.front])
        chance = sum(self.expected()[: self.front]) / number
        p = float(stats.binomtest(held, number, chance).pvalue)
        if p >= SURE:
            said = "no more than chance"
        else:
            said = "the front is favored" if held / number > chance else "the front is avoided"
        return (
            f"{held} of {number} connections ({held / number:.0%}) lead into the first {self.front} of "
            f"{len(self.ports)} ports, where chance gives {chance:.0%}: {said} (binomial test, p = {p:.2g})"
        )

    def as_data(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "ports": list(self.ports),
            "searches": len(self.found),
            "targets": self.targets(),
            "expected": self.expected(),
            "verdict": self.verdict(),
        }


def pool(networks: Sequence[tuple[tuple[str, ...], Found]]) -> Pooled:
    """Networks found, each with its ports, in one. Raises RunError (E085) when the ports are not the same."""
    ports = networks[0][0]
    if any(other != ports for other, _ in networks):
        raise RunError(
            "E085",
            "connections of networks with different ports cannot be pooled",
            hint="name searches of one backbone",
        )
    return Pooled(ports, tuple(found for _, found in networks))
