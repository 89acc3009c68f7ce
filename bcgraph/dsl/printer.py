"""Canonical texts: of a specification, and of the blocks it needs.

Equal specifications have equal texts, and a text means the specification it was printed from. Layout is left to
`fmt`, so a canonical text is also a formatted one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from bcgraph import schema
from bcgraph.dsl import syntax
from bcgraph.dsl.elaboration import kinds
from bcgraph.dsl.fmt import format_text
from bcgraph.dsl.tokens import escape
from bcgraph.dsl.walk import statements_of
from bcgraph.dsl.wording import KEYWORDS
from bcgraph.errors import SpecError

if TYPE_CHECKING:
    from bcgraph.dsl.elaboration.library import Namespace

_WIDTH = 80
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")
_PRECEDENCE = {
    "or": 2, "and": 3, "==": 5, "!=": 5, "<": 5, "<=": 5, ">": 5, ">=": 5,
    "+": 6, "-": 6, "*": 7, "/": 7, "//": 7, "%": 7,
}  # fmt: skip
_CONDITIONAL, _NOT, _NEGATIVE, _ATOM = 1, 4, 8, 9

# Settings beyond the paper's: written where they are not at their defaults.
_EXTRA = frozenset(("accumulate", "augment", "clip", "ema", "gain", "label_smoothing", "mean_squared"))


# --- Specifications ---------------------------------------------------------------------------------------


def format_spec(spec: schema.NetworkSpec) -> str:
    """The canonical text of a specification: `parse(format_spec(spec)) == spec`.

    Backward connections are sorted and written by name; data, search and training are written in full, but for what
    goes beyond the paper and is off. The text contains every block that is not in the standard library. Raises
    SpecError E005 when a name in a specification made by hand cannot stand in a text.
    """
    lines = ["bcg 1", ""]
    if spec.backbone.source:
        lines += [spec.backbone.source, ""]
    lines.append(f"network {_name(spec.name)} {{")
    lines += [
        f"input = {_value(spec.input)}",
        f"steps = {spec.steps}",
        f"readout = {spec.readout}",
        f"neuron = {_value(spec.neuron)}",
    ]
    if spec.norm != schema.Norm():
        lines.append(f"norm = {_value(spec.norm)}")
    if spec.feedback != schema.Projection():
        lines.append(f"feedback = {_value(spec.feedback)}")
    call = spec.backbone.call
    arguments = ", ".join(f"{_name(name)}={_scalar(value)}" for name, value in call.arguments)
    lines.append(f"backbone = {_name(call.name)}({arguments})")
    if spec.backward:
        lines.append("")
    for bc in sorted(spec.backward):
        lines.append(f"backward {spec.ports[bc.source]} -> {spec.ports[bc.target]}{bc.settings}")
    lines += ["}", "", f"data = {_name(spec.data.name)}({_arguments(spec.data)})"]
    for name, section in (("search", spec.search), ("train", spec.train)):
        lines += ["", f"{name} {{", *_settings(section), "}"]
    return format_text("\n".join(lines) + "\n", file=f"<{spec.name}>")


def _settings(section: BaseModel) -> Iterator[str]:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        beside = schema.only_with(field)
        if beside is None:
            left_out = name in _EXTRA and value == field.default
        else:
            left_out = value is None or getattr(section, beside.setting) != beside.value
        if left_out:
            continue
        if isinstance(value, BaseModel) and "kind" not in type(value).model_fields:
            yield f"{name} {{ {_wrapped(_settings(value))} }}"
        else:
            yield f"{name} = {_value(value)}"


def _wrapped(settings: Iterable[str]) -> str:
    """Settings of one section, several on a line."""
    lines: list[str] = []
    for setting in settings:
        if lines and len(lines[-1]) + len(setting) <= _WIDTH:
            lines[-1] += f"; {setting}"
        else:
            lines.append(setting)
    return "\n".join(lines)


def _arguments(value: Any) -> str:
    """The arguments of the call that makes a value: those that must be given by position, the others by name."""
    model: type = type(value)
    parts: list[str] = []
    for name, kind, required in kinds.arguments(model):
        given = getattr(value, name)
        if name in _EXTRA and given == kinds.fields(model)[name].default:
            continue
        written = escape(given) if isinstance(kind, kinds.Text) else _value(given)
        parts.append(written if required else f"{name}={written}")
    return ", ".join(parts)


def _value(value: Any) -> str:
    """A setting's value as it is written; words stand without quotes."""
    match value:
        case bool() | int() | float():
            return _scalar(value)
        case str():
            return value
        case tuple():
            return f"[{', '.join(_value(item) for item in value)}]"
        case _:
            return f"{kinds.call_name(type(value))}({_arguments(value)})"


def _scalar(value: schema.Scalar) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return escape(value)
        case _:
            return repr(value)


def _name(name: str) -> str:
    if not _NAME.fullmatch(name) or name in KEYWORDS:
        raise SpecError("E005", f"{name!r} cannot be a name in a text", hint="letters, digits and `_`")
    return name


# --- Blocks -----------------------------------------------------------------------------------------------


def print_blocks(name: str, namespace: Namespace) -> str:
    """The text of a block and of all blocks it reaches, those of the standard library left out; callees first."""
    found: dict[str, syntax.Block] = {}
    pending: list[tuple[str, bool]] = [(name, False)]
    entered: set[str] = set()
    while pending:
        current, done = pending.pop()
        definition = namespace.definitions.get(current)
        if definition is None:
            continue
        if done:
            found[current] = definition.block
        elif current not in entered:
            entered.add(current)
            pending.append((current, True))
            pending.extend((callee, False) for callee in reversed(list(_callees(definition.block))))
    if namespace.standard or name not in found:
        return ""
    return "\n\n".join(format_text("\n".join(_block(block)) + "\n").rstrip("\n") for block in found.values())


def _callees(block: syntax.Block) -> Iterator[str]:
    for statement in statements_of(block.body):
        match statement:
            case syntax.Assign(value=syntax.Call(name=name)) | syntax.Bare(call=syntax.Call(name=name)):
                yield name


def _block(block: syntax.Block) -> Iterator[str]:
    parameters = ", ".join(
        p.name if p.default is None else f"{p.name}={expression(p.default)}" for p in block.parameters
    )
    yield f"block {block.name}({parameters}) {{"
    yield from _body(block.body)
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


_STATEMENTS: dict[type, Callable[[Any], Iterator[str]]] = {
    syntax.Sum: _branches("sum"),
    syntax.Concat: _branches("concat"),
    syntax.Branch: _branch,
    syntax.If: _if,
    syntax.Repeat: _repeat,
    syntax.Assign: _assign,
    syntax.Bare: _bare,
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
            return _scalar(node.value), _ATOM
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
        case syntax.Binary():
            precedence = _PRECEDENCE[node.operator]
            # A comparison takes no comparison on either side; the others group to the left.
            left = _within(node.left, precedence + (precedence == _PRECEDENCE["=="]))
            return f"{left} {node.operator} {_within(node.right, precedence + 1)}", precedence
        case syntax.Broken():
            raise TypeError("a text with errors cannot be printed")
