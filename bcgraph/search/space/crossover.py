"""Crossover: two backward connections swap their input ports (paper 4.2.3, figure 5)."""

from __future__ import annotations

from random import Random

from bcgraph.schema import BackwardConnection, NetworkSpec
from bcgraph.search.space import member_crossover
from bcgraph.search.space.pairs import Space, rank_pair
from bcgraph.search.space.search_space import described, members_of, port_resolutions, space, wired


def crossover(spec: NetworkSpec, rng: Random, max_backward: int = 2, *, same_resolution: bool = False) -> NetworkSpec:
    """The network with two connections crossed, or, where it has fewer than two, with one more.

    With no connection or one, a random different one of delay 1 is added, uniform over the other pairs. With two or
    more, two of them swap their targets (input ports); a connection keeps its source and its delay. The swap is drawn
    evenly among the valid ones, which gives the odds of drawing again until one is valid. A swap is valid when both
    connections still run backward, no pair occurs twice, and the network changes.
    Where no valid swap exists, or one connection more would exceed `max_backward`, `spec` itself is returned. Where
    `spec` has a space of its own (`space { }`), they are crossed in that one (`member_crossover`).
    """
    if spec.search.space is not None:
        parent = members_of(spec)
        child = member_crossover.crossover(described(spec), parent, rng)
        return spec if child == parent else wired(spec, child)
    if len(spec.backward) < 2:
        return _extend(spec, rng, max_backward, same_resolution)
    swaps = _swaps(spec, same_resolution)
    if not swaps:
        return spec
    a, b = swaps[rng.randrange(len(swaps))]
    connections = list(spec.backward)
    first, second = connections[a], connections[b]
    connections[a] = BackwardConnection(first.source, second.target, first.delay)
    connections[b] = BackwardConnection(second.source, first.target, second.delay)
    return spec.with_backward(connections)


def _extend(spec: NetworkSpec, rng: Random, max_backward: int, same_resolution: bool) -> NetworkSpec:
    if len(spec.backward) >= max_backward:
        return spec
    choices = space(spec, max_backward, same_resolution=same_resolution)
    assert isinstance(choices, Space)
    taken = sorted(r for bc in spec.backward if (r := _index(choices, bc)) is not None)
    free = choices.pairs - len(taken)
    if free < 1:
        return spec
    index = rng.randrange(free)
    for used in taken:
        index += index >= used
    source, target = choices.pair(index)
    return spec.with_backward((*spec.backward, BackwardConnection(source, target)))


def _index(choices: Space, bc: BackwardConnection) -> int | None:
    """The number of a connection's pair in the space; None when the space does not hold it."""
    rank = rank_pair((bc.source, bc.target))
    if choices.allowed is None:
        return rank
    return choices.allowed.index(rank) if rank in choices.allowed else None


def _swaps(spec: NetworkSpec, same_resolution: bool) -> list[tuple[int, int]]:
    """Positions of the two connections of every valid swap."""
    connections = spec.backward
    pairs = {(bc.source, bc.target) for bc in connections}
    sizes = port_resolutions(spec) if same_resolution else None
    found = []
    for a, first in enumerate(connections):
        for b in range(a + 1, len(connections)):
            second = connections[b]
            if first.target > second.source or second.target > first.source or first.target == second.target:
                continue
            new = {(first.source, second.target), (second.source, first.target)}
            old = {(first.source, first.target), (second.source, second.target)}
            if new == old:
                # One source: the targets trade places, which is another network only where the delays differ.
                if first.delay == second.delay:
                    continue
            elif new & (pairs - old):
                continue
            if sizes is not None and any(sizes[s] != sizes[t] for s, t in new):
                continue
            found.append((a, b))
    return found
