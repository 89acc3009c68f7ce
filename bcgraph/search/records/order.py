"""The order that the evaluations of a log must have, whatever search wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bcgraph import pruning
from bcgraph.search.records import objectives
from bcgraph.search.records.evaluations import Record
from bcgraph.search.space.search_space import Architecture
from bcgraph.spaces import Member


@dataclass
class Order:
    """Follows a log from its first evaluation. `search` are the settings of the search, as plain data, where known.

    First come the scored ones, then those of the evolution, iteration by iteration, each numbered from 0, and no
    architecture twice. Where the strategy is one training run, an iteration is a stage of it, which may prune nothing.
    Whether they are those of the search is found out when it resumes, which proposes them again.
    """

    search: Mapping[str, Any] | None = None
    _stage: str = "init"
    _next: tuple[int, int] = (0, 0)
    _seen: set[Architecture] = field(default_factory=set)

    def flaw(self, record: Record) -> str | None:
        """Why this evaluation cannot be the next one; None when it can, and then it is."""
        name = f"evaluation {record.index} of iteration {record.iteration}"
        if record.stage == "evolve" and self._stage == "init":
            self._stage, self._next = "evolve", (0, 0)
            self._seen.clear()
        iteration, index = self._next
        place = (record.iteration, record.index)
        begins = record.stage == "evolve" and index > 0 and place == (iteration + 1, 0)
        if record.stage != self._stage or not (place == (iteration, index) or begins):
            return f"{name} ({record.stage}) does not follow the one before it"
        if record.architecture in self._seen and not _one_run(self.search):
            return f"{name} repeats an architecture"
        if any(key[0] < key[1] or key[1] < 0 for key in record.architecture if not isinstance(key, Member)):
            return f"{name} has a connection that does not run backward"
        if self.search is not None and (limit := _beyond(record, self.search)) is not None:
            return f"{name} is one more than the search makes: {limit}"
        self._next = (record.iteration, record.index + 1)
        self._seen.add(record.architecture)
        return None


def _beyond(record: Record, search: Mapping[str, Any]) -> str | None:
    """The setting by which a search never makes this evaluation."""
    init, evolve = search["init"], search["evolve"]
    if _one_run(search):
        stages = evolve.get("stages", record.iteration)
        within = record.stage == "evolve" and record.index == 0 and record.iteration <= stages
        return None if within else f"stages = {stages}"
    space = search.get("space")
    if space is None and len(record.architecture) > search["max_backward"]:
        return f"max_backward = {search['max_backward']}"
    if space is not None:
        fixed = sum(rule["kind"] == "fixed" for rule in space["rules"])
        if len(record.architecture) > space["at_most"] + fixed:
            return f"at_most = {space['at_most']}"
    if record.stage == "init":
        return None if init["pool"] == "all" or record.index < init["pool"] else f"pool = {init['pool']}"
    if record.iteration > evolve["iterations"]:
        return f"iterations = {evolve['iterations']}"
    first = record.iteration == 0 or objectives.trains_candidates(evolve["strategy"])
    name, size = ("keep", init["keep"]) if first else ("population", evolve["population"])
    return None if record.index < size else f"{name} = {size}"


def _one_run(search: Mapping[str, Any] | None) -> bool:
    return search is not None and pruning.one_run(search["evolve"]["strategy"])
