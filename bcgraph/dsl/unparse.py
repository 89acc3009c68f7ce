"""Texts of syntax: of expressions, and of blocks, neurons and surrogates with all that they reach.

Layout is left to `fmt`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from bcgraph.dsl import syntax
from bcgraph.dsl.fmt import layout
from bcgraph.dsl.source import Source
from bcgraph.dsl.tokens import escape
from bcgraph.dsl.walk import expressions_of, heads, statements_of
from bcgraph.schema.values import Scalar

if TYPE_CHECKING:
    from bcgraph.dsl.elaboration.library import Namespace

_PRECEDENCE = {
    "or": 2, "and": 3, "==": 5, "!=": 5, "<": 5, "<=": 5, ">": 5, ">=": 5,
    "+": 6, "-": 6, "*": 7, "/": 7, "//": 7, "%": 7, "**": 9,
}  # fmt: skip
_CONDITIONAL, _NOT, _NEGATIVE, _POWER, _ATOM = 1, 4, 8, 9, 10


def scalar(value: Scalar) -> str:
    """A number, a string or a boolean as it is written."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return escape(value)
        case _:
            return repr(value)


# --- Blocks -----------------------------------------------------------------------------------------------


def print_blocks(name: str, namespace: Namespace) -> str:
    """The text of a block and of all that it reaches, the standard library left out; callees first."""
    return "\n\n".join(print_definitions(name, namespace))


def print_definitions(name: str, namespace: Namespace) -> tuple[str, ...]:
    """The texts of a definition and of all that it reaches, the standard library left out; callees first."""
    found: dict[str, syntax.Block | syntax.Definition] = {}
    pending: list[tuple[str, bool]] = [(name, False)]
    entered: set[str] = set()
    while pending:
        current, done = pending.pop()
        definition = namespace.definitions.get(current)
        if definition is None:
            continue
        if done:
            found[current] = definition.text
        elif current not in entered:
            entered.add(current)
            pending.append((current, True))
            pending.extend((callee, False) for callee in reversed(list(_callees(definition.text))))
    if namespace.standard or name not in found:
        return ()
    return tuple(_laid_out("\n".join(_definition(text)) + "\n") for text in found.values())


def _laid_out(text: str) -> str:
    return layout(Source.of(text, "<text>")).rstrip("\n")


def _callees(text: syntax.Block | syntax.Definition) -> Iterator[str]:
    """Every name that could be one of a definition: what is called, and words that stand for a call."""
    yield from (called for head in heads(text) for called in _names(head))
    for statement in statements_of(text.body):
        yield from (called for head in heads(statement) for called in _names(head))


def _names(expression: syntax.Expression) -> Iterator[str]:
    pending: list[syntax.Expression | syntax.Argument] = [expression]
    while pending:
        node = pending.pop()
        if isinstance(node, syntax.Name | syntax.Call):
            yield node.name
        pending.extend(reversed(expressions_of(node)))


def _definition(text: syntax.Block | syntax.Definition) -> Iterator[str]:
    parameters = ", ".join(
        p.name if p.default is None else f"{p.name}={expression(p.default)}" for p in text.parameters
    )
    kind = text.kind if isinstance(text, syntax.Definition) else "block"
    yield f"{kind} {text.name}({parameters}) {{"
    yield from _body(text.body)
    yield "}"


def _body(body: Iterable[syntax.Statement]) -> Iterator[str]:
    for statement in body:
        yield from _STATEMENTS[type(statement)](statement)


def _branches(keyword: str) -> Callable[[Any], Iterator[str]]:
    def lines(statement: syntax.Sum | syntax.Concat) -> Iterator[str]:
        yield f"{keyword} {{"
        yield from _body(statement.body)
        yield "}"

    return lines


def _section(statement: syntax.Section) -> Iterator[str]:
    yield f"{statement.name} {{"
    yield from _body(statement.body)
    yield "}"


