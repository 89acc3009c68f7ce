"""The space of a search, the paper's or one that a file describes, and what its architectures stand for."""

from __future__ import annotations

from functools import lru_cache
from math import floor, log10
from typing import TypeAlias, cast

from bcgraph import shapes, spaces
from bcgraph.errors import SearchError
from bcgraph.schema import Backbone, InputSpec, NetworkSpec
from bcgraph.search.space.members import MemberSpace
from bcgraph.search.space.pairs import Pair, Pairs, Space, rank_pair
from bcgraph.spaces import Member

Key: TypeAlias = Pair | Member
"""What stands for one connection: its ports in the paper's space, all of a member in another."""

Architecture: TypeAlias = tuple[Key, ...]
"""A set of connections, sorted: all of a network, the fixed ones of a space included."""

SearchSpace: TypeAlias = Space | MemberSpace


def space(spec: NetworkSpec, max_backward: int = 2, *, same_resolution: bool = False) -> SearchSpace:
    """The search space of a network: sets of at most `max_backward` pairs of its ports.

    With `same_resolution` only pairs of ports with the same height and width count. Where the file of `spec` describes
    a space (`space { }`), it is that one, and neither of the two counts. Raises SearchError (E089) when `max_backward`
    is negative.
    """
    if spec.search.space is not None:
        return described(spec)
    if max_backward < 0:
        raise SearchError("E089", f"max_backward is {max_backward}, but a count cannot be negative")
    allowed = _same_resolution(spec.backbone, spec.input) if same_resolution else None
    return Space(len(spec.ports), max_backward, allowed)


def described(spec: NetworkSpec) -> MemberSpace:
    """The space that the file of `spec` describes with `space { }`."""
    return _numbered(spaces.space(spec))


def of_search(spec: NetworkSpec) -> SearchSpace:
    """The space that the settings of `spec` describe."""
    return space(spec, spec.search.max_backward, same_resolution=spec.search.same_resolution)


def space_size(spec: NetworkSpec, max_backward: int = 2, *, same_resolution: bool = False) -> int:
    """The number of architectures with at most `max_backward` backward connections (paper 4.2.1), or of `space { }`.

    Raises SearchError (E089) when `max_backward` is negative.
    """
    return space(spec, max_backward, same_resolution=same_resolution).size


def size_text(size: int) -> str:
    """The size of a space for people: exact, or rounded where it has more digits than anyone reads."""
    if size < 10**18:
        return str(size)
    exponent = floor(log10(size))
    return f"about {10 ** (log10(size) - exponent):.2f}e{exponent}"


def architecture_of(spec: NetworkSpec) -> Architecture:
    """The connections that a network has, as a set in its one order."""
    if spec.search.space is None:
        return tuple(sorted((bc.source, bc.target) for bc in spec.backward))
    return members_of(spec)


def members_of(spec: NetworkSpec) -> tuple[Member, ...]:
    """The connections that a network has, as members of the space that its file describes, sorted."""
    return tuple(sorted(spaces.member(each, spec) for each in spec.connections))


def wired(spec: NetworkSpec, architecture: Architecture) -> NetworkSpec:
    """The network with exactly the connections of an architecture of its space; of pairs, with delay 1."""
    if spec.search.space is None:
        return spec.with_connections(cast(Pairs, architecture))
    return spaces.wired(spec, cast(tuple[Member, ...], architecture))


def port_shapes(spec: NetworkSpec) -> tuple[shapes.Shape, ...]:
    """The shape of the spikes of each port, `(C, H, W)` or `(F,)`."""
    return shapes.ports(spec.backbone, spec.input)


def port_resolutions(spec: NetworkSpec) -> tuple[tuple[int, int], ...]:
    """Height and width at each port; a port with no spatial axes counts as 1x1."""
    return tuple(shapes.spatial(shape) for shape in port_shapes(spec))


@lru_cache(maxsize=16)
def _numbered(found: spaces.Space) -> MemberSpace:
    return MemberSpace(found.members, found.at_most, found.fixed)


@lru_cache(maxsize=64)
def _same_resolution(backbone: Backbone, fed: InputSpec) -> tuple[int, ...]:
    sizes = [shapes.spatial(shape) for shape in shapes.ports(backbone, fed)]
    return tuple(rank_pair((j, i)) for j in range(len(sizes)) for i in range(j + 1) if sizes[j] == sizes[i])
