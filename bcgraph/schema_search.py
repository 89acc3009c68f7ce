"""The settings of a search, with the paper's values as defaults: the section `search` of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from bcgraph.schema_values import (
    Count,
    Frozen,
    Gain,
    NotNegative,
    OnlyWith,
    PositiveInt,
    Probability,
    name_of,
    only_with,
)

_GAINS = OnlyWith("strategy", "gains")

if TYPE_CHECKING:
    ScoreName: TypeAlias = str
    FitnessName: TypeAlias = str
    StrategyName: TypeAlias = str
else:
    ScoreName = name_of("score", "n", "e")
    FitnessName = name_of("score", "oneshot", "n", "e")
    StrategyName = name_of("strategy", "evolutionary", "random", "tpe", "nsga2", "gains")


class InitSpec(Frozen):
    """Step one: score-based selection of the first population (paper 4.2.2).

    `pool = all` takes the whole space.
    """

    pool: Count | Literal["all"] = 2000
    keep: PositiveInt = 20
    scores: tuple[ScoreName, ...] = ("n", "e")
    batch: PositiveInt = 64


class SupernetSpec(Frozen):
    """The weight-sharing network: training epochs, and batches of BN recalibration before an evaluation."""

    epochs: PositiveInt = 100
    recalibrate: Count = 0


class EvolveSpec(Frozen):
    """Step two: evolution (paper 4.2.3, sizes of 5.1), and below `crossover` the search in one training run.

    With `strategy = gains` nothing is bred: all connections of the space train at once, each starting from the scale
    `gain`. Each update takes the learning rate times `penalty` off the root mean square of a connection's scale. In
    `stages` prunings, the last of them after the share `prune_until` of the epochs, the weakest are left out, until
    `keep` remain whose multiply-accumulates are at most `extra_operations` times those of the backbone.
    """

    strategy: StrategyName = "evolutionary"
    score: FitnessName = "oneshot"
    iterations: Count = 20
    top: PositiveInt = 10
    population: PositiveInt = 20
    offspring: Count = 10
    mutation: Probability = 0.2
    crossover: Probability = 0.5
    gain: Annotated[Gain, _GAINS] = 0.1
    penalty: Annotated[NotNegative, _GAINS] = 0.1
    keep: Annotated[PositiveInt, _GAINS] = 2
    stages: Annotated[PositiveInt, _GAINS] = 4
    prune_until: Annotated[float, Field(gt=0.0, lt=1.0), _GAINS] = 0.5
    extra_operations: Annotated[NotNegative | None, _GAINS] = None

    @model_validator(mode="after")
    def _only_where_they_count(self) -> EvolveSpec:
        for name, info in type(self).model_fields.items():
            mark = only_with(info)
            if mark is not None and getattr(self, mark.setting) != mark.value and getattr(self, name) != info.default:
                raise ValueError(f"`{name}` is a setting of `{mark.setting} = {mark.value}`")
        return self

    @model_serializer(mode="wrap")
    def _where_they_count(self, dump: SerializerFunctionWrapHandler):  # type: ignore[no-untyped-def]
        left_out = {
            name
            for name, info in type(self).model_fields.items()
            if (mark := only_with(info)) is not None and getattr(self, mark.setting) != mark.value
        }
        return {name: value for name, value in dump(self).items() if name not in left_out}


class SearchSpec(Frozen):
    """The two-step search (paper 4.2)."""

    max_backward: Count = 2
    same_resolution: bool = False
    init: InitSpec = InitSpec()
    supernet: SupernetSpec = SupernetSpec()
    evolve: EvolveSpec = EvolveSpec()