def _branch(statement: syntax.Branch) -> Iterator[str]:
    test = f" if {expression(statement.test)}" if statement.test is not None else ""
    yield f"branch{test} {{"
    yield from _body(statement.body)
    yield "}"


def _if(statement: syntax.If) -> Iterator[str]:
    yield f"if {expression(statement.test)} {{"
    yield from _body(statement.then)
    while len(statement.otherwise) == 1 and isinstance(statement.otherwise[0], syntax.If):
        statement = statement.otherwise[0]
        yield f"}} else if {expression(statement.test)} {{"
        yield from _body(statement.then)
    if statement.otherwise:
        yield "} else {"
        yield from _body(statement.otherwise)
    yield "}"


def _repeat(statement: syntax.Repeat) -> Iterator[str]:
    yield f"repeat {statement.variable} in {expression(statement.values)} {{"
    yield from _body(statement.body)
    yield "}"


def _assign(statement: syntax.Assign) -> Iterator[str]:
    match statement.target:
        case syntax.Name(name=name):
            target = name
        case syntax.Index(number=number):
            target = str(number)
        case syntax.Computed(value=value):
            target = f"[{expression(value)}]"
    yield f"{target} = {expression(statement.value)}"


def _bare(statement: syntax.Bare) -> Iterator[str]:
    yield expression(statement.call)


def _formula(statement: syntax.Formula) -> Iterator[str]:
    yield expression(statement.value)


def _declaration(statement: syntax.Declaration) -> Iterator[str]:
    of = f"[{statement.of}]" if statement.of is not None else ""
    yield f"{statement.kind}{of} {statement.name} = {expression(statement.value)}"


_STATEMENTS: dict[type, Callable[[Any], Iterator[str]]] = {
    syntax.Sum: _branches("sum"),
    syntax.Concat: _branches("concat"),
    syntax.Section: _section,
    syntax.Branch: _branch,
    syntax.If: _if,
    syntax.Repeat: _repeat,
    syntax.Assign: _assign,
    syntax.Bare: _bare,
    syntax.Formula: _formula,
    syntax.Declaration: _declaration,
}


# --- Expressions ------------------------------------------------------------------------------------------


def expression(node: syntax.Expression) -> str:
    """An expression with as few parentheses as its meaning allows."""
    return _within(node, _CONDITIONAL)


def _within(node: syntax.Expression, least: int) -> str:
    text, precedence = _printed(node)
    return text if precedence >= least else f"({text})"


def _printed(node: syntax.Expression) -> tuple[str, int]:
    match node:
        case syntax.Number() | syntax.Boolean() | syntax.String():
            return scalar(node.value), _ATOM
        case syntax.Name() | syntax.Dotted():
            return node.name, _ATOM
        case syntax.List():
            return f"[{', '.join(expression(item) for item in node.items)}]", _ATOM
        case syntax.Call():
            arguments = (
                expression(a.value) if a.name is None else f"{a.name}={expression(a.value)}" for a in node.arguments
            )
            return f"{node.name}({', '.join(arguments)})", _ATOM
        case syntax.Conditional():
            above = _CONDITIONAL + 1
            then, test = _within(node.then, above), _within(node.test, above)
            return f"{then} if {test} else {_within(node.otherwise, _CONDITIONAL)}", _CONDITIONAL
        case syntax.Unary(operator="not"):
            return f"not {_within(node.operand, _NOT)}", _NOT
        case syntax.Unary():
            return f"-{_within(node.operand, _NEGATIVE)}", _NEGATIVE
        case syntax.Binary(operator="**"):
            return f"{_within(node.left, _ATOM)} ** {_within(node.right, _NEGATIVE)}", _POWER
        case syntax.Binary():
            precedence = _PRECEDENCE[node.operator]
            # A comparison takes no comparison on either side; the others group to the left.
            left = _within(node.left, precedence + (precedence == _PRECEDENCE["=="]))
            return f"{left} {node.operator} {_within(node.right, precedence + 1)}", precedence
        case syntax.Broken():
            raise TypeError("a text with errors cannot be printed")
