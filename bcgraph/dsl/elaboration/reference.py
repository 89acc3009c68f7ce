"""What pages hold of the language: tables of settings, made from the schema, and the texts of the standard library."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

from bcgraph import plugins, schema
from bcgraph.data import declaration
from bcgraph.dsl.elaboration import kinds
from bcgraph.dsl.elaboration.library import standard_folder, standard_names
from bcgraph.names import DEFAULT_NEURON
from bcgraph.schema.values import has_statements

_MARKED = re.compile(r"<!-- settings of (\w+) -->\n(?:\|.*\n)*")
_DATA = re.compile(r"<!-- every data set -->\n(?:\|.*\n)*")
_DECLARED = re.compile(r"<!-- every (predictor|score|strategy) of bcgraph -->\n.*?<!-- end -->\n", re.DOTALL)
_LIBRARY = re.compile(r"<!-- every (\w+) of the library -->\n.*?<!-- end -->\n", re.DOTALL)
# Fields that are not settings.
_NO_SETTINGS = frozenset(("kind", "name", "span", "source", "target"))
# What a network holds besides its settings: each has a section of the page to itself.
_PARTS = frozenset(("backward", "forward", "data", "search", "train", "uses"))


def fill(page: str) -> str:
    """The page with what stands after each `<!-- settings of CLASS -->`, `<!-- every data set -->`, `<!-- every KIND of
    bcgraph -->` and `<!-- every KIND of the library -->` made again; the last two go up to `<!-- end -->`.

    Raises LookupError for a class that is not in the schema and a kind that is not in the library.
    """
    page = _DATA.sub(lambda found: f"<!-- every data set -->\n{data_table()}\n", page)
    page = _MARKED.sub(lambda found: f"{found[0].split(chr(10))[0]}\n{settings_table(found[1])}\n", page)
    page = _DECLARED.sub(lambda found: f"{found[0].split(chr(10))[0]}\n{declared(found[1])}\n<!-- end -->\n", page)
    return _LIBRARY.sub(lambda found: f"{found[0].split(chr(10))[0]}\n\n{library(found[1])}\n<!-- end -->\n", page)


def data_table() -> str:
    """The data sets: what they feed, what lies in `root`, how many samples, settings and what training changes."""
    rows = [
        "| name | input of the network | what lies in `root` | training, test | settings | training changes |",
        "|---|---|---|---|---|---|",
    ]
    for name in declaration.names():
        declared = declaration.find(name)
        assert declared is not None
        forms = declared.forms_of(schema.DataSpec(name=name))
        inputs = " or ".join(f"`{form.told()}`" for form in forms) or "any"
        steps = {form.steps for form in forms} - {None}
        inputs += f", {steps.pop()} steps" if steps else ""
        parts = "what is there" if declared.train is None else f"{declared.train:,}, {declared.test:,}"
        settings = ", ".join(f"`{each}`" for each in declared.settings)
        rows.append(f"| `{name}` | {inputs} | {declared.found} | {parts} | {settings} | {declared.changes} |")
    return "\n".join(rows)


def library(kind: str) -> str:
    """Every `neuron` or `surrogate` of the standard library: what its file says of it, and its text.

    Raises LookupError for another kind.
    """
    parts: list[str] = []
    for name in standard_names(kind):
        lines = (standard_folder(kind) / f"{name}.bcg").read_text(encoding="utf-8").splitlines()
        start = next(number for number, line in enumerate(lines) if line.startswith(f"{kind} {name}("))
        said = " ".join(line.removeprefix("#").strip() for line in lines[:start] if line.startswith("#"))
        parts += [f"### `{name}`", "", said, "", "```text", *lines[start:], "```", ""]
    return "\n".join(parts)


def declared(title: str) -> str:
    """Every `score`, `predictor` or `strategy` of bcgraph itself: name, what it is, and the settings of its own."""
    kind: plugins.Kind = "score" if title == "score" else "predictor" if title == "predictor" else "strategy"
    rows = [f"| {kind} | |", "|---|---|"]
    tables: list[str] = []
    for name in plugins.names(kind):
        entry = plugins.known(kind, name)
        assert entry is not None
        label = f"{entry.value.label}: " if kind == "score" else ""
        rows.append(f"| `{name}` | {label}{entry.value.about} |")
        own = getattr(entry.value, "settings", None)
        if own is not None:
            tables += ["", f"Settings with `strategy = {name}` alone:", "", _table(own)]
    return "\n".join([*rows, *tables])


def settings_table(name: str) -> str:
    """The settings of a class of the schema: name, what is allowed, default. Raises LookupError for another class."""
    return _table(vars(schema)[name])


def _table(model: type) -> str:
    rows = ["| setting | allowed | default |", "|---|---|---|"]
    for setting, field in kinds.fields(model).items():
        if setting in _NO_SETTINGS or (model is schema.NetworkSpec and setting in _PARTS):
            continue
        if kinds.section(field.annotation) is not None or has_statements(field):
            rows.append(f"| `{setting} {{ ... }}` | see below | |")
        elif field.annotation is schema.Backbone:
            rows.append(f"| `{setting}` | a call of a block | required |")
        elif field.annotation is schema.Neuron:
            rows.append(f"| `{setting}` | a call of a neuron | `{DEFAULT_NEURON}()` |")
        elif setting == "read":
            rows.append(f"| `{setting}` | the name of a value of the source's neuron | `{field.default}` |")
        elif setting in ("feedback", "through"):
            rows.append(f"| `{setting}` | `project(...)`, or a call of a block | {_default(setting, field.default)} |")
        else:
            kind = kinds.kind_of(field)
            default = "required" if field.is_required() else _default(setting, field.default)
            if isinstance(kind, kinds.Text):
                default = f'`"{field.default}"`'
            rows.append(f"| `{setting}` | {kinds.describe(kind)} | {default} |")
    return "\n".join(rows)


# What holds where an optional setting is not given.
_UNSET: Mapping[str, str] = {
    "gain": "that of the projection",
    "through": "the network's `feedback`",
    "extra_operations": "any number",
}


def _default(setting: str, value: object) -> str:
    return _UNSET[setting] if value is None else f"`{_shown(value)}`"


def _shown(value: object) -> str:
    """A default as it would be written."""
    match value:
        case bool():
            return "true" if value else "false"
        case tuple():
            return f"[{', '.join(_shown(item) for item in value)}]"
        case int() | float() | str():
            return str(value)
        case _:
            return f"{kinds.call_name(type(value))}()"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(fill(path.read_text(encoding="utf-8")), encoding="utf-8")
