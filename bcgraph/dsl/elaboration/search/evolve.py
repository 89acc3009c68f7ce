"""The section `evolve`: its settings, and those of its strategy."""

from __future__ import annotations

from collections.abc import Iterator

from bcgraph import plugins
from bcgraph.dsl import syntax
from bcgraph.dsl.elaboration import kinds
from bcgraph.dsl.elaboration.settings import Settings
from bcgraph.schema.search import EvolveSpec, strategy_settings


def evolve_section(section: syntax.Section, settings: Settings) -> EvolveSpec:
    """The settings of an evolution. What is wrong is reported and left out.

    A setting that counts with another strategy alone is an error of its own (E035).
    """
    strategy = _strategy(section)
    own = strategy_settings(strategy)
    fields = {} if own is None else kinds.fields(own)
    elsewhere = {} if set(_names(section)) <= {*kinds.fields(EvolveSpec), *fields} else _of_others(strategy)
    body: list[syntax.Statement] = []
    for statement in section.body:
        match statement:
            case syntax.Assign(target=syntax.Name(name=name) as target) if name in elsewhere and name not in fields:
                # Where the strategy itself is unknown, nothing is known of its settings.
                if strategy is not None and plugins.known("strategy", strategy) is not None:
                    needed = f"strategy = {elsewhere[name]}"
                    hint = f"write `{needed}`, or leave it out"
                    settings.reporter.add("E035", f"`{name}` is a setting of `{needed}`", target.span, hint)
            case _:
                body.append(statement)
    return settings.section(EvolveSpec, body, "evolve", more=fields)


def _strategy(section: syntax.Section) -> str | None:
    """The word after `strategy =`, the default where none is given, None where no word is."""
    found: str | None = EvolveSpec.model_fields["strategy"].default
    for statement in section.body:
        match statement:
            case syntax.Assign(target=syntax.Name(name="strategy"), value=syntax.Name(name=name)):
                return name
            case syntax.Assign(target=syntax.Name(name="strategy")):
                found = None
    return found


def _names(section: syntax.Section) -> Iterator[str]:
    for statement in section.body:
        match statement:
            case syntax.Assign(target=syntax.Name(name=name)):
                yield name


def _of_others(strategy: str | None) -> dict[str, str]:
    """By name of the setting, a strategy of bcgraph itself that has it."""
    every = {name: strategy_settings(name) for name in plugins.names("strategy") if name != strategy}
    return {setting: name for name, own in every.items() if own is not None for setting in kinds.fields(own)}
