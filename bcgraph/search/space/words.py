"""A search space in plain words, with its exact size."""

from __future__ import annotations

from bcgraph.schema import NetworkSpec
from bcgraph.schema.search import Rule
from bcgraph.search.space.search_space import of_search, size_text

# How the ends of a family that are no single port are called.
_ANY = {"any": "any", "later": "any later"}


def describe(spec: NetworkSpec) -> list[str]:
    """The space of the search of `spec`: a line for each family, and one for the sets and their number."""
    search = spec.search
    found = of_search(spec)
    size = (
        f"{_counted(found.size, 'architecture')}" if found.size < 10**18 else f"{size_text(found.size)} architectures"
    )
    which = " between ports of one resolution" if search.same_resolution else ""
    which += f" that {search.target} carries" if search.target != "any" else ""
    if search.space is None:
        pairs = _counted(found.count, "connection")
        return [
            f"every backward connection{which}, with a delay of 1: {pairs}",
            f"sets of at most {found.most}: {size}",
        ]
    lines = [_family(rule, spec) + which for rule in search.space.of("backward", "forward")]
    lines += [f"never {_ends(rule, spec)}{_values(rule)}" for rule in search.space.of("forbid")]
    lines += [f"always {_ends(rule, spec)}{_values(rule)}" for rule in search.space.of("fixed")]
    beside = f" beside {_counted(len(found.fixed), 'fixed one')}" if found.fixed else ""
    return [*lines, f"sets of at most {found.most} of {_counted(found.count, 'connection')}{beside}: {size}"]


def _family(rule: Rule, spec: NetworkSpec) -> str:
    return f"{rule.kind} {_ends(rule, spec)}{_values(rule) or ', delay 1'}"


def _ends(rule: Rule, spec: NetworkSpec) -> str:
    ends = [spec.ports[e] if isinstance(e, int) else f"{_ANY[e]} port" for e in (rule.source, rule.target)]
    return f"from {ends[0]} to {ends[1]}"


def _values(rule: Rule) -> str:
    given = (("delay", rule.delay), ("through", rule.through), ("join", rule.join), ("reading", rule.read))
    return "".join(f", {word} {' or '.join(map(str, values))}" for word, values in given if values)


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
