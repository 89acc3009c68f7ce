"""From expressions to the values that settings and arguments take, each checked where it stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from bcgraph import plugins
from bcgraph.dsl import syntax
from bcgraph.dsl.elaboration import kinds
from bcgraph.dsl.elaboration.evaluate import Failed, Scope, evaluate
from bcgraph.dsl.elaboration.vocabulary.peers import renamed
from bcgraph.dsl.wording import one_of, show, type_name
from bcgraph.errors import Span, nearest


@dataclass(frozen=True, slots=True)
class Parameter:
    """What a call may be given: its name, its kind (None: any single value), and whether it must be."""

    name: str
    kind: kinds.Kind | None
    required: bool


def parameters_of(model: type) -> tuple[Parameter, ...]:
    """What a call that makes a `model` may be given."""
    return tuple(Parameter(*argument) for argument in kinds.arguments(model))


def convert(expression: syntax.Expression, kind: kinds.Kind, scope: Scope, label: str) -> Any:
    """The value of `expression` as one of `kind`; `label` names it in messages.

    Raises Failed once the reason is reported: E040 (type), E041 (range), E043 (word), E030 or E044 (no value).
    """
    return _RULES[type(kind)](expression, kind, scope, label)


def bind(call: syntax.Call, parameters: Sequence[Parameter], scope: Scope) -> tuple[dict[str, syntax.Expression], bool]:
    """Which argument goes to which parameter, and whether all is well with that (E042)."""
    known = {p.name: p for p in parameters}
    bound: dict[str, syntax.Expression] = {}
    good = True

    def wrong(message: str, span: Span, hint: str | None = None) -> None:
        nonlocal good
        good = False
        scope.fail("E042", message, span, hint)

    named = False
    for position, argument in enumerate(call.arguments):
        name = argument.name
        if name is None:
            if named:
                wrong("an argument by position stands after one by name", argument.span)
                continue
            if position >= len(parameters):
                count = f"at most {len(parameters)}" if parameters else "no"
                noun = "argument" if len(parameters) == 1 else "arguments"
                wrong(f"`{call.name}` takes {count} {noun}", argument.span, _signature(call.name, parameters))
                continue
            name = parameters[position].name
        else:
            named = True
        if name not in known:
            hint = renamed(name, known, argument.value) or nearest(name, known) or _signature(call.name, parameters)
            wrong(f"`{call.name}` has no argument `{name}`", _name_span(argument), hint)
        elif name in bound:
            wrong(f"`{name}` is given twice", argument.span)
        else:
            bound[name] = argument.value
    missing = [p.name for p in parameters if p.required and p.name not in bound]
    if missing and good:
        wrong(f"`{call.name}` needs {one_of(tuple(missing), 'and')}", call.span,
              _signature(call.name, parameters))  # fmt: skip
    return bound, good


def convert_all(
    call: syntax.Call, parameters: Sequence[Parameter], scope: Scope
) -> tuple[dict[str, Any], Mapping[str, Span]]:
    """The values of a call's arguments, with their spans. Raises Failed once everything wrong is reported."""
    bound, good = bind(call, parameters, scope)
    values: dict[str, Any] = {}
    for parameter in parameters:
        if parameter.name in bound and parameter.kind is not None:
            try:
                values[parameter.name] = convert(bound[parameter.name], parameter.kind, scope, f"`{parameter.name}`")
            except Failed:
                good = False
    if not good:
        raise Failed
    return values, {name: expression.span for name, expression in bound.items()}


def build(
    make: Callable[..., Any], values: Mapping[str, Any], spans: Mapping[str, Span], span: Span, scope: Scope
) -> Any:
    """`make(**values)`, with what pydantic still finds reported at the value's span. Raises Failed then."""
    try:
        return make(**values)
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_context=False, include_input=False):
            field = str(detail["loc"][0]) if detail["loc"] else ""
            if detail["type"] == "tuple_type":
                # The other side of a size that may be two: the number is what was given.
                continue
            text = detail["msg"].removeprefix("Value error, ")
            scope.fail("E041", f"`{field}`: {text[:1].lower()}{text[1:]}" if field else text, spans.get(field, span))
        raise Failed from None


