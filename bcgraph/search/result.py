"""The result of a search, and the text of the network that it found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import bcgraph
from bcgraph import dsl, pruning
from bcgraph.schema import NetworkSpec
from bcgraph.search.records.evaluations import Note, Record, fitness, name_of
from bcgraph.search.space.pairs import size_text, space


@dataclass(frozen=True)
class SearchResult:
    """The result of a finished search. `best` is the specification with the chosen connections.

    `device` is where candidates were evaluated, with `auto` resolved.
    """

    path: Path
    seed: int
    spec: NetworkSpec
    best: NetworkSpec
    chosen: Record
    records: tuple[Record, ...]
    notes: tuple[Note, ...]
    device: str


def describe(result: SearchResult) -> str:
    """The text of `best.bcg`: the chosen network, with a comment on how the search found it."""
    settings = result.spec.search
    measure = fitness(settings.evolve.score)
    value = result.chosen.evaluation.value(measure)
    if settings.evolve.strategy == pruning.STRATEGY:
        how = (
            f"# Found by bcgraph {bcgraph.__version__}: seed {result.seed}, {len(pruning.pairs(result.spec))} "
            f"connections trained at once.\n"
            f"# Pruned in {settings.evolve.stages} stages to {len(result.chosen.architecture)}, {name_of(measure)} "
            f"{value:.6g}.\n"
        )
        return how + dsl.format_spec(result.best)
    choices = space(result.spec, settings.max_backward, same_resolution=settings.same_resolution)
    scored = sum(r.stage == "init" for r in result.records)
    tried = len(result.records) - scored
    size = size_text(choices.size)
    how = (
        f"# Found by bcgraph {bcgraph.__version__}: seed {result.seed}, {size} architectures in the space.\n"
        f"# Step one scored {scored} of them; step two ({settings.evolve.strategy}) evaluated {tried} by "
        f"{settings.evolve.score}.\n"
        f"# Chosen: evaluation {result.chosen.index} of iteration {result.chosen.iteration}, "
        f"{name_of(measure)} {value:.6g}.\n"
    )
    return how + dsl.format_spec(result.best)
