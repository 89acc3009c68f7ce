"""`recipe = recommended`: the settings of a section of the standard library, of which a file may set any otherwise.

A recipe is the section `search` of a file in `specs/searches`. `paper` is none: it is what holds where nothing is said.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path

from bcgraph.dsl import syntax
from bcgraph.dsl.parser import parse_file
from bcgraph.dsl.source import Reporter, Source
from bcgraph.schema.search import RECIPES


def with_recipe(body: Sequence[syntax.Statement]) -> tuple[syntax.Statement, ...]:
    """The statements of `search`, after those of the recipe that it names which it does not set itself.

    Sections are merged setting by setting. With a `strategy` of its own a file takes nothing of the recipe's `evolve`,
    and with `maximize` or `minimize` not its `score`. An unknown recipe adds nothing; it is reported as any other word.
    """
    named = [each.value for each in body if _name(each) == "recipe" and isinstance(each, syntax.Assign)]
    if len(named) != 1 or not isinstance(named[0], syntax.Name) or named[0].name not in RECIPES[1:]:
        return tuple(body)
    own = {_name(each): each for each in body}
    inner = own.get("evolve")
    chosen = isinstance(inner, syntax.Section) and "strategy" in set(map(_name, inner.body))
    objectives = not own.keys().isdisjoint({"maximize", "minimize"})
    added: list[syntax.Statement] = []
    merged: dict[str | None, syntax.Statement] = {}
    for statement in statements(named[0].name):
        name, there = _name(statement), own.get(_name(statement))
        if name == "evolve" and chosen:
            continue
        if name == "evolve" and objectives and isinstance(statement, syntax.Section):
            statement = replace(statement, body=tuple(s for s in statement.body if _name(s) != "score"))
        if there is None:
            added.append(statement)
        elif isinstance(there, syntax.Section) and isinstance(statement, syntax.Section):
            set_here = set(map(_name, there.body))
            rest = (each for each in statement.body if _name(each) not in set_here)
            merged[name] = replace(there, body=(*rest, *there.body))
    return (*added, *(merged.get(_name(each), each) for each in body))


@cache
def statements(recipe: str) -> tuple[syntax.Statement, ...]:
    """What stands in the section `search` of a recipe."""
    path = Path(next(iter(import_module("bcgraph.specs.searches").__path__))) / f"{recipe}.bcg"
    reporter = Reporter()
    file = parse_file(Source.of(path.read_text(encoding="utf-8"), str(path)), reporter)
    reporter.check()
    return _search(file.statements)


def _search(found: Iterable[syntax.Statement]) -> tuple[syntax.Statement, ...]:
    return next(each.body for each in found if isinstance(each, syntax.Section) and each.name == "search")


def _name(statement: syntax.Statement) -> str | None:
    """The name of the setting or section that a statement is."""
    match statement:
        case syntax.Assign(target=syntax.Name(name=name)) | syntax.Section(name=name):
            return name
        case _:
            return None
