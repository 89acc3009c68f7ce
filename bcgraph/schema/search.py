"""The settings of a search, with the paper's values as defaults: the section `search` of a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import (
    ConfigDict,
    Field,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    SkipValidation,
    create_model,
    model_serializer,
    model_validator,
)
from pydantic.dataclasses import dataclass

from bcgraph import plugins
from bcgraph.errors import Span
from bcgraph.schema.values import (
    Count,
    Finite,
    Frozen,
    Own,
    PositiveInt,
    Probability,
    Statements,
    name_of,
    without_defaults,
)

if TYPE_CHECKING:
    ScoreName: TypeAlias = str
    FitnessName: TypeAlias = str
    StrategyName: TypeAlias = str
    FirstChoice: TypeAlias = str
    LastChoice: TypeAlias = str
else:
    ScoreName = name_of("score", *plugins.names("score"))
    FitnessName = name_of("score", "oneshot", *plugins.names("score"))
    StrategyName = name_of("strategy", *plugins.names("strategy"))
    FirstChoice = name_of("predictor", "turns", *plugins.names("predictor"))
    LastChoice = name_of("predictor", "best", *plugins.names("predictor"))


class InitSpec(Frozen):
    """Step one: score-based selection of the first population (paper 4.2.2).

    `pool = all` takes the whole space. `choose` says how the `keep` are chosen: in turns the next best by each
    score, or by a predictor, which makes one number of all scores.
    """

    pool: Count | Literal["all"] = 2000
    keep: PositiveInt = 20
    scores: tuple[ScoreName, ...] = ("n", "e")
    batch: PositiveInt = 64
    choose: FirstChoice = "turns"

    @model_serializer(mode="wrap")
    def _as_before(self, dump: SerializerFunctionWrapHandler):  # type: ignore[no-untyped-def]
        return without_defaults(dump(self), choose="turns")


class SupernetSpec(Frozen):
    """The weight-sharing network: training epochs, and batches of BN recalibration before an evaluation.

    `seeds` supernets are trained, each with a seed of its own; an evaluation is the mean over all of them.
    """

    epochs: PositiveInt = 100
    recalibrate: Count = 0
    seeds: PositiveInt = 1

    @model_serializer(mode="wrap")
    def _as_before(self, dump: SerializerFunctionWrapHandler):  # type: ignore[no-untyped-def]
        return without_defaults(dump(self), seeds=1)


def strategy_settings(strategy: object) -> type[Frozen] | None:
    """The settings that count with this strategy alone; None where it has none, or nobody has registered it."""
    entry = plugins.find("strategy", strategy) if isinstance(strategy, str) else None
    found: type[Frozen] | None = None if entry is None else entry.value.settings
    return found


def _with_own(schema: dict[str, Any]) -> None:
    """The JSON schema of `EvolveSpec` with the settings of every strategy of bcgraph itself, which stand beside it."""
    schema["properties"].pop("own", None)
    for name in plugins.names("strategy"):
        own = strategy_settings(name)
        schema["properties"] |= {} if own is None else own.model_json_schema(mode="serialization")["properties"]


class EvolveSpec(Frozen):
    """Step two: evolution (paper 4.2.3, sizes of 5.1).

    `choose` says which of all that were evaluated is the best: by the objectives, or by a predictor, which makes one
    number of these and of the scores of step one. `own` are the settings that count with its strategy alone, None where
    it has none. As text and as data they stand beside the others, and so they may be given here.
    """

    model_config = ConfigDict(json_schema_extra=_with_own)

    strategy: StrategyName = "evolutionary"
    score: FitnessName = "oneshot"
    iterations: Count = 20
    top: PositiveInt = 10
    population: PositiveInt = 20
    offspring: Count = 10
    mutation: Probability = 0.2
    crossover: Probability = 0.5
    choose: LastChoice = "best"
    own: Annotated[SerializeAsAny[Frozen] | None, Own()] = None

    @model_validator(mode="before")
    @classmethod
    def _gathered(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or given.keys() <= cls.model_fields.keys() - {"strategy", "own"}:
            return given
        common = {name: value for name, value in given.items() if name in cls.model_fields and name != "own"}
        more = {name: value for name, value in given.items() if name not in cls.model_fields}
        strategy = given.get("strategy", cls.model_fields["strategy"].default)
        settings = strategy_settings(strategy)
        if settings is None:
            if more:
                raise ValueError(f"`{min(more)}` is no setting of `strategy = {strategy}`")
            return common
        own = given.get("own")
        return {**common, "own": own if isinstance(own, settings) and not more else settings(**more)}

    @model_serializer(mode="wrap")
    def _beside(self, dump: SerializerFunctionWrapHandler):  # type: ignore[no-untyped-def]
        data = dump(self)
        own = data.pop("own") or {}
        return {**without_defaults(data, choose="best"), **own}


class FinishSpec(Frozen):
    """The last stage of a search: trains the best few networks as `train` says, and the one without connections.

    The `top` best of step two train with `seeds` seeds each. `beside` names rivals to train with them: `front`, with
    connections from the last ports into the first (paper figure 1), and `random`, three random networks (figure 2B).
    """

    top: PositiveInt = 3
    seeds: PositiveInt = 3
    beside: tuple[Literal["front", "random"], ...] = ()


if TYPE_CHECKING:
    from bcgraph.schema.connections import Through
else:
    # Projections are made of layers, which the whole specification knows; it checks them where it is built.
    Through = Annotated[Any, SkipValidation]


# --- The space --------------------------------------------------------------------------------------------


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, defer_build=True))
class Rule:
    """One line of a space: `backward any -> any { delay = [1, 2] }`, `forbid any -> lif1`.

    `backward` and `forward` name a family of connections that may be found: every pair of ports that fits and runs
    that way, with every delay, every projection, every join and every value that is read. What is not given is that of
    a connection that gives nothing: delay 1, the network's `feedback`, `add`, `s`. `fixed` is one connection that is
    always there. `forbid` takes connections out of the families, with any value where it gives none. A port is its
    number, `any`, or, as the target of a family that runs forward, `later`.
    """

    kind: Literal["backward", "forward", "fixed", "forbid"]
    source: Annotated[int, Field(ge=0)] | Literal["any"]
    target: Annotated[int, Field(ge=0)] | Literal["any", "later"]
    delay: tuple[Annotated[int, Field(ge=0, le=1_000)], ...] = ()
    through: tuple[Through, ...] = ()
    join: tuple[Literal["add", "mul"], ...] = ()
    read: tuple[str, ...] = ()
    span: Annotated[Span | None, Field(exclude=True)] = field(default=None, repr=False, compare=False)


class SpaceSpec(Frozen):
    """What may be found: families of connections, those that are always there, and how many are found at most.

    `at_most` does not count the fixed ones.
    """

    rules: tuple[Rule, ...]
    at_most: Count = 2

    def of(self, *kinds: str) -> tuple[Rule, ...]:
        """The lines of these kinds, in order."""
        return tuple(rule for rule in self.rules if rule.kind in kinds)


# --- Objectives and bounds --------------------------------------------------------------------------------

COSTS = ("parameters", "operations", "state")
"""Metrics that follow from the specification of a network alone, so that a bound costs no evaluation."""

SMALL = (*COSTS, "energy", "spikes", "latency")
"""Metrics that are bounded from above. All others, accuracy and scores, are bounded from below."""

MEASURED = ("accuracy", *plugins.names("score"), "energy", "spikes", "latency")
"""Metrics that candidates are run for. Every registered score is one, too."""

if TYPE_CHECKING:
    MetricName: TypeAlias = str
else:
    MetricName = name_of("score", *MEASURED, *COSTS)


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, defer_build=True))
class Bound:
    """A line of `subject_to`: `metric <= factor * baseline + constant`, or `metric >= constant`.

    Accuracy and scores are bounded from below, all else from above. The baseline is the metric of the network that the
    file describes, with the connections that stand in it; only `COSTS` have one.
    """

    metric: MetricName
    factor: Finite = 0.0
    constant: Finite = 0.0
    span: Annotated[Span | None, Field(exclude=True)] = field(default=None, repr=False, compare=False)

    @property
    def sign(self) -> str:
        """How the metric is compared."""
        return sign_of(self.metric)

    @property
    def costs_nothing(self) -> bool:
        """Whether it is compared before anything is evaluated."""
        return self.metric in COSTS

    def __str__(self) -> str:
        """As a file has it."""
        parts = [f"{_plain(self.factor)} * baseline"] if self.factor else []
        parts += [_plain(self.constant)] if self.constant or not parts else []
        return f"{self.metric} {self.sign} {' + '.join(parts)}"


def sign_of(metric: str) -> str:
    """How a bound compares a metric: `<=` what should be small, `>=` accuracy and scores."""
    return "<=" if metric in SMALL else ">="


def _plain(value: float) -> str:
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


RECIPES = ("paper", "recommended")
"""The bundles of settings that `recipe` names. The first is what holds where nothing is said."""


TargetName: TypeAlias = Literal["any", "nir"]
"""What a search is for: any target, or one that does not carry every connection, by the name of its package."""

if TYPE_CHECKING:
    _For = Frozen
else:
    # `for` is a word of Python's, so no class can spell it.
    _For = create_model("_For", __base__=Frozen, **{"for": (TargetName, "any")})


class SearchSpec(_For):
    """The two-step search (paper 4.2).

    The evolution goes by `evolve.score`, or where there are any by the metrics in `maximize` and `minimize`, in this
    order. A candidate that breaks a bound of `subject_to` on parameters, operations or state is never evaluated, and
    one that breaks another bound never wins.

    Without a `space` it is the paper's: all backward pairs, at most `max_backward` of them. `same_resolution` leaves
    out connections between ports of different height or width, in any space. `for = nir` leaves out those that a NIR
    file cannot carry; the paper's space is then written as `backward any -> any`. Without `finish` a search ends with
    step two, and the network found has not been trained on its own. `recipe` names the bundle of settings from which
    the others were taken where a file does not say them; here all of them are given as they are.
    """

    recipe: Literal["paper", "recommended"] = "paper"

    max_backward: Count = 2
    same_resolution: bool = False
    space: Annotated[SpaceSpec | None, Statements()] = None
    maximize: tuple[MetricName, ...] = ()
    minimize: tuple[MetricName, ...] = ()
    subject_to: Annotated[tuple[Bound, ...], Statements()] = ()
    init: InitSpec = InitSpec()
    supernet: SupernetSpec = SupernetSpec()
    evolve: EvolveSpec = EvolveSpec()
    finish: FinishSpec | None = None

    @property
    def target(self) -> TargetName:
        """What `for` says."""
        found: TargetName = getattr(self, "for")
        return found

    @model_validator(mode="before")
    @classmethod
    def _described(cls, given: Any) -> Any:
        """A search for a target has a space of its own, the paper's where it gives none."""
        if not isinstance(given, Mapping) or given.get("for", "any") == "any" or given.get("space") is not None:
            return given
        space = SpaceSpec(rules=(Rule("backward", "any", "any"),), at_most=given.get("max_backward", 2))
        return {**given, "space": space, "max_backward": 2}

    @model_validator(mode="after")
    def _different(self) -> SearchSpec:
        named = (*self.maximize, *self.minimize)
        for name in named:
            if named.count(name) > 1:
                raise ValueError(f"`{name}` is an objective twice")
        if named and self.evolve.score != "oneshot":
            raise ValueError(f"`score = {self.evolve.score}` is what the evolution goes by without `maximize`")
        return self

    @model_validator(mode="after")
    def _whole(self) -> SearchSpec:
        if self.recipe == "recommended" and self.finish is None:
            raise ValueError(
                "`recipe = recommended` has a last stage; parse it from a text, or give all of its settings"
            )
        return self

    @model_validator(mode="after")
    def _one_bound(self) -> SearchSpec:
        if self.space is not None and self.max_backward != 2:
            raise ValueError("`max_backward` bounds the paper's space; a `space` has `at_most`")
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, dump: SerializerFunctionWrapHandler):  # type: ignore[no-untyped-def]
        return {n: v for n, v in dump(self).items() if n not in _LATER or getattr(self, n) != _LATER[n]}


# Settings that came later, with what they are where they are not given: they change no digest of what lacks them.
_LATER: dict[str, Any] = {
    "for": "any",
    "space": None,
    "maximize": (),
    "minimize": (),
    "subject_to": (),
    "finish": None,
    "recipe": "paper",
}
