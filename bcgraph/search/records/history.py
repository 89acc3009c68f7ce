"""The history of a run as data, read from its log alone: `bcgraph report DIR --json`."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from bcgraph import foreign
from bcgraph.errors import BcgraphWarning
from bcgraph.search.records import beside, directory, log, sealed, trained
from bcgraph.search.records.evaluations import Measure, Record
from bcgraph.search.records.objectives import Requirements, chosen, front, objectives, requirements, weights

AUDIT = "audit.json"


def history(path: Path, *, storage: str | None = None) -> dict[str, Any]:
    """The whole history of the run in `path`, also while it is running.

    `evaluations` holds for each, in order: `stage` ("init" or "evolve"), `iteration`, `index`, `backward` (pairs), `n`,
    `e`, `accuracy` (null where not measured, or not finite: then `reasons` says why), and `origin`; in a space that the
    file describes also `members`, with all that they are made of. With `strategy = gains` an evaluation is a stage
    of the training run, `iteration` its number, and `scales` how loud each connection has become. `chosen` is the best
    of the evolution so far (with `gains` the last stage), null before it begins; `finished` says whether it is final.
    `breaks` names the bounds on what is measured that an evaluation of step two breaks. With several objectives `front`
    has the evaluations that no other one beats in everything. `beside` has the network
    without connections, and the file's own where the file has connections. `weights` is the origin of the weights of
    the network chosen: `training`, `supernet` (inherited weights) or `initialization`. `finish` is the last stage,
    where there is one: every network with its training runs; when it is done, `best` is the name of the network chosen,
    and `chosen` its evaluation. `audit` is the audit of the scores, null where there is none. Everything comes from the
    directory of the run, so a storage need not be reachable:
    `storage` has no effect, and is accepted from scripts that name one. Raises RunError (E085).
    """
    identity = directory.read_identity(path)
    logged = log.read(path, identity["study"], identity["spec"]["search"])
    settings = identity["spec"]["search"]
    by, within = objectives(settings), requirements(settings)
    evolved = logged.stage("evolve")
    found = chosen(logged.records, settings)
    finish = trained.shown(path)
    if finish is not None and finish.best is not None:
        found = trained.record_of(finish, evolved)
    return {
        "spec": identity["spec"]["name"],
        "version": identity["version"],
        "seed": identity["seed"],
        "options": identity["options"],
        "settings": identity["spec"]["search"],
        "notes": [note.text for note in logged.notes],
        "evaluations": [_entry(record, within) for record in logged.records],
        "chosen": None if found is None else _entry(found, within),
        "audit": audit(path),
        **({"front": [record.as_data() for record in front(evolved, by, within)]} if len(by) > 1 else {}),
        **({"finish": finish.as_data()} if finish is not None else {}),
        **({"beside": others} if (others := beside.read(path)) else {}),
        # Without the results of the last stage, what it chose is not known.
        "finished": (path / "best.bcg").exists() and (finish is not None or settings.get("finish") is None),
        "weights": weights(settings),
    }


def _entry(record: Record, within: Requirements) -> dict[str, Any]:
    """An evaluation as data, with the bounds that it breaks."""
    broken = [str(each) for each in within if record.stage == "evolve" and each.excess(record.evaluation)]
    return {**record.as_data(), **({"breaks": broken} if broken else {})}


def audit(path: Path) -> dict[str, Any] | None:
    """The audit of the scores in the directory of a search, as data; None where there is none.

    A damaged one is none, with a BcgraphWarning: it can be made again.
    """
    try:
        found = sealed.read(path / AUDIT, _ANY)
        foreign.checked(found, _AUDIT)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        warnings.warn(f"`{path / AUDIT}` is left out, as it cannot be read: {error}", BcgraphWarning, stacklevel=2)
        return None
    return found


@dataclass(frozen=True)
class _Finding:
    score: Measure
    kind: str
    what: str
    value: float | None


@dataclass(frozen=True)
class _Audit:
    candidates: int
    findings: tuple[_Finding, ...]


_ANY: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])
_AUDIT = TypeAdapter(_Audit)
