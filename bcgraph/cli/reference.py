"""The reference of the commands, `docs/commands.md`: every command with its arguments, options and examples."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import EnumType
from inspect import signature
from pathlib import Path
from typing import Any, get_args, get_type_hints

from typer.models import ArgumentInfo, OptionInfo

from bcgraph.cli.examples import EXAMPLES
from bcgraph.cli.main import COMMANDS, function

_MARKED = re.compile(r"<!-- every command -->\n.*?<!-- end -->\n", re.DOTALL)

# The page that shows a command at work.
PAGES: Mapping[str, str] = {
    "new": "../README.md#install",
    "demo": "../README.md#install",
    "check": "../README.md#mistakes",
    "fmt": "language.md",
    "show": "architecture.md",
    "import": "importing.md",
    "compile": "deployment.md",
    "score": "scores.md",
    "search": "search.md",
    "train": "training.md",
    "eval": "training.md",
    "run": "deployment.md#an-example",
    "profile": "training.md#what-a-network-costs",
    "draw": "pictures.md",
    "report": "search.md",
    "compare": "search.md#the-last-stage",
    "view": "pictures.md#a-page-to-switch-connections-on",
    "lsp": "../editors/README.md",
    "data": "training.md#data-sets",
    "explain": "errors.md",
    "plugins": "extending.md#a-package",
}


def fill(page: str) -> str:
    """The page with what stands between `<!-- every command -->` and `<!-- end -->` made again."""
    return _MARKED.sub(lambda _: f"<!-- every command -->\n\n{reference()}\n<!-- end -->\n", page)


def reference() -> str:
    """A section for each command."""
    return "\n".join(line for name in COMMANDS for line in _section(name))


@dataclass(frozen=True)
class Parameter:
    """An argument (without names) or an option of a command: names, what stands for its value, help, default."""

    names: tuple[str, ...]
    value: str
    help: str
    default: str

    def __str__(self) -> str:
        names = ", ".join(f"`{name}`" for name in self.names)
        called = f"{names} `{self.value}`".lstrip() if self.value else names
        return f"| {called} | {self.help} | {self.default} |"


def parameters(name: str) -> list[Parameter]:
    """The arguments and options of a command, in the order of its help, but `--help`."""
    called = function(name)
    hints = get_type_hints(called, include_extras=True)
    return [_parameter(each, hints[each.name]) for each in signature(called).parameters.values()]


def _parameter(given: inspect.Parameter, hint: Any) -> Parameter:
    kind, info = get_args(hint)
    assert isinstance(info, (ArgumentInfo, OptionInfo))
    assert info.help
    required = given.default is inspect.Parameter.empty
    if isinstance(info, ArgumentInfo):
        return Parameter((), info.metavar or given.name.upper(), info.help, "required" if required else "")
    # In `Annotated` typer takes the first name where a default would stand.
    declared = [each for each in (info.default, *(info.param_decls or ())) if isinstance(each, str)]
    declared = sorted(declared or [f"--{given.name}/--no-{given.name}"], key=len, reverse=True)
    names = tuple(name for each in declared for name in each.split("/"))
    value = "" if kind is bool else info.metavar or _value(kind)
    default = "required" if required else _default(given.default, info.show_default, names)
    return Parameter(names, value, info.help, default)


def _value(kind: Any) -> str:
    """What stands for a value without a name of its own: its choices, or its type."""
    return "\\|".join(kind) if isinstance(kind, EnumType) else {int: "N", str: "TEXT"}[kind]


def _default(value: Any, shown: bool | str, names: tuple[str, ...]) -> str:
    if isinstance(shown, str):
        return shown
    if value is True:
        return f"`{names[0]}`"
    return "" if value is False or value in (None, "", []) else f"`{value}`"


def _section(name: str) -> Iterator[str]:
    given = parameters(name)
    operands = [each.value if each.default else f"[{each.value}]" for each in given if not each.names]
    yield f"### {name}"
    yield ""
    yield f"`{' '.join(('bcgraph', name, *operands))}`. {COMMANDS[name]}" + _more(name)
    yield ""
    if given:
        yield from ("| argument or option | what it is | default |", "|---|---|---|", *map(str, given), "")
    yield "<!-- not run: these files stand for yours; tests/cli/test_first.py reads each line as usage -->"
    yield ""
    yield from ("```console", *(f"$ {line}" for line in EXAMPLES[name]), "```", "")


def _more(name: str) -> str:
    return f" See [{PAGES[name].partition('#')[0].rpartition('/')[2]}]({PAGES[name]})." if name in PAGES else ""


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(fill(path.read_text(encoding="utf-8")), encoding="utf-8")
