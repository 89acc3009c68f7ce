"""Random architectures."""

from __future__ import annotations

from random import Random

from bcgraph.schema import NetworkSpec
from bcgraph.search.space.search_space import space, wired


def sample(spec: NetworkSpec, rng: Random, max_backward: int = 2, *, same_resolution: bool = False) -> NetworkSpec:
    """The network with a random set of at most `max_backward` backward connections, of delay 1.

    Uniform over the whole search space (design 1.12): the empty set is as likely as any other set. Where `spec` has a
    space of its own (`space { }`), uniform over that one, and `max_backward` does not count. Ignores the connections of
    `spec`. Raises SearchError (E089) when `max_backward` is negative.
    """
    choices = space(spec, max_backward, same_resolution=same_resolution)
    return wired(spec, choices.architecture(rng.randrange(choices.size)))
