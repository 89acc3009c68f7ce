"""What the last stage of a search has measured, in `finish.json`: validation accuracies of trained networks."""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from bcgraph.errors import BcgraphWarning, RunError
from bcgraph.schema import NetworkSpec
from bcgraph.search.records import sealed
from bcgraph.search.records.evaluations import Evaluation, Record
from bcgraph.search.space.search_space import Architecture
from bcgraph.spaces import Member

NAME = "finish.json"
NONE = "none"


@dataclass(frozen=True)
class Entrant:
    """A network to train. `name` is `found-1` for the best found, `none`, `front`, or `random-1`."""

    name: str
    spec: NetworkSpec
    architecture: Architecture


@dataclass(frozen=True)
class Job:
    """One training run: the network of `entrant` with seed number `number`, whose key is `seed`.

    `stage` is the folder of the last stage, or of another one that trains.
    """

    entrant: Entrant
    number: int
    seed: int
    stage: str = "finish"

    @property
    def folder(self) -> str:
        """The run's folder, in the directory of the search."""
        return f"{self.stage}/{self.entrant.name}/seed-{self.number}"


@dataclass(frozen=True)
class Outcome:
    """A finished training run: the seed's number and the validation accuracy of its last epoch."""

    seed: int
    accuracy: float


@dataclass(frozen=True)
class Trained:
    """A network of the last stage with its training runs so far, by seed.

    `backward` has the pairs of its backward connections, `members` all of its connections in a described space.
    """

    name: str
    backward: tuple[tuple[int, int], ...]
    runs: tuple[Outcome, ...]
    members: tuple[Member, ...] | None = None

    @property
    def architecture(self) -> Architecture:
        """Its connections as the search knows them."""
        return self.backward if self.members is None else self.members

    @property
    def mean(self) -> float | None:
        """The mean accuracy over the seeds; None before there is one."""
        return statistics.fmean(run.accuracy for run in self.runs) if self.runs else None

    @property
    def deviation(self) -> float | None:
        """The sample standard deviation over the seeds; None for fewer than two."""
        return statistics.stdev(run.accuracy for run in self.runs) if len(self.runs) > 1 else None

    def as_data(self) -> dict[str, Any]:
        """Plain data, with what follows from the runs."""
        return {
            "name": self.name,
            "backward": [list(pair) for pair in self.backward],
            **({} if self.members is None else {"members": [m._asdict() for m in self.members]}),
            "mean": self.mean,
            "deviation": self.deviation,
            "runs": [asdict(run) for run in self.runs],
        }


@dataclass(frozen=True)
class Finish:
    """All networks of the last stage; `seeds` is how many training runs each of them gets."""

    seeds: int
    networks: tuple[Trained, ...]

    @property
    def complete(self) -> bool:
        """Whether every training run is done."""
        return all(len(each.runs) == self.seeds for each in self.networks)

    @property
    def best(self) -> Trained | None:
        """The network with the highest mean, of equal ones that with fewest connections; None until all are trained.

        Rivals do not count: they are there to be compared with.
        """
        own = [each for each in self.networks if each.name == NONE or each.name.startswith("found-")]
        if not self.complete or not own:
            return None
        return max(own, key=lambda each: (each.mean or 0.0, -len(each.architecture)))

    def none(self) -> Trained:
        """The network without connections."""
        return next(each for each in self.networks if each.name == NONE)

    def as_data(self) -> dict[str, Any]:
        """Plain data for reports."""
        best = self.best
        return {
            "seeds": self.seeds,
            "networks": [each.as_data() for each in self.networks],
            "best": None if best is None else best.name,
        }

    def text(self, trained: Trained) -> str:
        """Mean and deviation of a network in words."""
        if trained.mean is None:
            return "not trained yet"
        spread = "" if trained.deviation is None else f" +- {trained.deviation:.4f}"
        return f"{trained.mean:.4f}{spread} over {len(trained.runs)} seed{'s' * (len(trained.runs) != 1)}"


@dataclass
class Results:
    """The results of a running last stage; each training run is kept as soon as it is done."""

    path: Path
    seeds: int
    networks: tuple[Entrant, ...]
    done: dict[tuple[str, int], float]

    @staticmethod
    def open(directory: Path, seeds: int, networks: Sequence[Entrant]) -> Results:
        """Those in the directory of a search, which resumes. Raises RunError (E085) when they are of other networks."""
        made = Results(directory / NAME, seeds, tuple(networks), {})
        try:
            there = read(directory)
        except (OSError, ValueError) as error:
            hint = "remove it: what is trained is read from its folders"
            raise RunError("E085", f"`{made.path}` cannot be read: {error}", hint=hint) from error
        if there is None:
            return made
        if [(e.name, e.architecture) for e in there.networks] != [(e.name, e.architecture) for e in networks]:
            raise RunError("E085", f"`{made.path}` is of other networks", hint="start in a new directory")
        made.done = {(each.name, run.seed): run.accuracy for each in there.networks for run in each.runs}
        return made

    def add(self, job: Job, accuracy: float) -> None:
        """Keep one more training run. Raises RunError (E084)."""
        self.done[job.entrant.name, job.number] = accuracy
        found = [each.as_data() for each in self.finish.networks]
        shown = [{k: v for k, v in each.items() if k not in ("mean", "deviation")} for each in found]
        sealed.write(self.path, {"seeds": self.seeds, "networks": shown})

    @property
    def finish(self) -> Finish:
        """What is measured so far."""
        return Finish(self.seeds, tuple(self._trained(each) for each in self.networks))

    def _trained(self, entrant: Entrant) -> Trained:
        found = [(n, self.done[entrant.name, n]) for n in range(self.seeds) if (entrant.name, n) in self.done]
        members = [key for key in entrant.architecture if isinstance(key, Member)]
        pairs = [(key[0], key[1]) for key in entrant.architecture if key[0] >= key[1]]
        described = tuple(members) if members else None
        return Trained(entrant.name, tuple(pairs), tuple(Outcome(n, a) for n, a in found), described)


def read(directory: Path) -> Finish | None:
    """The results in the directory of a search; None where there are none. Raises OSError, ValueError for damage."""
    try:
        return sealed.read(directory / NAME, _SHAPE)
    except FileNotFoundError:
        return None


def shown(directory: Path) -> Finish | None:
    """As `read`, for a report: damaged results are left out, with a BcgraphWarning."""
    try:
        return read(directory)
    except (OSError, ValueError) as error:
        path = directory / NAME
        warnings.warn(f"`{path}` is left out, as it cannot be read: {error}", BcgraphWarning, stacklevel=2)
        return None


def record_of(finish: Finish, records: Sequence[Record]) -> Record:
    """The evaluation of the best network in step two; one without values for a network that was not evaluated."""
    best = finish.best
    assert best is not None, "the last stage is not done"
    for record in reversed(records):
        if record.stage == "evolve" and record.architecture == best.architecture:
            return record
    return Record("evolve", 0, 0, best.architecture, Evaluation(), best.name)


_SHAPE = TypeAdapter(Finish)
