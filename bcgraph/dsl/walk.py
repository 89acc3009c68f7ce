"""Ways through the syntax tree, none of which recurses."""

from __future__ import annotations

from collections.abc import Iterator

from bcgraph.dsl import syntax

_WITH_BODY = (
    syntax.Block
    | syntax.Definition
    | syntax.Network
    | syntax.Section
    | syntax.Connection
    | syntax.Sum
    | syntax.Concat
    | syntax.Branch
    | syntax.Repeat
)


def bodies(statement: syntax.Statement) -> tuple[tuple[syntax.Statement, ...], ...]:
    """The statement lists inside a statement, in the order of the text."""
    if isinstance(statement, syntax.If):
        return (statement.then, statement.otherwise)
    if isinstance(statement, _WITH_BODY):
        return (statement.body,)
    return ()


def statements_of(body: tuple[syntax.Statement, ...]) -> Iterator[syntax.Statement]:
    """Every statement of a body and of the bodies in it, in the order of the text."""
    pending = list(reversed(body))
    while pending:
        statement = pending.pop()
        yield statement
        for inner in reversed(bodies(statement)):
            pending.extend(reversed(inner))


def expressions_of(node: syntax.Expression | syntax.Argument) -> tuple[syntax.Expression | syntax.Argument, ...]:
    """The expressions directly inside an expression, in the order of the text."""
    match node:
        case syntax.Argument():
            return (node.value,)
        case syntax.List():
            return node.items
        case syntax.Unary():
            return (node.operand,)
        case syntax.Binary():
            return (node.left, node.right)
        case syntax.Conditional():
            return (node.then, node.test, node.otherwise)
        case syntax.Call():
            return node.arguments
        case _:
            return ()


def heads(statement: syntax.Statement) -> tuple[syntax.Expression, ...]:
    """The expressions that stand in a statement itself, not in the statements inside it."""
    match statement:
        case syntax.Import():
            return (statement.path,)
        case syntax.Use():
            return (statement.package,)
        case syntax.Formula() | syntax.Declaration():
            return (statement.value,)
        case syntax.Block() | syntax.Definition():
            return tuple(p.default for p in statement.parameters if p.default is not None)
        case syntax.Branch():
            return (statement.test,) if statement.test is not None else ()
        case syntax.If():
            return (statement.test,)
        case syntax.Repeat():
            return (statement.values,)
        case syntax.Assign(target=syntax.Computed() as target):
            return (target.value, statement.value)
        case syntax.Assign():
            return (statement.value,)
        case syntax.Bare():
            return (statement.call,)
        case _:
            return ()


def parts_of(body: tuple[syntax.Statement, ...]) -> Iterator[syntax.Expression | syntax.Argument]:
    """Every expression of a body and of the bodies in it, with all that is inside."""
    for statement in statements_of(body):
        pending: list[syntax.Expression | syntax.Argument] = list(heads(statement))
        while pending:
            node = pending.pop()
            yield node
            pending.extend(expressions_of(node))


def deeper_than(limit: int, expression: syntax.Expression) -> syntax.Expression | syntax.Argument | None:
    """A part of an expression that is more than `limit` levels down, if there is one."""
    pending: list[tuple[syntax.Expression | syntax.Argument, int]] = [(expression, 1)]
    while pending:
        node, depth = pending.pop()
        if depth > limit:
            return node
        pending.extend((inner, depth + 1) for inner in expressions_of(node))
    return None


def names_in(expression: syntax.Expression) -> Iterator[syntax.Name | syntax.Dotted]:
    """Every name in an expression, in the order of the text."""
    pending: list[syntax.Expression | syntax.Argument] = [expression]
    while pending:
        node = pending.pop()
        if isinstance(node, syntax.Name | syntax.Dotted):
            yield node
        pending.extend(reversed(expressions_of(node)))


def strings_in(expression: syntax.Expression) -> Iterator[syntax.String]:
    """Every string literal in an expression, in the order of the text."""
    pending: list[syntax.Expression | syntax.Argument] = [expression]
    while pending:
        node = pending.pop()
        if isinstance(node, syntax.String):
            yield node
        pending.extend(reversed(expressions_of(node)))
