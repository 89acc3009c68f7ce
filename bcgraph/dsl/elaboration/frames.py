"""One block while it is expanded, and the parts of its statements that are not layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bcgraph.dsl import syntax
from bcgraph.dsl.elaboration.definitions.body import allowed
from bcgraph.dsl.elaboration.evaluate import Failed, Scope, Value, evaluate
from bcgraph.dsl.elaboration.kinds import Called, Kind, Word
from bcgraph.dsl.elaboration.layers import LAYERS
from bcgraph.dsl.elaboration.library import NEURON, Definition, Library
from bcgraph.dsl.walk import names_in, parts_of, strings_in
from bcgraph.dsl.wording import show, statement_name, type_name
from bcgraph.errors import Span, nearest
from bcgraph.modulenames import refusal, taken
from bcgraph.names import DEFAULT_NEURON
from bcgraph.schema.values import Scalar

MAX_LEVELS = 96


def _word_options(kind: Kind | None) -> tuple[str, ...]:
    if isinstance(kind, Word):
        return kind.options
    return tuple(name for name, _ in kind.options) if isinstance(kind, Called) else ()


# The words that layers of the language understand.
_OF_LAYERS = frozenset(w for layer in LAYERS.values() for p in layer.parameters for w in _word_options(p.kind))


def words(definition: Definition, library: Library) -> frozenset[str]:
    """The words that may be handed to a definition: it, or what it calls, compares a parameter with them.

    Also those that layers understand, and the names of surrogates. Each definition is looked over once a library.
    """
    if definition not in library.words:
        found = {*_OF_LAYERS, *library.names("surrogate", definition.namespace)}
        seen, pending = {definition}, [definition]
        while pending:
            each = pending.pop()
            for node in parts_of(each.text.body):
                if isinstance(node, syntax.Binary) and node.operator in ("==", "!="):
                    found |= _compared(node, each)
                elif isinstance(node, syntax.Call):
                    called = [c for c in _called(node, each, library) if c not in seen]
                    seen.update(called)
                    pending.extend(called)
        library.words[definition] = frozenset(found)
    return library.words[definition]


def words_of(parameter: str, definition: Definition) -> tuple[str, ...]:
    """The words that a definition itself compares one of its parameters with, in the order of the text."""
    found: list[tuple[int, int, str]] = []
    for node in parts_of(definition.text.body):
        if isinstance(node, syntax.Binary) and node.operator in ("==", "!="):
            sides = (node.left, node.right)
            if any(isinstance(side, syntax.Name) and side.name == parameter for side in sides):
                found += [(node.span.line, node.span.column, word) for word in _compared(node, definition)]
    return tuple(dict.fromkeys(word for _, _, word in sorted(found)))


def _compared(comparison: syntax.Binary, definition: Definition) -> set[str]:
    """The words of a comparison with a parameter."""
    sides = (comparison.left, comparison.right)
    parameters = {p.name for p in definition.text.parameters}
    names = {side.name for side in sides if isinstance(side, syntax.Name)}
    if not names & parameters:
        return set()
    return (names - parameters) | {side.value for side in sides if isinstance(side, syntax.String)}


def no_word(
    value: syntax.Expression, scope: Scope, parameter: str, definition: Definition, known: frozenset[str]
) -> Failed | None:
    """Report a name that nothing knows as the value of a parameter that takes words (E043); None for all else."""
    if not isinstance(value, syntax.Name) or value.name in scope.values or value.name in known:
        return None
    options = words_of(parameter, definition)
    if not options:
        return None
    hint = _hint(allowed(value, parameter, list(options)), value.name, options)
    return scope.fail("E043", f"`{parameter}` of `{definition.text.name}` cannot be `{value.name}`", value, hint)


def _called(call: syntax.Call, definition: Definition, library: Library) -> list[Definition]:
    """What a call in a definition may mean; `neuron()` is one that only the network knows."""
    found = library.layer(call.name, definition.namespace)
    if found is not None or call.name != NEURON or not call.arguments:
        return [] if found is None else [found]
    own = [d for d in library.own.definitions.values() if d.kind == NEURON]
    standard = library.definition(NEURON, DEFAULT_NEURON, library.own)
    return own if standard is None else [*own, standard]


@dataclass(frozen=True, slots=True)
class Frame:
    """One block being expanded: what its names mean, and which names of layers are taken.

    `used` are names given so far, `reserved` those that the text will give, `numbers` the last number for each kind of
    layer without a name.
    """

    definition: Definition
    scope: Scope
    prefix: str
    calls: tuple[Definition, ...]
    used: dict[str, Span]
    reserved: frozenset[str]
    numbers: dict[str, int]
    level: int

    def deeper(self, span: Span) -> Frame:
        """The frame of a body inside this one. Reports E004 and raises Stop when it is too deep."""
        if self.level >= MAX_LEVELS:
            place, notes = self.scope.locate(span)
            message = f"blocks are nested more than {MAX_LEVELS} levels deep"
            self.scope.reporter.stop("E004", message, place, notes=notes)
        return replace(self, level=self.level + 1)

    def unique(self, kind: str, span: Span) -> str:
        """A name for a layer without one: its kind, with a number where that is taken."""
        number = self.numbers.get(kind, 0) + 1
        while (name := f"{kind}{number}" if number > 1 else kind) in self.used or name in self.reserved:
            number += 1
        self.numbers[kind] = number
        self.used[name] = span
        return name


def target_name(target: syntax.Target, scope: Scope) -> str:
    """The name that a layer or block gets. Raises Failed where a computed one is no whole number from 0 (E040)."""
    match target:
        case syntax.Name():
            return target.name
        case syntax.Index():
            return str(target.number)
        case syntax.Computed():
            value = evaluate(target.value, scope)
            if type(value) is not int or value < 0:
                message = f"a computed name is a whole number from 0, not `{show(value)}`"
                raise scope.fail("E040", message, target.value)
            return str(value)


def check_name(name: str, call: syntax.Call, scope: Scope) -> None:
    """Report a layer with parameters whose place in a module is taken (E036)."""
    part = taken(name)
    if part is not None:
        message, hint = refusal(name, part)
        scope.fail("E036", message, call.span, hint)


def repetitions(expression: syntax.Expression, scope: Scope) -> range:
    """The values of `range(end)` or `range(start, end)`. Raises Failed for anything else (E040, E042)."""
    if not isinstance(expression, syntax.Call) or expression.name != "range":
        raise scope.fail("E040", "`repeat` needs a range", expression, "write `range(3)` or `range(1, 3)`")
    bounds: list[int] = []
    for argument in expression.arguments:
        value = evaluate(argument.value, scope)
        if type(value) is not int:
            raise scope.fail("E040", f"`range` needs whole numbers, not {type_name(value)}", argument.value)
        bounds.append(value)
    if len(bounds) not in (1, 2) or any(a.name is not None for a in expression.arguments):
        raise scope.fail("E042", "`range` takes an end, or a start and an end", expression)
    return range(*bounds)


def requirement(call: syntax.Call, frame: Frame, library: Library) -> None:
    """`require(condition)` in a block: report a parameter that does not fulfil it where its value was written.

    Raises Failed then (E041, E043), and where it is no condition (E042, E044).
    """
    scope = frame.scope
    if len(call.arguments) != 1 or call.arguments[0].name is not None:
        raise scope.fail("E042", "`require` takes one condition", call.span, "`require(stride >= 1)`, for example")
    condition = call.arguments[0].value
    found = evaluate(condition, scope, words(frame.definition, library))
    if not isinstance(found, bool):
        raise scope.fail("E044", "`require` needs a condition", condition)
    if found:
        return
    name = next((n.name for n in names_in(condition) if n.name in scope.values), "")
    value = scope.values.get(name)
    options = [n.name for n in names_in(condition) if n.name not in scope.values]
    options += [text.value for text in strings_in(condition)]
    hint = _hint(allowed(condition, name, options), value, options)
    code = "E043" if isinstance(value, str) else "E041"
    message = f"`{name}` of `{frame.definition.block.name}` cannot be `{show(value)}`"
    if name in scope.origins:
        scope.reporter.add(code, message, scope.origins[name], hint, scope.notes)
        raise Failed
    raise scope.fail(code, message, condition, hint)


def _hint(said: str, value: object, options: Sequence[str]) -> str:
    """What is allowed, after the option that a word may have been meant for."""
    close = nearest(value, options) if isinstance(value, str) else None
    return f"{close} (allowed: {said})" if close else f"allowed: {said}"


def misplaced(statement: syntax.Statement, scope: Scope) -> None:
    """Report a statement that does not belong in a block (E035)."""
    hint = "branches stand inside `sum` or `concat`" if isinstance(statement, syntax.Branch) else None
    span = getattr(statement, "name_span", statement.span)
    scope.fail("E035", f"{statement_name(statement)} does not belong in a block", span, hint)


def single(
    expression: syntax.Expression, scope: Scope, name: str, definition: Definition, known: frozenset[str]
) -> Value:
    """The value of parameter `name` of a block that knows the words `known`.

    Raises Failed where it is a list (E040) or a word that the parameter does not take (E043).
    """
    if (failed := no_word(expression, scope, name, definition, known)) is not None:
        raise failed
    value = evaluate(expression, scope, known)
    if isinstance(value, list):
        raise scope.fail("E040", f"`{name}` needs a single value, not a list", expression)
    return value


def scalar(value: Value) -> Scalar:
    """A value that `single` returned, as the schema has it."""
    assert not isinstance(value, list)
    return value
