"""The result of a search, and the text of the network that it found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bcgraph
from bcgraph import dsl, files, notebook, pruning
from bcgraph.schema import NetworkSpec
from bcgraph.search.records.evaluations import MEASURES, Note, Record, label, name_of
from bcgraph.search.records.objectives import Objective, Objectives, front, required, trains_candidates
from bcgraph.search.records.objectives import of_search as of_settings
from bcgraph.search.records.trained import Finish
from bcgraph.search.space.search_space import of_search, size_text, wired
from bcgraph.spaces import Member

if TYPE_CHECKING:
    from pandas import DataFrame

FRONT = "front"
"""The folder of the networks that no other one beats in everything, where a search has several objectives."""


@dataclass(frozen=True)
class SearchResult:
    """The result of a finished search. `best` is the specification with the chosen connections.

    `device` is where candidates were evaluated, with `auto` resolved. `finish` is what a last stage has measured; then
    `best` is the best network of that stage, and `chosen` its evaluation in step two.
    """

    path: Path
    seed: int
    spec: NetworkSpec
    best: NetworkSpec
    chosen: Record
    records: tuple[Record, ...]
    notes: tuple[Note, ...]
    device: str
    finish: Finish | None = None

    def to_frame(self) -> DataFrame:
        """A pandas frame with a row for each evaluation, in order. Raises RunError (E092) without pandas."""
        return notebook.frame(self._rows(self.records))

    def _repr_html_(self) -> str:
        """What a notebook shows: the picture of the best network, and the evaluations of step two, best first."""
        first = of_settings(self.spec.search)[0]
        evolved = [r for r in self.records if r.stage == "evolve"]
        best = sorted(evolved, key=lambda r: first.value(r.evaluation), reverse=True)
        return f"{bcgraph.draw(self.best)}{notebook.table(self._rows(best))}"

    def _rows(self, records: Sequence[Record]) -> list[dict[str, Any]]:
        measures = dict.fromkeys(m for r in records for m in (*MEASURES, *dict(r.evaluation.scores)))
        return [
            {
                "stage": r.stage,
                "iteration": r.iteration,
                "connections": ", ".join(str(Member(*key)) for key in r.architecture) or "none",
                **{m: r.evaluation.measured(m) for m in measures},
                "origin": r.origin,
                "seconds": r.seconds,
            }
            for r in records
        ]


def describe(result: SearchResult) -> str:
    """The text of `best.bcg`: the chosen network, with a comment on how the search found it."""
    settings = result.spec.search
    by = of_settings(settings)
    found = values_text(result.chosen, by)
    if result.finish is not None:
        return _how_trained(result, result.finish) + dsl.format_spec(result.best)
    if pruning.one_run(settings.evolve.strategy):
        how = (
            f"# Found by bcgraph {bcgraph.__version__}: seed {result.seed}, {len(result.records[0].architecture)} "
            f"connections trained at once.\n"
            f"# Pruned in {len(result.records) - 1} stages to {len(result.chosen.architecture)}, "
            f"{found}.\n"
        )
        return how + dsl.format_spec(result.best)
    return how_found(result, result.chosen) + dsl.format_spec(result.best)


def _how_trained(result: SearchResult, finish: Finish) -> str:
    """A comment on how the last stage chose a network."""
    tried = sum(each.name.startswith("found-") for each in finish.networks)
    best, none = finish.best, finish.none()
    assert best is not None
    began = f"# Found by bcgraph {bcgraph.__version__}: seed {result.seed}, "
    if best.name == none.name:
        which = f"no connections, as the best {tried} networks found train to no higher validation accuracy"
        found = f"# Validation accuracy {finish.text(none)}."
    else:
        which = f"the best of {tried} trained networks and the one without connections"
        found = f"# Validation accuracy {finish.text(best)}; without connections {finish.text(none)}."
    lines = [f"{began}{which}.", found]
    return "\n".join(lines) + "\n"


def values_text(record: Record, by: Objectives, *, short: bool = False) -> str:
    """What a search went by, and its values for a record: `validation accuracy 0.95, energy 1.2e-06`."""
    named = label if short else name_of
    return ", ".join(f"{named(each.measure)} {_value(record, each):.6g}" for each in by)


def _value(record: Record, objective: Objective) -> float:
    found = objective.value(record.evaluation)
    return found if objective.maximize else -found


def how_found(result: SearchResult, record: Record) -> str:
    """A comment on how a search by populations found the network of a record."""
    settings = result.spec.search
    by = of_settings(settings)
    choices = of_search(result.spec)
    named = (*settings.maximize, *settings.minimize)
    scored = sum(r.stage == "init" for r in result.records)
    tried = len(result.records) - scored
    size = size_text(choices.size)
    goal = "training runs" if trains_candidates(settings.evolve.strategy) else settings.evolve.score
    return (
        f"# Found by bcgraph {bcgraph.__version__}: seed {result.seed}, {size} architectures in the space.\n"
        f"# Step one scored {scored} of them; step two ({settings.evolve.strategy}) evaluated {tried} by "
        f"{goal if len(by) == 1 and not named else ', '.join(named)}.\n"
        f"# Chosen: evaluation {record.index} of iteration {record.iteration}, {values_text(record, by)}.\n"
    )


def write_front(result: SearchResult) -> None:
    """Write every network that no other one beats in everything to `front/`, by the first objective.

    `front/front.json` has their values. Raises RunError (E084).
    """
    by = of_settings(result.spec.search)
    if len(by) < 2:
        return
    records = front([r for r in result.records if r.stage == "evolve"], by, required(result.spec.search))
    folder = result.path / FRONT
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise files.cannot_write(folder, error) from error
    members = []
    for number, record in enumerate(records):
        name = f"{number:03}.bcg"
        found = wired(result.spec, record.architecture)
        files.write_text(folder / name, how_found(result, record) + dsl.format_spec(found))
        members.append({"file": name, **record.as_data()})
    described = {"objectives": [{"measure": b.measure, "maximize": b.maximize} for b in by], "front": members}
    files.write_text(folder / "front.json", json.dumps(described, indent=1) + "\n")