def registered_as(
    kind: plugins.Kind, name: str, uses: tuple[str, ...], scope: Scope, place: Span | syntax.Expression
) -> plugins.Entry | None:
    """What is registered under a name, None where nothing is. Raises Failed where a `use` line is missing (E025)."""
    try:
        return plugins.in_text(kind, name, uses)
    except plugins.PluginError as error:
        found = error.diagnostics[0]
        raise scope.fail(found.code, found.message, place, found.hint) from None


def _name_span(argument: syntax.Argument) -> Span:
    assert argument.name is not None
    span = argument.span
    return Span(span.file, span.line, span.column, span.line, span.column + len(argument.name))


def _signature(name: str, parameters: Sequence[Parameter]) -> str:
    shown = ", ".join(p.name if p.required else f"{p.name}=..." for p in parameters)
    return f"its arguments: {name}({shown})"


def _wrong_type(value: object, kind: kinds.Kind, scope: Scope, label: str, expression: syntax.Expression) -> Failed:
    got = "a string" if isinstance(expression, syntax.String) else type_name(value)
    return scope.fail("E040", f"{label} needs {kinds.describe(kind)}, not {got}", expression)


def _evaluated(expression: syntax.Expression, kind: kinds.Kind, scope: Scope, label: str) -> Any:
    """The value, where a word outside a block is a value of the wrong type rather than an unknown name."""
    if isinstance(expression, syntax.Name) and not scope.in_block:
        message = f"{label} needs {kinds.describe(kind)}, not the word `{expression.name}`"
        raise scope.fail("E040", message, expression)
    if isinstance(expression, syntax.Call):
        message = f"{label} needs {kinds.describe(kind)}, not a call of `{expression.name}`"
        raise scope.fail("E040", message, expression)
    return evaluate(expression, scope)


def _integer(expression: syntax.Expression, kind: kinds.Integer, scope: Scope, label: str) -> int:
    value = _evaluated(expression, kind, scope, label)
    if type(value) is not int:
        raise _wrong_type(value, kind, scope, label, expression)
    if (kind.low is not None and value < kind.low) or (kind.high is not None and value > kind.high):
        raise _out_of_range(value, kind, scope, label, expression)
    return value


def _real(expression: syntax.Expression, kind: kinds.Real, scope: Scope, label: str) -> float:
    value = _evaluated(expression, kind, scope, label)
    if type(value) not in (int, float):
        raise _wrong_type(value, kind, scope, label, expression)
    low, high = kind.low, kind.high
    if (low is not None and (value <= low if kind.low_open else value < low)) or (
        high is not None and (value >= high if kind.high_open else value > high)
    ):
        raise _out_of_range(value, kind, scope, label, expression)
    return float(value)


def _out_of_range(
    value: object, kind: kinds.Integer | kinds.Real, scope: Scope, label: str, expression: syntax.Expression
) -> Failed:
    hint = f"allowed: {kinds.allowed_range(kind)}"
    return scope.fail("E041", f"{label} cannot be {show(value)}", expression, hint)


def _flag(expression: syntax.Expression, kind: kinds.Flag, scope: Scope, label: str) -> bool:
    value = _evaluated(expression, kind, scope, label)
    if not isinstance(value, bool):
        raise _wrong_type(value, kind, scope, label, expression)
    return value


def _text(expression: syntax.Expression, kind: kinds.Text, scope: Scope, label: str) -> str:
    value = _evaluated(expression, kind, scope, label)
    if not isinstance(value, str):
        raise _wrong_type(value, kind, scope, label, expression)
    return value


