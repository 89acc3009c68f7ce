"""The places of a text and the settings that belong there, each with what it takes and its default.

Diagnostics say with it where a misplaced setting belongs; editors complete and explain by it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from bcgraph import plugins, schema
from bcgraph.dsl import syntax
from bcgraph.dsl.elaboration import kinds
from bcgraph.dsl.unparse import expression
from bcgraph.dsl.walk import expressions_of
from bcgraph.dsl.wording import short
from bcgraph.schema.search import COSTS, Bound, SpaceSpec, strategy_settings
from bcgraph.schema.values import has_statements

SECTIONS: Mapping[str, type[BaseModel]] = {"search": schema.SearchSpec, "train": schema.TrainSpec}
"""The sections of a file, with what their settings make."""

TOP = ("network", "block", "import", "data", *SECTIONS)
"""What stands at the top of a file."""

NETWORK = ("input", "steps", "readout", "neuron", "norm", "feedback", "backbone")
"""The settings of a network."""

REQUIRED = {"input": "input = image(3, 32, 32)", "steps": "steps = 4", "backbone": "backbone = resnet18()"}
"""The settings that a network has to have, with an example of each."""

CONNECTION = tuple(n for n in kinds.fields(schema.BackwardConnection) if n not in ("source", "target", "span"))
"""The settings of a connection."""

Path = tuple[str, ...]
"""The sections around a setting, from the outermost: `("search", "init")`."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. `kind` is None where it takes a call of a definition; `braced` ones are sections."""

    name: str
    kind: kinds.Kind | None
    default: Any
    required: bool
    braced: bool


@dataclass(frozen=True, slots=True)
class Place:
    """What may be set in one place, and what is said about it."""

    path: Path
    settings: Mapping[str, Setting]
    about: str


# Settings that take a call of a definition, whose names the library knows.
_CALLS = frozenset(("backbone", "neuron", "feedback", "through"))


@cache
def places() -> Mapping[Path, Place]:
    """Every place by its path; that of a connection's settings is `("connection",)`."""
    found: dict[Path, Place] = {("network",): _place(("network",), schema.NetworkSpec, NETWORK)}
    found["connection",] = _place(("connection",), schema.BackwardConnection, CONNECTION)
    pending: list[tuple[Path, type]] = [((name,), model) for name, model in SECTIONS.items()]
    while pending:
        path, model = pending.pop(0)
        found[path] = _place(path, model, tuple(kinds.fields(model)))
        for name, field in kinds.fields(model).items():
            inner = kinds.section(field.annotation)
            if inner is not None and not has_statements(field):
                pending.append(((*path, name), inner))
    evolve = found["search", "evolve"]
    for strategy in plugins.names("strategy"):
        if (own := strategy_settings(strategy)) is not None:
            settings = {name: _setting(name, field) for name, field in kinds.fields(own).items()}
            evolve = replace(evolve, settings={**evolve.settings, **settings})
    found["search", "evolve"] = evolve
    space = _place(("search", "space"), SpaceSpec, ("at_most",))
    found["search", "space"] = space
    found["search", "subject_to"] = Place(
        ("search", "subject_to"), {name: _cost(name) for name in COSTS}, _about(Bound)
    )
    return found


def _place(path: Path, model: type, names: tuple[str, ...]) -> Place:
    fields = kinds.fields(model)
    return Place(path, {name: _setting(name, fields[name]) for name in names}, _about(model))


def _setting(name: str, field: FieldInfo) -> Setting:
    braced = kinds.section(field.annotation) is not None or has_statements(field)
    kind = None if braced or name in _CALLS else kinds.kind_of(field)
    return Setting(name, kind, None if field.is_required() else field.default, field.is_required(), braced)


def _cost(name: str) -> Setting:
    return Setting(name, kinds.Real(0.0), None, required=False, braced=False)


def _about(model: type) -> str:
    return (model.__doc__ or "").strip()


def home(name: str, value: syntax.Expression | None) -> str | None:
    """A hint for a setting that stands where it does not belong: where it does; None where no place has it."""
    written = "..." if value is None or _is_broken(value) else short(expression(value))
    where = next((path for path, place in places().items() if name in place.settings), None)
    if where is not None:
        return f"`{name}` is a setting of {_called(where)}: write `{_form(where, name, written)}`"
    for path, setting, call in _calls():
        if any(name == argument for argument, _, _ in kinds.arguments(call[1])):
            form = _form(path, setting, f"{call[0]}({name}={written})")
            return f"`{name}` is an argument of `{setting}`: write `{form}`"
    return None


def _is_broken(value: syntax.Expression) -> bool:
    """Whether a part of an expression could not be read."""
    pending: list[syntax.Expression | syntax.Argument] = [value]
    while pending:
        node = pending.pop()
        if isinstance(node, syntax.Broken):
            return True
        pending.extend(expressions_of(node))
    return False


def _calls() -> Iterator[tuple[Path, str, tuple[str, type]]]:
    """Every call that a setting takes, that of its default first."""
    for path, place in places().items():
        for setting in place.settings.values():
            if isinstance(setting.kind, kinds.Called):
                first = type(setting.default)
                for option in sorted(setting.kind.options, key=lambda option: option[1] is not first):
                    yield path, setting.name, option


def _called(path: Path) -> str:
    if path == ("connection",):
        return "a connection"
    return "a network" if path == ("network",) else f"`{' '.join(path)}`"


def _form(path: Path, name: str, written: str) -> str:
    setting = f"{name} {{ ... }}" if _is_braced(path, name) else f"{name} = {written}"
    if path == ("connection",):
        return f"backward source -> target {{ {setting} }}"
    if path == ("network",):
        return setting
    for section in reversed(path):
        setting = f"{section} {{ {setting} }}"
    return setting


def _is_braced(path: Path, name: str) -> bool:
    found = places()[path].settings.get(name)
    return found is not None and found.braced
