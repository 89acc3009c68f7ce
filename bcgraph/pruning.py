"""Rules of a search in one training run (`strategy = gains`): when it prunes, what stays, what cannot be met.

All connections of the space train at once. The run is divided into stages, and between two stages the weakest
connections are left out. Everything here follows from the specification and from learned scales, without torch.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeAlias, TypeVar, cast

from pydantic import Field

from bcgraph import plugins, projections, shapes, spaces
from bcgraph.plugins.values import Contradiction
from bcgraph.schema import (
    BackwardConnection,
    BatchNorm,
    Connection,
    Dropout,
    Maps,
    NetworkSpec,
    Projection,
    Resize,
    Through,
)
from bcgraph.schema.values import Frozen, Gain, NotNegative, PositiveInt
from bcgraph.spaces import Member

Pair: TypeAlias = tuple[int, int]

Key: TypeAlias = Pair | Member
"""One connection: its ports in the paper's space, all of a member in one that a file describes."""

T = TypeVar("T")

STRATEGY = "gains"

MAX_CONNECTIONS = 6_000
"""Connections that may train at once: their layers are then as many as those of the largest backbone."""

MAX_WEIGHTS = 2_000_000_000
"""Trained values of all projections together, as many as a network may have."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: the epoch after which it ends, and how many connections and extra operations it may have.

    Fixed connections do not count. `operations` are multiply-accumulates of one sample and step, infinite where there
    is no bound. In the last stage, which leaves a network of the space, no two connections have the same ports and
    delay. `share` is how far the pruning has come, from 0 to 1.
    """

    end: int
    connections: int
    operations: float
    share: float = 1.0
    last: bool = False


def network(spec: NetworkSpec, chosen: Sequence[Key]) -> NetworkSpec:
    """The network with these connections alone, each at the gain of the search. They are not alternatives."""
    if spec.search.space is not None:
        return spaces.wired(spec, cast(Sequence[Member], chosen), of(spec).gain)
    return quiet(spec).with_backward([_backward(spec, key) for key in chosen])


def together(spec: NetworkSpec, chosen: Sequence[Key]) -> NetworkSpec:
    """The network in which these connections train together, alternatives side by side."""
    if spec.search.space is None:
        return network(spec, chosen)
    return spaces.wired(spaces.Together.of(spec), cast(Sequence[Member], chosen), of(spec).gain)


class Gains(Frozen):
    """The settings of `strategy = gains`: nothing is bred, and all connections of the space train at once.

    Each starts from the scale `gain`. Each update takes the learning rate times `penalty` off the root mean square of a
    connection's scale. In `stages` prunings, the last of them after the share `prune_until` of the epochs, the weakest
    are left out, until `keep` remain whose multiply-accumulates are at most `extra_operations` times those of the
    backbone.
    """

    gain: Gain = 0.1
    penalty: NotNegative = 0.1
    keep: PositiveInt = 2
    stages: PositiveInt = 4
    prune_until: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    extra_operations: NotNegative | None = None


def of(spec: NetworkSpec) -> Gains:
    """The settings of `spec`, or the defaults where it has another strategy."""
    own = spec.search.evolve.own
    return own if isinstance(own, Gains) else Gains()


def one_run(strategy: str) -> bool:
    """Whether a search by this strategy is one training run; an unknown one is not."""
    found = plugins.known("strategy", strategy)
    return found is not None and found.value.run is not None


def quiet(spec: NetworkSpec) -> NetworkSpec:
    """`spec` without connections. In the paper's space it has the gain of the search for all that come."""
    found: dict[str, object] = {"backward": (), "forward": ()}
    if spec.search.space is None and isinstance(spec.feedback, Projection):
        found["feedback"] = dataclasses.replace(spec.feedback, gain=of(spec).gain)
    return NetworkSpec(**(dict(spec.__dict__) | found))


def _backward(spec: NetworkSpec, key: Key) -> BackwardConnection:
    # The text of a projection of the user's own has no place for another gain: the connection has it.
    own = not isinstance(spec.feedback, Projection)
    return BackwardConnection(key[0], key[1], gain=of(spec).gain if own else None)


def key_of(connection: Connection, spec: NetworkSpec) -> Key:
    """What stands for a connection of a network of the search."""
    if spec.search.space is None:
        return connection.source, connection.target
    return spaces.member(connection, spec)


