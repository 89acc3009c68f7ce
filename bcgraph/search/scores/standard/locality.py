"""Locality: the number of connections minus their summed distance in ports. It needs no network and no data.

It is no score of the literature but a baseline: on small networks for sequences it orders trained architectures about
as well as scores that run the network do (docs/science.md), so a score counts for what it adds to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bcgraph.plugins.values import OfConnections, Score

if TYPE_CHECKING:
    from bcgraph.schema import NetworkSpec


def locality(spec: NetworkSpec) -> float:
    """The number of connections minus the sum of their distances; that of `@j -> @i` is |j - i|."""
    return float(sum(1 - abs(each.source - each.target) for each in spec.connections))


SCORE = Score(
    OfConnections(locality), "locality", "the number of connections minus their summed distance; needs no network"
)
