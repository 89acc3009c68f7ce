"""What the script of a report reads: one JSON value with the ports, the measures and every evaluation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from bcgraph.schema import NetworkSpec
from bcgraph.search.records.evaluations import keys_in, name_of
from bcgraph.spaces import Member
from bcgraph.viz.arcs import COLORS


def as_json(evaluations: Sequence[Mapping[str, Any]], spec: NetworkSpec, measures: Sequence[str]) -> str:
    """The value as text that is safe within a `<script>`.

    `ports` are names; `measures` have a key and a label; an evaluation has `connections` (source, target, and what else
    it is made of), `values` by key (a number, or the reason why there is none), `stage`, `iteration` and `origin`.
    """
    data = {
        "ports": list(spec.ports),
        "colors": list(COLORS),
        "measures": [{"key": m, "label": name_of(m)} for m in measures],
        "evaluations": [_entry(e, measures) for e in evaluations],
    }
    # A name could hold the end of a script.
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _entry(evaluation: Mapping[str, Any], measures: Sequence[str]) -> dict[str, Any]:
    keys = keys_in(evaluation)
    values = {m: evaluation.get(m) for m in measures} | dict(evaluation["reasons"])
    return {
        "connections": [[k[0], k[1], *([k.notes] if isinstance(k, Member) and k.notes else [])] for k in keys],
        "values": {m: v for m, v in values.items() if v is not None},
        "stage": evaluation["stage"],
        "iteration": evaluation["iteration"],
        "origin": evaluation["origin"],
    }
