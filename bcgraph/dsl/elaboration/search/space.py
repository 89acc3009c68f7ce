"""`space { }`: the families of connections that a search may find, with their ports by number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from bcgraph import schema
from bcgraph.dsl import syntax
from bcgraph.dsl.elaboration import kinds
from bcgraph.dsl.elaboration.connections import Ports, number_of, without_sign
from bcgraph.dsl.elaboration.evaluate import Failed
from bcgraph.dsl.elaboration.settings import Settings
from bcgraph.dsl.elaboration.values import convert
from bcgraph.errors import Span
from bcgraph.schema.search import Rule, SpaceSpec

WORDS = ("backward", "forward", "fixed", "forbid")
"""The words that begin a line with ports."""

_ANY, _LATER = "any", "later"
_JOINS = kinds.Word(("add", "mul"))
_DELAY = kinds.Integer(0, 1_000)

Through: TypeAlias = Callable[[syntax.Expression], schema.Through]
"""What the text of a projection means. Raises Failed once the reason is reported."""


@dataclass(frozen=True, slots=True)
class SpaceReader:
    """Reads `space { }` in a network with these ports."""

    settings: Settings
    ports: Ports
    through: Through

    def read(self, body: Iterable[syntax.Statement]) -> SpaceSpec:
        """The space that the statements describe; what is wrong is reported and left out."""
        rules: list[Rule] = []
        values: dict[str, Any] = {}
        seen: dict[str, Span] = {}
        bound = kinds.kind_of(kinds.fields(SpaceSpec)["at_most"])
        for statement in body:
            match statement:
                case syntax.Connection(word=word) if word in WORDS:
                    rules.extend(self._rule(word, statement))
                case syntax.Assign(target=syntax.Name(name="at_most") as target):
                    if self.settings.first("at_most", target.span, seen):
                        self.settings.read(values, "at_most", statement.value, bound)
                case _:
                    self.settings.stray(statement, "in `space`", (*WORDS, "at_most"))
        return SpaceSpec(rules=tuple(rules), **values)

    def _rule(self, kind: Any, statement: syntax.Connection) -> Iterator[Rule]:
        numbers = {name: number for number, (name, _) in enumerate(self.ports.ports)}
        if without_sign(statement, numbers, self.settings):
            return
        source, target = (self._end(port, numbers) for port in (statement.source, statement.target))
        given = self._given(statement.body)
        if source == _LATER:
            hint = f"`{_LATER}` is a target: ports after the source"
            self.settings.reporter.add("E066", f"`{_LATER}` cannot be a source", statement.source.span, hint)
        elif source is not None and target is not None:
            yield Rule(kind, source, target, **given, span=statement.span)

    def _end(self, port: syntax.Port, numbers: dict[str, int]) -> int | Any:
        """The number of a port, a word that stands for several, or None for one that is not known."""
        if port.name in (_ANY, _LATER):
            return port.name
        return number_of(port, numbers, self.ports, self.settings)

    def _given(self, body: Iterable[syntax.Statement]) -> dict[str, Any]:
        """The settings in the braces of a line: each a value, or a list of values."""
        found: dict[str, Any] = {}
        seen: dict[str, Span] = {}
        readers: Mapping[str, Callable[[syntax.Expression], Any]] = {
            "delay": self._delay,
            "through": self.through,
            "join": lambda value: convert(value, _JOINS, self.settings.scope, "`join`"),
            "read": self._read,
        }
        for setting in body:
            match setting:
                case syntax.Assign(target=syntax.Name(name=name) as target, value=value) if name in readers:
                    if self.settings.first(name, target.span, seen):
                        found[name] = tuple(self._values(name, value, readers[name]))
                case _:
                    self.settings.stray(setting, "of a line of a space", tuple(readers))
        return found

    def _values(self, name: str, value: syntax.Expression, read: Callable[[syntax.Expression], Any]) -> Iterator[Any]:
        items = value.items if isinstance(value, syntax.List) else (value,)
        if not items:
            self.settings.scope.fail("E041", f"`{name}` is an empty list", value, "leave it out, or name a value")
        found: list[Any] = []
        for item in items:
            try:
                one = read(item)
            except Failed:
                continue
            if one in found:
                self.settings.scope.fail("E041", f"`{name}` has a value twice", item)
                continue
            found.append(one)
            yield one

    def _delay(self, value: syntax.Expression) -> int:
        number: int = convert(value, kinds.Integer(), self.settings.scope, "`delay`")
        if not 0 <= number <= 1_000:
            hint = f"allowed: {kinds.allowed_range(_DELAY)}"
            raise self.settings.scope.fail("E063", f"a delay of {number} steps is not possible", value, hint)
        return number

    def _read(self, value: syntax.Expression) -> str:
        if not isinstance(value, syntax.Name):
            hint = "write `read = s`, or the name of a state"
            raise self.settings.scope.fail("E040", "`read` needs the name of a value", value, hint)
        return value.name
