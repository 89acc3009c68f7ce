"""The section `search`: parts with statements of their own, and the settings."""

from __future__ import annotations

from typing import Any

from bcgraph.dsl import syntax
from bcgraph.dsl.elaboration.search.bounds import bounds
from bcgraph.dsl.elaboration.search.evolve import evolve_section
from bcgraph.dsl.elaboration.search.recipe import with_recipe
from bcgraph.dsl.elaboration.search.space import SpaceReader
from bcgraph.dsl.elaboration.settings import Settings
from bcgraph.errors import Span
from bcgraph.schema.search import SearchSpec


def search_section(section: syntax.Section, settings: Settings, space: SpaceReader) -> SearchSpec:
    """The settings of a search. What is wrong is reported and left out."""
    given: dict[str, Any] = {}
    seen: dict[str, Span] = {}
    rest: list[syntax.Statement] = []
    for statement in with_recipe(section.body):
        match statement:
            case syntax.Section(name="space"):
                if settings.first("space", statement.name_span, seen):
                    given["space"] = space.read(statement.body)
            case syntax.Section(name="subject_to"):
                if settings.first("subject_to", statement.name_span, seen):
                    given["subject_to"] = bounds(statement.body, settings)
            case syntax.Section(name="evolve"):
                if settings.first("evolve", statement.name_span, seen):
                    given["evolve"] = evolve_section(statement, settings)
            case _:
                rest.append(statement)
    return settings.section(SearchSpec, rest, "search", given=given, seen=seen)
