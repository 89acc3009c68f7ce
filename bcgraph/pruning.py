"""Rules of a search in one training run (`strategy = gains`): when it prunes, what stays, what cannot be met.

All connections of the space train at once. The run is divided into stages, and between two stages the weakest
connections are left out. Everything here follows from the specification and from learned scales, without torch.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, TypeAlias

from pydantic import Field

from bcgraph import plugins, shapes
from bcgraph.plugins.values import Contradiction
from bcgraph.schema import NetworkSpec, Projection
from bcgraph.schema_values import Frozen, Gain, NotNegative, PositiveInt

Pair: TypeAlias = tuple[int, int]

STRATEGY = "gains"

MAX_CONNECTIONS = 6_000
"""Connections that may train at once: their layers are then as many as those of the largest backbone."""

MAX_WEIGHTS = 2_000_000_000
"""Trained values of all projections together, as many as a network may have."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: the epoch after which it ends, and how many connections and extra operations it may have.

    `operations` are multiply-accumulates of one sample and step, infinite where there is no bound.
    """

    end: int
    connections: int
    operations: float


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
    """`spec` without connections, and with the gain of the search for all that come."""
    fields = dict(spec.__dict__) | {"feedback": Projection(gain=of(spec).gain), "backward": (), "forward": ()}
    return NetworkSpec(**fields)


def pairs(spec: NetworkSpec) -> tuple[Pair, ...]:
    """All connections of the space, (source, target), by source and target; none with `max_backward = 0`."""
    if spec.search.max_backward == 0:
        return ()
    sizes = shapes.in_common(spec)
    ports = range(len(sizes))
    return tuple((j, i) for j in ports for i in ports[: j + 1] if sizes[j] == sizes[i])


def count(spec: NetworkSpec) -> int:
    """The number of `pairs`, without listing them."""
    if spec.search.max_backward == 0:
        return 0
    return sum(ports * (ports + 1) // 2 for ports in Counter(shapes.in_common(spec)).values())


def stages(spec: NetworkSpec) -> tuple[Stage, ...]:
    """The stages of the run: `evolve.stages` of them end in a pruning, the last one with the training.

    Prunings are spread evenly over the epochs up to `prune_until`; counts and operations fall by a constant factor.
    """
    settings, epochs = of(spec), spec.train.epochs
    number, last = settings.stages, _last_pruning(spec)
    every = pairs(spec)
    whole = sum(costs(spec).values())
    bound = math.inf if settings.extra_operations is None else settings.extra_operations * backbone_operations(spec)
    found = [Stage(math.ceil(last / number), len(every), math.inf)]
    for stage in range(1, number + 1):
        end = math.ceil(last * (stage + 1) / number) if stage < number else epochs
        count = _between(len(every), min(settings.keep, len(every)), stage / number)
        allowed = bound if stage == number or bound >= whole else _between(whole, bound, stage / number)
        found.append(Stage(end, math.ceil(count - 1e-9), allowed))
    return tuple(found)


def survivors(spec: NetworkSpec, scales: Mapping[Pair, float], stage: Stage) -> tuple[Pair, ...]:
    """Of the connections in `scales` those that the next `stage` keeps, by source and target.

    From the loudest to the weakest, each is kept that fits the bounds of the stage; of equal ones the earlier.
    """
    cost = costs(spec)
    kept: list[Pair] = []
    spent = 0
    for pair in sorted(scales, key=lambda pair: (-scales[pair], pair)):
        if len(kept) < stage.connections and spent + cost[pair] <= stage.operations:
            kept.append(pair)
            spent += cost[pair]
    return tuple(sorted(kept))


def costs(spec: NetworkSpec) -> dict[Pair, int]:
    """Multiply-accumulates of one sample and one step that each connection of the space adds."""
    ports = shapes.ports(spec.backbone, spec.input)
    return {(j, i): shapes.projection_operations(ports[j], ports[i]) for j, i in pairs(spec)}


def backbone_operations(spec: NetworkSpec) -> int:
    """Multiply-accumulates of one sample and one step in the network without connections."""
    form = spec.input
    shape = form.shape
    return sum(shapes.operations(layer, arriving) for layer, arriving in shapes.walk(spec.backbone.body, shape))


def contradictions(spec: NetworkSpec) -> Iterator[Contradiction]:
    """What in the settings of the search cannot be met."""
    settings = of(spec)
    if spec.search.space is not None:
        yield Contradiction(
            "strategy",
            f"`strategy = {STRATEGY}` trains all connections of the paper's space, not those of a `space`",
            "another strategy, or leave `space` out",
        )
        return
    for name in ("maximize", "minimize", "subject_to"):
        if getattr(spec.search, name):
            yield Contradiction(
                "strategy",
                f"`strategy = {STRATEGY}` measures no candidates, so that `{name}` means nothing to it",
                f"another strategy, or leave `{name}` out",
            )
    found = count(spec)
    if found > MAX_CONNECTIONS or _weights(spec) > MAX_WEIGHTS:
        yield Contradiction(
            "strategy",
            f"all {_counted(found, 'connection')} of the space at once would make the network too large",
            "another strategy, or `same_resolution = true`",
        )
        return
    score = spec.search.evolve.score
    if score != "oneshot":
        yield Contradiction(
            "score",
            f"`strategy = {STRATEGY}` goes by the scales that training finds, not by `score = {score}`",
            "leave `score` out",
        )
    if not found:
        yield Contradiction(
            "penalty",
            f"`strategy = {STRATEGY}` puts a penalty on connections, but the space has none with `max_backward = 0`",
            "`max_backward` of 1 or more; it does not bound this strategy, `keep` does",
        )
    elif settings.keep > found:
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
        least = min(costs(spec).values()) / own
        if settings.extra_operations < least:
            yield Contradiction(
                "extra_operations",
                f"`extra_operations = {settings.extra_operations:g}` leaves no connection: the cheapest of the space "
                f"adds {least:.2g} times the {own:,} multiply-accumulates of the backbone",
                f"at least {math.ceil(least * 1e4) / 1e4:g}",
            )


def _weights(spec: NetworkSpec) -> int:
    """The weights of the projections of all connections of the space."""
    channels = [shape[0] for shape in shapes.ports(spec.backbone, spec.input)]
    return sum(channels[j] * channels[i] for j, i in pairs(spec))


def _last_pruning(spec: NetworkSpec) -> int:
    """The epoch after which the last pruning comes."""
    return math.floor(spec.train.epochs * of(spec).prune_until + 1e-9)


def _between(first: float, last: float, share: float) -> float:
    """The value at `share` of the way from `first` to `last`, by constant factors; `last` may be 0."""
    return last + (first - last) * (1 - share) if last <= 0 else first * (last / first) ** share


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
