"""`subject_to { }`: what candidates of a search may cost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from bcgraph.dsl import syntax
from bcgraph.dsl.elaboration.evaluate import Failed, Scope, evaluate
from bcgraph.dsl.elaboration.settings import Settings
from bcgraph.dsl.wording import one_of
from bcgraph.errors import Span, nearest
from bcgraph.schema_search import COSTS, MEASURED, Bound

_BASELINE = "baseline"
_FORM = "write `parameters <= 1.1 * baseline`, for example"


def bounds(body: Iterable[syntax.Statement], settings: Settings) -> tuple[Bound, ...]:
    """The bounds that the statements of `subject_to` mean; what is wrong is reported and left out (E067)."""
    return tuple(_bounds(body, settings))


def _bounds(body: Iterable[syntax.Statement], settings: Settings) -> Iterator[Bound]:
    seen: dict[str, Span] = {}
    for statement in body:
        match statement:
            case syntax.Formula(value=syntax.Binary(operator=sign, left=syntax.Name(name=name) as left, right=right)):
                if name not in COSTS:
                    hint = nearest(name, COSTS) or f"known: {one_of(COSTS, 'and')}"
                    why = "is measured, and a bound has to hold before anything is" if name in MEASURED else "unknown"
                    message = f"`{name}` {why}" if name in MEASURED else f"there is no metric `{name}` to bound"
                    settings.reporter.add("E067", message, left.span, hint)
                elif sign != "<=":
                    settings.reporter.add("E067", f"`{sign}` is no bound of a cost", statement.span, _FORM)
                elif settings.first(name, left.span, seen):
                    try:
                        factor, constant = _affine(right, settings.scope)
                    except Failed:
                        continue
                    literal: Any = name
                    yield Bound(literal, factor, constant, span=statement.span)
            case syntax.Formula() | syntax.Bare():
                settings.reporter.add("E067", "this is no bound", statement.span, _FORM)
            case _:
                settings.stray(statement, "in `subject_to`", COSTS)


def _affine(value: syntax.Expression, scope: Scope) -> tuple[float, float]:
    """Factor and constant of an expression in `baseline`. Raises Failed where it is no such sum."""
    found = []
    for baseline in (0.0, 1.0, 2.0):
        one = evaluate(value, replace(scope, values={**scope.values, _BASELINE: baseline}))
        if isinstance(one, bool) or not isinstance(one, int | float):
            raise scope.fail("E067", "a bound is a number", value, _FORM)
        found.append(float(one))
    # Twelve digits: the difference of two sums has lost the last ones.
    constant, factor = found[0], float(f"{found[1] - found[0]:.12g}")
    if abs(found[2] - (constant + 2 * factor)) > 1e-9 * max(1.0, abs(found[2])) or factor < 0 or constant < 0:
        raise scope.fail("E067", "a bound is a multiple of `baseline`, a number, or their sum", value, _FORM)
    return factor, constant
