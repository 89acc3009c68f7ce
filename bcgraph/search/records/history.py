"""What a run has found so far, as data: `bcgraph report DIR --json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bcgraph.search.records import directory, log, study
from bcgraph.search.records.evaluations import FITNESS, Record, ranking

AUDIT = "audit.json"


def history(path: Path, *, storage: str | None = None) -> dict[str, Any]:
    """The whole history of the run in `path`, also while it is running.

    `evaluations` holds for each, in order: `stage` ("init" or "evolve"), `iteration`, `index`, `backward` (pairs), `n`,
    `e`, `accuracy` (null where not measured, or not finite: then `reasons` says why), and `origin`. `chosen` is the
    best of the evolution so far, null before it begins; `finished` tells whether it is final. `audit` is what is known
    about the scores themselves, null where they were not audited. What is shown comes from
    the study; the last evaluations of a killed run that have not reached it are taken from the log. `storage` stands
    in for the URL of the run, whose password is not kept. Raises RunError (E085, E091).
    """
    identity = directory.read_identity(path)
    records, notes = read(path, storage=storage)
    score = identity["spec"]["search"]["evolve"]["score"]
    evolved = [r for r in records if r.stage == "evolve"]
    best = ranking(evolved, FITNESS[score])[:1]
    return {
        "spec": identity["spec"]["name"],
        "version": identity["version"],
        "seed": identity["seed"],
        "options": identity["options"],
        "settings": identity["spec"]["search"],
        "notes": notes,
        "evaluations": [r.as_data() for r in records],
        "chosen": best[0].as_data() if best else None,
        "audit": audit(path),
        "finished": (path / "best.bcg").exists(),
    }


def read(path: Path, *, storage: str | None = None) -> tuple[list[Record], list[str]]:
    """The records of a run in order, from its study and the end of its log, and its notes."""
    identity = directory.read_identity(path)
    logged = log.read(path)
    found = study.read(path, identity["study"], storage or identity["options"].get("storage"))
    kept = found or []
    missing = [r for stage in ("init", "evolve") for r in logged.stage(stage)[sum(k.stage == stage for k in kept) :]]
    records = sorted(kept + missing, key=lambda r: (r.stage == "evolve", r.iteration, r.index))
    return records, [n.text for n in logged.notes]


def audit(path: Path) -> dict[str, Any] | None:
    """The audit of the scores that is kept in the directory of a search, as data, if there is one."""
    try:
        found = json.loads((path / AUDIT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and "findings" in found else None