def every(spec: NetworkSpec) -> tuple[Key, ...]:
    """All connections of the space, by source and target, the fixed ones among them; none with `max_backward = 0`."""
    if spec.search.space is not None:
        return tuple(sorted((*spaces.space(spec).fixed, *spaces.space(spec).members)))
    if spec.search.max_backward == 0:
        return ()
    sizes = shapes.in_common(spec)
    ports = range(len(sizes))
    return tuple((j, i) for j in ports for i in ports[: j + 1] if sizes[j] == sizes[i])


def fixed(spec: NetworkSpec) -> frozenset[Key]:
    """Those that are never pruned."""
    return frozenset() if spec.search.space is None else frozenset(spaces.space(spec).fixed)


def count(spec: NetworkSpec) -> int:
    """The number of connections that may be pruned; those of the paper's space are not listed for it."""
    if spec.search.space is not None:
        return len(spaces.space(spec).members)
    if spec.search.max_backward == 0:
        return 0
    return sum(ports * (ports + 1) // 2 for ports in Counter(shapes.in_common(spec)).values())


def kept(spec: NetworkSpec) -> int:
    """How many connections the search ends with at most, beside the fixed ones."""
    most = [count(spec), of(spec).keep]
    return min(most if spec.search.space is None else [*most, spec.search.space.at_most])


def stages(spec: NetworkSpec) -> tuple[Stage, ...]:
    """The stages of the run: `evolve.stages` of them end in a pruning, the last one with the training.

    Prunings are spread evenly over the epochs up to `prune_until`; counts and operations fall by a constant factor.
    """
    settings, epochs = of(spec), spec.train.epochs
    number, last = settings.stages, _last_pruning(spec)
    first = count(spec)
    bound, whole = math.inf, 0
    if settings.extra_operations is not None:
        bound = settings.extra_operations * backbone_operations(spec)
        whole = sum(costs(spec).values())
    found = [Stage(math.ceil(last / number), first, math.inf, 0.0)]
    for stage in range(1, number + 1):
        end = math.ceil(last * (stage + 1) / number) if stage < number else epochs
        connections = between(first, kept(spec), stage / number)
        allowed = bound if stage == number or bound >= whole else between(whole, bound, stage / number)
        found.append(Stage(end, math.ceil(connections - 1e-9), allowed, stage / number, stage == number))
    return tuple(found)


def survivors(
    spec: NetworkSpec,
    scales: Mapping[Key, float],
    stage: Stage,
    fits: Callable[[Sequence[Key]], bool] = lambda found: True,
) -> tuple[Key, ...]:
    """Of the connections in `scales` those that the next `stage` keeps, sorted.

    From the loudest to the weakest, each is kept that fits the bounds of the stage, and with which the network still
    `fits`; of equal ones the earlier. Fixed ones always stay.
    """
    always = fixed(spec)
    cost = {} if stage.operations == math.inf else costs(spec)
    found: list[Key] = sorted(key for key in scales if key in always)
    slots = {key[:3] for key in found}
    spent = sum(cost.get(key, 0) for key in found)
    free = stage.connections
    for key in sorted(scales, key=lambda key: (-scales[key], key)):
        if not free:
            break
        dear = spent + cost.get(key, 0) > stage.operations
        if key in always or dear or (stage.last and key[:3] in slots) or not fits([*found, key]):
            continue
        found.append(key)
        slots.add(key[:3])
        spent += cost.get(key, 0)
        free -= 1
    return tuple(sorted(found))


def costs(spec: NetworkSpec) -> dict[Key, int]:
    """Multiply-accumulates of one sample and one step that each connection of the space adds."""
    return {key: found for key, _, found in _of_each(spec, projections.operations)}


def _of_each(spec: NetworkSpec, measure: Callable[[NetworkSpec, Connection], T]) -> Iterator[tuple[Key, Connection, T]]:
    """Every connection of the space with what it measures, which follows from its projection and both shapes."""
    known: dict[tuple[Through, Maps, Maps], T] = {}
    network = together(spec, every(spec))
    for each in network.connections:
        kind = (network.through(each), *projections.maps(network, each))
        if kind not in known:
            known[kind] = measure(network, each)
        yield key_of(each, spec), each, known[kind]


def backbone_operations(spec: NetworkSpec) -> int:
    """Multiply-accumulates of one sample and one step in the network without connections."""
    form = spec.input
    shape = form.shape
    return sum(shapes.operations(layer, arriving) for layer, arriving in shapes.walk(spec.backbone.body, shape))


def contradictions(spec: NetworkSpec) -> Iterator[Contradiction]:
    """What in the settings of the search cannot be met."""
    settings = of(spec)
    for named in (*spec.search.maximize, *spec.search.minimize):
        if named != "accuracy" or spec.search.minimize:
            yield Contradiction(
                "strategy",
                f"`strategy = {STRATEGY}` measures the accuracy of one training run, and cannot go by `{named}`",
                "`maximize = [accuracy]`, or another strategy; costs can be bounded with `subject_to`",
            )
            return
    for bound in spec.search.subject_to:
        if not bound.costs_nothing:
            yield Contradiction(
                "strategy",
                f"`strategy = {STRATEGY}` measures no candidates, and cannot keep `{bound}`",
                "bounds on `parameters`, `operations` and `state`, or another strategy",
            )
            return
    found = count(spec)
    if found > MAX_CONNECTIONS or _weights(spec) > MAX_WEIGHTS:
        yield Contradiction(
            "strategy",
            f"all {_counted(found, 'connection')} of the space at once would make the network too large",
            "another strategy, or `same_resolution = true`",
        )
        return
    if (unscaled := _unscaled(spec)) is not None:
        yield Contradiction(
            "strategy",
            f"`strategy = {STRATEGY}` goes by the scale of a norm at the end of each connection, but `{unscaled}` does "
            "not end in one",
            "end the block in `bn`, or another strategy",
        )
        return
    score = spec.search.evolve.score
    if score != "oneshot":
        yield Contradiction(
            "score",
            f"`strategy = {STRATEGY}` goes by the scales that training finds, not by `score = {score}`",
            "leave `score` out",
        )
    space = spec.search.space
    if not found and space is None:
        yield Contradiction(
            "penalty",
            f"`strategy = {STRATEGY}` puts a penalty on connections, but the space has none with `max_backward = 0`",
            "`max_backward` of 1 or more; it does not bound this strategy, `keep` does",
        )
    elif not found or (space is not None and not space.at_most):
        yield Contradiction(
            "strategy",
            f"`strategy = {STRATEGY}` has nothing to choose: the space has no connection beside the fixed ones",
            "name a family, such as `backward any -> any`, and an `at_most` of 1 or more",
        )
        return
    elif space is not None and settings.keep > space.at_most and settings.keep != type(settings)().keep:
        yield Contradiction(
            "keep",
            f"`keep = {settings.keep}`, but the space has `at_most = {space.at_most}`",
            f"write `at_most = {settings.keep}` in the space, or keep fewer",
        )
    elif settings.keep > found and (space is None or settings.keep != type(settings)().keep):
        yield Contradiction(
            "keep", f"`keep = {settings.keep}`, but the space has {_counted(found, 'connection')}", f"at most {found}"
        )
    last = _last_pruning(spec)
    if settings.stages > last:
        allowed = f"`prune_until = {settings.prune_until:g}` of {_counted(spec.train.epochs, 'epoch')}"
        yield Contradiction(
            "stages",
            f"{_counted(settings.stages, 'pruning')} need as many epochs, but {allowed} are {last}",
            "fewer stages, or more epochs in `train`",
        )
    if found and settings.extra_operations is not None:
        own = backbone_operations(spec)
        cost, always = costs(spec), fixed(spec)
        least = (sum(cost[key] for key in always) + min(v for key, v in cost.items() if key not in always)) / own
        if settings.extra_operations < least:
            yield Contradiction(
                "extra_operations",
                f"`extra_operations = {settings.extra_operations:g}` leaves no connection: the cheapest of the space "
                f"adds {least:.2g} times the {own:,} multiply-accumulates of the backbone",
                f"at least {math.ceil(least * 1e4) / 1e4:g}",
            )


def _weights(spec: NetworkSpec) -> int:
    """The weights of the projections of all connections of the space."""
    return sum(found for _, _, found in _of_each(spec, projections.parameters))


def _unscaled(spec: NetworkSpec) -> Through | None:
    """What connections of the space run through whose size no scale of a norm gives; None where there is none."""
    return next((spec.through(each) for _, each, scaled in _of_each(spec, _ends_in_norm) if not scaled), None)


def _ends_in_norm(spec: NetworkSpec, connection: Connection) -> bool:
    body = [n for n in projections.layers(spec, connection, "") if not isinstance(n, Resize | Dropout)]
    return bool(body) and isinstance(body[-1], BatchNorm)


def _last_pruning(spec: NetworkSpec) -> int:
    """The epoch after which the last pruning comes."""
    return math.floor(spec.train.epochs * of(spec).prune_until + 1e-9)


def between(first: float, last: float, share: float) -> float:
    """The value at `share` of the way from `first` to `last`, by constant factors; `last` may be 0."""
    return last + (first - last) * (1 - share) if last <= 0 else first * (last / first) ** share


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
