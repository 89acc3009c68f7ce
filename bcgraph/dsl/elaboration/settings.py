"""Reading settings: `name = value` and `name { ... }`, by what the schema allows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from bcgraph import schema
from bcgraph.data import declaration
from bcgraph.dsl import syntax
from bcgraph.dsl.elaboration import kinds
from bcgraph.dsl.elaboration.evaluate import Failed, Scope
from bcgraph.dsl.elaboration.values import build, convert, convert_all, parameters_of, registered_as
from bcgraph.dsl.elaboration.vocabulary.places import home
from bcgraph.dsl.source import Reporter
from bcgraph.dsl.wording import statement_name
from bcgraph.errors import Span, nearest
from bcgraph.schema.values import has_statements

# Their meaning is the business of `bcgraph.data`; the language knows the names so that a typing error has a place.
DATA_SETS = declaration.names()

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Settings:
    """Reads settings in a scope; what is wrong is reported and left out."""

    reporter: Reporter
    scope: Scope

    def read(self, values: dict[str, Any], name: str, value: syntax.Expression, kind: kinds.Kind) -> None:
        """Set `values[name]` to what `value` means, unless it has no value."""
        try:
            values[name] = convert(value, kind, self.scope, f"`{name}`")
        except Failed:
            return

    def section(
        self,
        model: type[Model],
        body: Iterable[syntax.Statement],
        label: str,
        *,
        given: Mapping[str, Any] | None = None,
        seen: dict[str, Span] | None = None,
        more: Mapping[str, FieldInfo] | None = None,
    ) -> Model:
        """An instance of `model` from the settings and sections in `body`, which may have `more` settings than it has.

        `given` are values of what has statements of its own, which are read elsewhere, and `seen` says where those are.
        """
        fields = {**kinds.fields(model), **(more or {})}
        inner = {name: found for name, f in fields.items() if (found := kinds.section(f.annotation)) is not None}
        read = {name for name in fields if name not in inner and not has_statements(fields[name])}
        values: dict[str, Any] = dict(given or {})
        seen = {} if seen is None else seen
        for statement in body:
            match statement:
                case syntax.Section(name=name) if name in inner:
                    if self.first(name, statement.name_span, seen):
                        values[name] = self.section(inner[name], statement.body, name)
                case syntax.Assign(target=syntax.Name(name=name) as target) if name in read:
                    if self.first(name, target.span, seen):
                        self.read(values, name, statement.value, kinds.kind_of(fields[name]))
                case _:
                    braced = tuple(name for name in fields if name not in read)
                    self.stray(statement, f"in `{label}`", tuple(fields), braced)
        try:
            made: Model = build(model, values, seen, next(iter(seen.values()), syntax.NOWHERE), self.scope)
        except Failed:
            return model()
        return made

    def data(self, value: syntax.Expression) -> schema.DataSpec | None:
        """The data set of `data = name(...)`."""
        if isinstance(value, syntax.Name):
            value = syntax.Call(value.name, (), name_span=value.span, span=value.span)
        if not isinstance(value, syntax.Call):
            self.scope.fail("E040", "`data` needs a data set", value.span, "write `data = digits()`, for example")
            return None
        try:
            known = (
                value.name in DATA_SETS
                or registered_as("data", value.name, self.scope.uses, self.scope, value.name_span) is not None
            )
        except Failed:
            return None
        if not known:
            hint = nearest(value.name, DATA_SETS) or f"known: {', '.join(f'`{n}`' for n in DATA_SETS)}"
            self.scope.fail("E080", f"there is no data set `{value.name}`", value.name_span, hint)
            return None
        parameters = [p for p in parameters_of(schema.DataSpec) if p.name != "name"]
        try:
            arguments, spans = convert_all(value, parameters, self.scope)
            made: schema.DataSpec = build(
                schema.DataSpec,
                {"name": value.name, "span": value.span, **arguments},
                spans,
                value.span,
                self.scope,
            )
        except Failed:
            return None
        return made

    def first(self, name: str, span: Span, seen: dict[str, Span]) -> bool:
        """Whether `name` stands here for the first time; reports it otherwise (E033)."""
        if name in seen:
            self.reporter.add("E033", f"`{name}` is given twice", span, f"the first is at {seen[name]}")
            return False
        seen[name] = span
        return True

    def stray(
        self, statement: syntax.Statement, where: str, known: tuple[str, ...], sections: tuple[str, ...] = ()
    ) -> None:
        """Report a statement that has no place here: an unknown setting or section, or another kind of statement."""
        match statement:
            case syntax.Assign(target=syntax.Name(name=name) as target, value=value):
                self._stray_name("setting", name, target.span, where, known, sections, value)
            case syntax.Section(name=name):
                self._stray_name("section", name, statement.name_span, where, known, sections)
            case syntax.Connection():
                forms = [f"`{_FORMS[name]}`" for name in known if name in _FORMS]
                hint = f"known {where}: {', '.join(forms)}" if forms else None
                self.reporter.add("E035", f"`{statement.word}` does not belong {where}", statement.word_span, hint)
            case _:
                span = getattr(statement, "name_span", statement.span)
                if isinstance(statement, syntax.Bare):
                    span = statement.call.name_span
                self.reporter.add("E035", f"{statement_name(statement)} does not belong {where}", span)

    def _stray_name(
        self,
        kind: str,
        name: str,
        span: Span,
        where: str,
        known: tuple[str, ...],
        sections: tuple[str, ...],
        value: syntax.Expression | None = None,
    ) -> None:
        if name not in known:
            listed = ", ".join(f"`{n}`" for n in known)
            hint = nearest(name, known) or home(name, value) or f"known {where}: {listed}"
            self.reporter.add("E032", f"there is no {kind} `{name}` {where}", span, hint)
            return
        form = f"{name} {{ ... }}" if name in sections else _FORMS.get(name, f"{name} = ...")
        self.reporter.add("E035", f"`{name}` is not a {kind} {where}", span, f"write `{form}`")


def place(body: Iterable[syntax.Statement], path: Sequence[str]) -> Span | None:
    """Where a text gives a setting; `path` are the sections around it and its name. None where it does not."""
    name, *inner = path
    for statement in body:
        match statement:
            case syntax.Section() if statement.name == name and inner:
                return place(statement.body, inner)
            case syntax.Assign(target=syntax.Name(name=found)) if found == name and not inner:
                return statement.span
            case _:
                pass
    return None


# How the statements are written that are neither settings nor sections.
_FORMS: Mapping[str, str] = {
    "backward": "backward source -> target",
    "forward": "forward source -> target",
    "block": "block name() { ... }",
    "import": 'import "file.bcg"',
    "network": "network name { ... }",
    "use": 'use "package"',
}
