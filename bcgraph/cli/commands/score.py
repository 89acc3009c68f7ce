"""`bcgraph score`: the training-free scores of a network, and an audit of how far to trust them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bcgraph.cli.inputs import InitsOption, JsonOption, ScoreDtypeOption, SeedOption, SetOption, SpecArgument, read_spec
from bcgraph.cli.output import count, emit, emit_json, table
from bcgraph.cli.progress import search_bars

if TYPE_CHECKING:
    from bcgraph.schema import NetworkSpec
    from bcgraph.search.scores.audit import Audit


def score_command(
    spec: SpecArgument,
    seed: SeedOption = 0,
    inits: InitsOption = 1,
    score_dtype: ScoreDtypeOption = "float32",
    audit: Annotated[
        bool,
        typer.Option("--audit", help="Measure whether scores can be trusted: score random architectures repeatedly."),
    ] = False,
    candidates: Annotated[
        int, typer.Option("--candidates", min=3, metavar="N", help="Architectures that the audit scores.")
    ] = 40,
    accelerator: Annotated[
        str, typer.Option("--accelerator", "--device", metavar="NAME", help="cpu, cuda or auto.")
    ] = "cpu",
    settings: SetOption = [],  # noqa: B006  (never changed; typer wants a list)
    as_json: JsonOption = False,
) -> None:
    """Print the scores that a search with the same settings and seed gives this network."""
    if audit and (inits, score_dtype) != (1, "float32"):
        raise typer.BadParameter("an audit chooses initializations and types itself", param_hint="--audit")
    network = read_spec(spec, settings)
    from bcgraph.search.supernet.devices import evaluator

    device = evaluator(accelerator)
    if audit:
        found = _audited(network, seed, candidates, device)
        if as_json:
            emit_json({"name": network.name, **found.as_data()})
        else:
            emit(audit_text(network.name, found))
        return
    _score(network, seed, inits, score_dtype, device, as_json)


def _score(network: NetworkSpec, seed: int, inits: int, score_dtype: str, device: str, as_json: bool) -> None:
    from bcgraph.search.evaluators import Standard
    from bcgraph.search.records.evaluations import label

    standard = Standard(network, seed, Path(), inits=inits, score_dtype=score_dtype, device=device)
    (evaluation,) = standard.init()([network])
    reasons = dict(evaluation.reasons)
    if as_json:
        values = {m: evaluation.measured(m) for m in network.search.init.scores}
        emit_json({"name": network.name, **values, "reasons": reasons})
        return
    for measure in network.search.init.scores:
        value = evaluation.value(measure)
        emit(f"{label(measure)}  {value:.6g}" + (f"  ({reasons.get(measure)})" if math.isinf(value) else ""))


def _audited(network: NetworkSpec, seed: int, candidates: int, device: str) -> Audit:
    from bcgraph.search.evaluators import Standard
    from bcgraph.search.scores.audit import audit

    train, _ = Standard(network, seed, Path()).splits
    with search_bars() as on_event:
        return audit(network, train, seed=seed, candidates=candidates, progress=on_event, device=device)


def audit_text(name: str, found: Audit) -> str:
    """The findings as a table."""
    from bcgraph.search.records.evaluations import label

    rows = [(label(f.measure), f.kind, f.what, f"{f.value:.2f}") for f in found.findings]
    return (
        f"{name}: {count(found.candidates, 'random architecture')} scored anew with one thing changed\n\n"
        + table(("score", "", "against", "Spearman"), rows, right=(3,))
        + "\n\nreproducibility should be near 1, shuffled labels and descriptors near 0, or the score says little.\n"
        "The spread is no correlation: at 1 or above, candidates differ no more than random numbers do."
    )
