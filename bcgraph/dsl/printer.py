"""Canonical texts: of a specification, and of the blocks it needs.

Equal specifications have equal texts, and a text means the specification it was printed from. Layout is left to
`fmt`, so a canonical text is also a formatted one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from bcgraph import schema, spaces
from bcgraph.dsl.elaboration import kinds
from bcgraph.dsl.fmt import format_text
from bcgraph.dsl.tokens import escape
from bcgraph.dsl.unparse import scalar
from bcgraph.dsl.wording import KEYWORDS
from bcgraph.errors import SpecError
from bcgraph.schema.search import RECIPES, SpaceSpec
from bcgraph.schema.values import has_statements

if TYPE_CHECKING:
    pass

_WIDTH = 80
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")
# Settings beyond the paper's: written where they are not at their defaults.
_EXTRA = frozenset(
    (
        "accumulate",
        "augment",
        "autoaugment",
        "beside",
        "choose",
        "for",
        "clip",
        "cutout",
        "distill",
        "download",
        "ema",
        "events",
        "finish",
        "gain",
        "held_out",
        "label_smoothing",
        "maximize",
        "mean_squared",
        "minimize",
        "mixup",
        "recipe",
        "scales",
        "size",
        "teacher",
        "temperature",
        "test",
        "train",
    )
)
# The same, where a setting of this name is written in full elsewhere.
_SINGLE = frozenset({(schema.SupernetSpec, "seeds")})


# --- Specifications ---------------------------------------------------------------------------------------


def format_spec(spec: schema.NetworkSpec) -> str:
    """The canonical text of a specification: `parse(format_spec(spec)) == spec`.

    Backward connections are sorted and written by name; data, search and training are written in full, but for what
    goes beyond the paper and is off. The text contains every block that is not in the standard library. Raises
    SpecError E005 when a name in a specification made by hand cannot stand in a text.
    """
    lines = ["bcg 1", "", *(f"use {escape(name)}" for name in spec.uses), *[""] * bool(spec.uses)]
    blocks = spec.backbone.source
    used = [spec.feedback, *(each.through for each in spec.in_order)]
    used += [] if spec.search.space is None else [t for rule in spec.search.space.rules for t in rule.through]
    sources = [each.source for each in used if isinstance(each, schema.OwnProjection)]
    texts = dict.fromkeys(text for source in (spec.neuron.source, *sources) for text in source)
    lines += [part for text in texts if text not in blocks for part in (text, "")]
    if blocks:
        lines += [blocks, ""]
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
        lines.append(f"feedback = {_through(spec.feedback)}")
    lines.append(f"backbone = {_call(spec.backbone.call)}")
    if spec.connections:
        lines.append("")
    for each in spec.in_order:
        lines.append(f"{each.word} {spec.ports[each.source]} -> {spec.ports[each.target]}{_braces(each)}")
    lines += ["}", "", f"data = {_name(spec.data.name)}({_arguments(spec.data)})"]
    for name, section in (("search", spec.search), ("train", spec.train)):
        lines += ["", f"{name} {{", *_settings(section, spec.ports), "}"]
    return format_text("\n".join(lines) + "\n", file=f"<{spec.name}>")


def _call(call: schema.Call) -> str:
    arguments = ", ".join(f"{_name(name)}={scalar(value)}" for name, value in call.arguments)
    return f"{_name(call.name)}({arguments})"


def _through(through: schema.Through) -> str:
    return _call(through.call) if isinstance(through, schema.OwnProjection) else str(through)


def _braces(connection: schema.Connection) -> str:
    """The settings of a connection that are not at their defaults, in their braces."""
    return connection.braces(lambda each: _through(each) if isinstance(each, schema.Through) else _value(each))


def _settings(section: BaseModel, ports: Sequence[str], every: bool = False) -> Iterator[str]:
    """The settings of a section. With `every` also those beyond the paper's that are at their defaults."""
    every = every or getattr(section, "recipe", RECIPES[0]) != RECIPES[0]
    for name, field in kinds.fields(type(section)).items():
        value = getattr(section, name)
        left_out = name in _EXTRA and value == field.default and (value is None or not every)
        left_out |= (type(section), name) in _SINGLE and value == field.default
        left_out |= name == "max_backward" and getattr(section, "space", None) is not None
        left_out |= has_statements(field) and value == field.default
        if left_out:
            continue
        if name == "subject_to":
            yield f"subject_to {{ {'; '.join(map(str, value))} }}"
            continue
        if isinstance(value, SpaceSpec):
            yield f"space {{\n{_lines(_space(value, ports))}\n}}"
            continue
        if isinstance(value, BaseModel) and "kind" not in type(value).model_fields:
            yield f"{name} {{ {_wrapped(_settings(value, ports, every))} }}"
        else:
            yield f"{name} = {escape(value) if _is_text(field) else _value(value)}"
    # What its strategy alone has; a setting that is None has no text.
    for name, value in getattr(section, "own", None) or ():
        if value is not None:
            yield f"{name} = {_value(value)}"


def _is_text(field: FieldInfo) -> bool:
    """Whether a setting is a text in quotes."""
    return field.annotation is str and isinstance(kinds.kind_of(field), kinds.Text)


def _space(space: SpaceSpec, ports: Sequence[str]) -> Iterator[str]:
    """The lines of a space, ports by name."""
    for rule in space.rules:
        given = [(name, getattr(rule, name)) for name in ("delay", "through", "join", "read")]
        shown = [f"{name} = {_listed(found)}" for name, found in given if found]
        yield spaces.line(rule, ports) + (f" {{ {'; '.join(shown)} }}" if shown else "")
    yield f"at_most = {space.at_most}"


def _listed(values: Sequence[Any]) -> str:
    shown = [_through(each) if isinstance(each, schema.Through) else _value(each) for each in values]
    return shown[0] if len(shown) == 1 else f"[{', '.join(shown)}]"


def _lines(found: Iterable[str]) -> str:
    return "\n".join(found)


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
    if isinstance(value, schema.SequenceInput):
        return ", ".join(map(str, value.shape))
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
            return scalar(value)
        case str():
            return value
        case schema.Neuron() | schema.Surrogate():
            arguments = ", ".join(f"{name}={_value(given)}" for name, given in value.arguments)
            return f"{_name(value.name)}({arguments})"
        case tuple():
            return f"[{', '.join(_value(item) for item in value)}]"
        case _:
            return f"{kinds.call_name(type(value))}({_arguments(value)})"


def _name(name: str) -> str:
    if not _NAME.fullmatch(name) or name in KEYWORDS:
        raise SpecError("E005", f"{name!r} cannot be a name in a text", hint="letters, digits and `_`")
    return name
