"""Locality, and of equally local architectures those with the later targets. It needs no network and no data.

A baseline, as `locality`: with later targets networks end better in the tables of docs/science.md, where many
architectures have the same locality.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bcgraph.plugins.values import OfConnections, Score
from bcgraph.search.scores.standard.locality import locality

if TYPE_CHECKING:
    from bcgraph.schema import NetworkSpec


def late_locality(spec: NetworkSpec) -> float:
    """Locality plus the mean number of the targets as a share of all ports, which is less than 1."""
    targets = [each.target for each in spec.connections]
    late = sum(targets) / (len(targets) * len(spec.ports)) if targets else 0.0
    return locality(spec) + late


SCORE = Score(
    OfConnections(late_locality), "late locality", "locality, and of equals the later targets; needs no network"
)
