"""Blocks from modules: a module becomes a block, equal modules one block with parameters, and rows of them a `repeat`.

What is equal is decided by what stands in the blocks, never by classes alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from torch import Tensor, nn

from bcgraph.dsl.elaboration.layers import LAYERS
from bcgraph.dsl.elaboration.library import NEURON, standard_names
from bcgraph.dsl.unparse import scalar
from bcgraph.dsl.wording import KEYWORDS
from bcgraph.importing.layers import Scope
from bcgraph.importing.neurons import Written
from bcgraph.importing.tree import Item
from bcgraph.modulenames import taken

# The first argument of these is written without its name.
_FIRST = ("channels", "features", "kernel", "size", "factor", "groups", "first")


@dataclass(slots=True)
class Line:
    """A call of a layer, with or without a name."""

    name: str | None
    call: str
    arguments: list[tuple[str, Any]]


@dataclass(slots=True)
class Join:
    """Branches."""

    word: str
    branches: list[list[Statement]]


@dataclass(slots=True)
class Part:
    """A module: its class, and what stands in it. `block` and `arguments` are what calls it, once that is known."""

    name: str
    kind: str
    body: list[Statement]
    block: str = ""
    arguments: list[tuple[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class Row:
    """Equal parts under numbers that follow each other: `repeat i in range(first, first + count)`."""

    first: int
    count: int
    part: Part


Statement: TypeAlias = Line | Join | Part | Row


@dataclass(frozen=True, slots=True)
class Parameter:
    """A value that differs from one call of a block to the next."""

    name: str


# --- from items to statements -----------------------------------------------------------------------------


@dataclass(slots=True)
class Builder:
    """Builds the statements of a network; `neuron` says how a layer of neurons is written.

    `weights` collects the tensors by their names in the network, `taken` the paths that were renamed.
    """

    module: nn.Module
    neuron: Callable[[Any], tuple[str, list[tuple[str, Any]]]]
    weights: dict[str, Tensor] = field(default_factory=dict)
    renamed: list[tuple[str, str]] = field(default_factory=list)

    def body(self, items: Sequence[Item], scope: Scope, prefix: str, used: set[str] | None = None) -> list[Statement]:
        """The statements for `items` in the module at `scope`, whose names begin with `prefix`."""
        used = set() if used is None else used
        found: list[Statement] = []
        position = 0
        while position < len(items):
            item = items[position]
            inner = item.scope
            if len(inner) > len(scope) and inner[: len(scope)] == scope:
                child = inner[len(scope)]
                end = position
                while end < len(items) and items[end].scope[: len(scope) + 1] == (*scope, child):
                    end += 1
                run = items[position:end]
                position = end
                name = self.free(child, used, prefix)
                body = self.body(run, (*scope, child), f"{prefix}{name}.")
                if not _has_names(body):
                    # Nothing in it needs a name: it stands where the module is called.
                    used.discard(name)
                    found += body
                else:
                    found.append(Part(name, self.kind((*scope, child)), body))
                continue
            position += 1
            if item.branches:
                branches = [self.body(branch, scope, prefix, used) for branch in item.branches]
                found.append(Join(item.layer.call, branches))
            else:
                found.append(self.line(item, prefix, used))
        return _rows(found)

    def line(self, item: Item, prefix: str, used: set[str]) -> Line:
        """The statement of a single layer, whose weights are kept."""
        layer = item.layer
        call, arguments = layer.call, list(layer.arguments)
        if layer.neuron:
            call, arguments = self.neuron(layer)
        if layer.name is None:
            return Line(None, call, arguments)
        name = self.free(layer.name, used, prefix, quiet=not layer.weights)
        for part, value in layer.weights.items():
            self.weights[f"{prefix}{name}.{part}"] = value
        return Line(name, call, arguments)

    def free(self, wanted: str, used: set[str], prefix: str, *, quiet: bool = False) -> str:
        """A name that a layer may have here."""
        name = wanted if wanted.isdigit() else identifier(wanted)
        base, number = name, 1
        while name in used:
            number += 1
            name = f"{base}_{number}" if not base.isdigit() else f"again{number}_{base}"
        used.add(name)
        if name != wanted and not quiet:
            self.renamed.append((f"{prefix}{wanted}", f"{prefix}{name}"))
        return name

    def kind(self, scope: Scope) -> str:
        """A name for the block of a module: its class, or for a plain sequence its own name."""
        try:
            module = self.module.get_submodule(".".join(scope))
        except AttributeError:
            return identifier(scope[-1])
        name = type(module).__name__
        if isinstance(module, nn.Sequential) and (type(module) is nn.Sequential or scope[-1] == "downsample"):
            words = [each for each in scope if not each.isdigit()]
            name = words[-1] if words else "part"
            # Names that are numbered alone, `layer1` and `layer2`, are one kind.
            name = re.sub(r"\d+$", "", name).rstrip("_") or name
        return identifier(snake(name))


def _has_names(body: Sequence[Statement]) -> bool:
    for statement in body:
        match statement:
            case Line(name=name) if name is not None:
                return True
            case Part() | Row():
                return True
            case Join(branches=branches) if any(_has_names(branch) for branch in branches):
                return True
    return False


def _rows(body: list[Statement]) -> list[Statement]:
    """Equal parts in a row, under numbers that follow each other, as one statement."""
    found: list[Statement] = []
    for statement in body:
        last = found[-1] if found else None
        if isinstance(statement, Part) and statement.name.isdigit():
            number = int(statement.name)
            if isinstance(last, Row) and last.first + last.count == number and _same(last.part, statement):
                last.count += 1
                continue
            if (
                isinstance(last, Part)
                and last.name.isdigit()
                and int(last.name) + 1 == number
                and _same(last, statement)
            ):
                found[-1] = Row(number - 1, 2, last)
                continue
        found.append(statement)
    return found


def _same(one: Part, other: Part) -> bool:
    return _key(one.body) == _key(other.body) and list(_holes(one.body)) == list(_holes(other.body))


# --- from statements to blocks ----------------------------------------------------------------------------


def _is_hole(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _key(body: Sequence[Statement]) -> tuple[Any, ...]:
    """What two blocks must have in common to be one: all but numbers."""
    found: list[Any] = []
    for statement in body:
        match statement:
            case Line():
                given = tuple((n, None if _is_hole(v) else repr(v)) for n, v in statement.arguments)
                found.append(("line", statement.name, statement.call, given))
            case Join():
                found.append((statement.word, tuple(_key(branch) for branch in statement.branches)))
            case Part():
                found.append(("part", statement.name, statement.kind, _key(statement.body)))
            case Row():
                found.append(("row", statement.first, statement.part.kind, _key(statement.part.body)))
    return tuple(found)


def _holes(body: Sequence[Statement]) -> Iterator[tuple[str, Any]]:
    """The numbers of a body in order, each with its name; of parts the arguments, once they have them."""
    for statement in body:
        match statement:
            case Line():
                yield from ((n, v) for n, v in statement.arguments if _is_hole(v))
            case Join():
                for branch in statement.branches:
                    yield from _holes(branch)
            case Part():
                yield from statement.arguments if statement.block else _holes(statement.body)
            case Row():
                yield "blocks", statement.count
                yield from statement.part.arguments if statement.part.block else _holes(statement.part.body)


def _parts(body: Sequence[Statement]) -> Iterator[tuple[int, Part]]:
    """Every part in a body with its height, inner ones first."""
    for statement in body:
        match statement:
            case Join():
                for branch in statement.branches:
                    yield from _parts(branch)
            case Part() | Row():
                part = statement.part if isinstance(statement, Row) else statement
                height = 0
                for inner, each in _parts(part.body):
                    height = max(height, inner + 1)
                    yield inner, each
                yield height, part


@dataclass(frozen=True, slots=True)
class Block:
    """A definition: its name, parameters, and the text of its body."""

    name: str
    parameters: tuple[str, ...]
    lines: tuple[str, ...]


def blocks(body: list[Statement], root: str) -> list[Block]:
    """The definitions of all parts, callees first, and last the block `root` of the whole."""
    every = list(_parts(body))
    names: set[str] = {root}
    found: list[Block] = []
    kinds: dict[str, list[tuple[str, ...]]] = {}
    for height in range(max((h for h, _ in every), default=-1) + 1):
        groups: dict[tuple[Any, ...], list[Part]] = {}
        for h, part in every:
            if h == height:
                groups.setdefault((part.kind, _key(part.body)), []).append(part)
        for (kind, _), parts in groups.items():
            inner = tuple(_names_in(parts[0].body))
            name = _block_name(kind, inner, kinds, names)
            parameters = _parameters(parts)
            for part in parts:
                part.block = name
                values = [value for _, value in _holes(part.body)]
                part.arguments = [(p, values[places[0]]) for p, places in parameters.items()]
            texts = iter(_slots(parts[0], parameters))
            found.append(Block(name, tuple(parameters), tuple(_lines(parts[0].body, texts))))
    whole = (value for _, value in _holes(body))
    found.append(Block(root, (), tuple(_lines(body, whole))))
    return found


def _names_in(body: Sequence[Statement]) -> Iterator[str]:
    for statement in body:
        match statement:
            case Line(name=str() as name):
                yield name
            case Part(name=name):
                yield name
            case Join(branches=branches):
                for branch in branches:
                    yield from _names_in(branch)


def _block_name(kind: str, inner: tuple[str, ...], kinds: dict[str, list[tuple[str, ...]]], names: set[str]) -> str:
    """A name for a block; a second of its class is told apart by what it has more, or by a number."""
    earlier = kinds.setdefault(kind, [])
    wanted = kind
    if earlier:
        more = [name for name in inner if not name.isdigit() and name not in earlier[0]]
        wanted = f"{kind}_{identifier(more[0])}" if len(more) == 1 else kind
    earlier.append(inner)
    name, number = wanted, 1
    while name in names or not allowed(name):
        number += 1
        name = f"{wanted}_{number}"
    names.add(name)
    return name


def _parameters(parts: Sequence[Part]) -> dict[str, list[int]]:
    """The holes that differ among the parts, by the name of a parameter; equal ones have one parameter."""
    rows = [list(_holes(part.body)) for part in parts]
    columns: dict[tuple[Any, ...], str] = {}
    found: dict[str, list[int]] = {}
    for place, (label, _) in enumerate(rows[0]):
        column = tuple(row[place][1] for row in rows)
        if len({repr(each) for each in column}) == 1:
            continue
        if column not in columns:
            base = re.sub(r"\d+$", "", label)
            name, number = base, 1
            while name in found:
                number += 1
                name = f"{base}{number}"
            columns[column] = name
        found.setdefault(columns[column], []).append(place)
    return found


def _slots(part: Part, parameters: Mapping[str, list[int]]) -> list[Any]:
    """The holes of a part, with parameters where they stand."""
    values: list[Any] = [value for _, value in _holes(part.body)]
    for name, places in parameters.items():
        for place in places:
            values[place] = Parameter(name)
    return values


def _lines(body: Sequence[Statement], values: Iterator[Any]) -> Iterator[str]:
    """The text of a body; `values` has what stands for each number."""
    for statement in body:
        match statement:
            case Line():
                given = [(n, next(values) if _is_hole(v) else v) for n, v in statement.arguments]
                head = f"{statement.name} = " if statement.name is not None else ""
                yield f"{head}{statement.call}({_arguments(given, _FIRST)})"
            case Join():
                yield f"{statement.word} {{"
                for branch in statement.branches:
                    inner = list(_lines(branch, values))
                    yield "branch { }" if not inner else "branch {"
                    yield from inner
                    if inner:
                        yield "}"
                yield "}"
            case Part():
                yield f"{statement.name} = {_call(statement, values)}"
            case Row():
                count = next(values)
                end = count if statement.first == 0 else _plus(count, statement.first)
                start = "" if statement.first == 0 else f"{statement.first}, "
                end_text = _text(end)
                yield f"repeat i in range({start}{end_text}) {{"
                yield f"[i] = {_call(statement.part, values)}"
                yield "}"


def _plus(count: Any, first: int) -> Any:
    return Written(f"{count.name} + {first}") if isinstance(count, Parameter) else count + first


def _call(part: Part, values: Iterator[Any]) -> str:
    given = [(name, next(values)) for name, _ in part.arguments]
    return f"{part.block}({_arguments(given, _FIRST)})"


def _arguments(given: Sequence[tuple[str, Any]], first: Sequence[str]) -> str:
    found = []
    for position, (name, value) in enumerate(given):
        bare = position == 0 and name in first
        found.append(_text(value) if bare else f"{name}={_text(value)}")
    return ", ".join(found)


def _text(value: Any) -> str:
    match value:
        case Parameter():
            return value.name
        case Written():
            return value.text
        case tuple():
            return f"[{', '.join(map(_text, value))}]"
        case float() if value < 0:
            return f"-{scalar(-value)}"
        case _:
            return scalar(value)


# --- names ------------------------------------------------------------------------------------------------

_WORDS = frozenset({"input", "true", "false", "i"})


def snake(name: str) -> str:
    """`BasicBlock` as `basic_block`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower().strip("_") or "part"


def identifier(name: str) -> str:
    """A name that a text may have."""
    text = re.sub(r"\W", "_", name, flags=re.ASCII)
    if not re.match(r"[A-Za-z_]", text):
        text = f"part_{text}"
    return f"{text}_" if text in KEYWORDS or text in _WORDS or taken(text) else text


def allowed(name: str) -> bool:
    """Whether a block may have this name: no layer, neuron or surrogate has it."""
    taken = (*LAYERS, NEURON, "range", "mul", *standard_names("neuron"), *standard_names("surrogate"))
    return name not in taken