def _word(expression: syntax.Expression, kind: kinds.Word, scope: Scope, label: str) -> str:
    if isinstance(expression, syntax.Name) and expression.name not in scope.values:
        value: Any = expression.name
    elif isinstance(expression, syntax.Call):
        return str(_evaluated(expression, kind, scope, label))
    else:
        value = evaluate(expression, scope, frozenset(kind.options))
    if not isinstance(value, str):
        raise _wrong_type(value, kind, scope, label, expression)
    return _allowed(value, kind.options, scope, label, expression, kind.registered)


def _allowed(
    value: str,
    options: tuple[str, ...],
    scope: Scope,
    label: str,
    place: Span | syntax.Expression,
    registered: plugins.Kind | None = None,
) -> str:
    if value not in options and (
        registered is None or registered_as(registered, value, scope.uses, scope, place) is None
    ):
        close = nearest(value, options)
        allowed = f"allowed: {', '.join(f'`{o}`' for o in options)}"
        raise scope.fail(
            "E043", f"{label} cannot be `{show(value)}`", place, f"{close} ({allowed})" if close else allowed
        )
    return value


def _words(expression: syntax.Expression, kind: kinds.Words, scope: Scope, label: str) -> tuple[str, ...]:
    if not isinstance(expression, syntax.List):
        if isinstance(expression, syntax.Name):
            hint = f"write `[{expression.name}]`"
            message = f"{label} needs {kinds.describe(kind)}, not the word `{expression.name}`"
            raise scope.fail("E040", message, expression, hint)
        value = _evaluated(expression, kind, scope, label)
        raise _wrong_type(value, kind, scope, label, expression)
    found: list[str] = []
    for item in expression.items:
        word = _word(item, kinds.Word(kind.options, kind.registered), scope, f"an entry of {label}")
        if word in found:
            raise scope.fail("E033", f"`{word}` stands twice in {label}", item)
        found.append(word)
    return tuple(found)


def _either(expression: syntax.Expression, kind: kinds.Either, scope: Scope, label: str) -> int | str:
    if isinstance(expression, syntax.Name | syntax.String) and not (
        isinstance(expression, syntax.Name) and expression.name in scope.values
    ):
        word = expression.name if isinstance(expression, syntax.Name) else expression.value
        if word not in kind.word.options:
            allowed = f"allowed: {kinds.allowed_range(kind.number)}, or {kinds.describe(kind.word)}"
            raise scope.fail("E043", f"{label} cannot be `{show(word)}`", expression, allowed)
        return word
    return _integer(expression, kind.number, scope, label)


def _sizes(expression: syntax.Expression, kind: kinds.Sizes, scope: Scope, label: str) -> int | tuple[int, int]:
    if not isinstance(expression, syntax.List):
        return _integer(expression, kind.number, scope, label)
    if len(expression.items) != 2:
        message = f"{label} takes two numbers in a list, for rows and columns, not {len(expression.items)}"
        raise scope.fail("E040", message, expression, "write `[1, 7]`, for example")
    rows, columns = (_integer(item, kind.number, scope, label) for item in expression.items)
    return rows if rows == columns else (rows, columns)


def _called(expression: syntax.Expression, kind: kinds.Called, scope: Scope, label: str) -> Any:
    if isinstance(expression, syntax.Name):
        name = scope.values.get(expression.name, expression.name)
        if isinstance(name, str):
            expression = syntax.Call(name, (), name_span=expression.span, span=expression.span)
    if not isinstance(expression, syntax.Call):
        value = evaluate(expression, scope)
        raise _wrong_type(value, kind, scope, label, expression)
    options = dict(kind.options)
    name = _allowed(expression.name, tuple(options), scope, label, expression.name_span)
    model = options[name]
    values, spans = convert_all(expression, parameters_of(model), scope)
    return build(model, values, spans, expression.span, scope)


_RULES: dict[type, Callable[[Any, Any, Scope, str], Any]] = {
    kinds.Integer: _integer,
    kinds.Real: _real,
    kinds.Flag: _flag,
    kinds.Text: _text,
    kinds.Word: _word,
    kinds.Words: _words,
    kinds.Either: _either,
    kinds.Sizes: _sizes,
    kinds.Called: _called,
}
