"""`subject_to { }`: what candidates of a search may cost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from bcgraph.dsl import syntax
from bcgraph.dsl.elaboration.evaluate import Failed, Scope, evaluate
from bcgraph.dsl.elaboration.settings import Settings
from bcgraph.dsl.elaboration.values import registered_as
from bcgraph.dsl.wording import one_of
from bcgraph.errors import Span, nearest
from bcgraph.schema.search import COSTS, MEASURED, SMALL, Bound, sign_of

_BASELINE = "baseline"
_FORM = "write `parameters <= 1.1 * baseline` or `accuracy >= 0.9`, for example"


def bounds(body: Iterable[syntax.Statement], settings: Settings) -> tuple[Bound, ...]:
    """The bounds that the statements of `subject_to` mean; what is wrong is reported and left out (E067)."""
    return tuple(_bounds(body, settings))


def _bounds(body: Iterable[syntax.Statement], settings: Settings) -> Iterator[Bound]:
    seen: dict[str, Span] = {}
    for statement in body:
        match statement:
            case syntax.Formula(value=syntax.Binary(operator=sign, left=syntax.Name(name=name) as left, right=right)):
                try:
                    _known(name, left, settings.scope)
                    if sign != sign_of(name):
                        small = name in SMALL
                        message = f"`{sign}` is no bound of {'a cost' if small else 'what should be large'}"
                        hint = f"write `{name} {sign_of(name)} ...`"
                        raise settings.scope.fail("E067", message, statement.span, hint)
                    if settings.first(name, left.span, seen):
                        factor, constant = _affine(right, settings.scope, name)
                        yield Bound(name, factor, constant, span=statement.span)
                except Failed:
                    continue
            case syntax.Formula() | syntax.Bare():
                settings.reporter.add("E067", "this is no bound", statement.span, _FORM)
            case _:
                settings.stray(statement, "in `subject_to`", (*COSTS, *MEASURED))


def _known(name: str, place: syntax.Name, scope: Scope) -> None:
    """Raises Failed (E067) unless `name` is a metric, a registered score among them."""
    own = (*COSTS, *MEASURED)
    if name not in own and registered_as("score", name, scope.uses, scope, place) is None:
        hint = nearest(name, own) or f"known: {one_of(own, 'and')}"
        raise scope.fail("E067", f"there is no metric `{name}` to bound", place, hint)


def _affine(value: syntax.Expression, scope: Scope, metric: str) -> tuple[float, float]:
    """Factor and constant of an expression in `baseline`. Raises Failed where it is no such sum."""
    found = []
    for baseline in (0.0, 1.0, 2.0):
        one = evaluate(value, replace(scope, values={**scope.values, _BASELINE: baseline}))
        if isinstance(one, bool) or not isinstance(one, int | float):
            raise scope.fail("E067", "a bound is a number", value, _FORM)
        found.append(float(one))
    # Twelve digits: the difference of two sums has lost the last ones.
    constant, factor = found[0], float(f"{found[1] - found[0]:.12g}")
    if metric not in COSTS and len({*found}) > 1:
        message = f"`baseline` is known before the search for {one_of(COSTS, 'and')}, but not for `{metric}`"
        raise scope.fail("E067", message, value, "write a number")
    negative = metric in SMALL and (factor < 0 or constant < 0)
    if abs(found[2] - (constant + 2 * factor)) > 1e-9 * max(1.0, abs(found[2])) or negative:
        raise scope.fail("E067", "a bound is a multiple of `baseline`, a number, or their sum", value, _FORM)
    if metric == "accuracy" and not 0 <= constant <= 1:
        raise scope.fail("E067", f"an accuracy of {constant:g} is not possible", value, "from 0 to 1")
    return factor, constant
