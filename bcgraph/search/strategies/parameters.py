"""How many values the parameters of Optuna's samplers may have, known without Optuna."""

from __future__ import annotations

from collections.abc import Iterator

from bcgraph.plugins.values import Contradiction
from bcgraph.schema import NetworkSpec
from bcgraph.search.space.search_space import of_search

MAX_CHOICES = 200_000
"""Values of all parameters together that Optuna's samplers are given."""


def too_many(spec: NetworkSpec) -> Iterator[Contradiction]:
    """The contradiction of a space with more than `MAX_CHOICES` of them."""
    choices = of_search(spec)
    if choices.count * min(choices.most, choices.count) > MAX_CHOICES:
        noun, bound = ("pairs", "max_backward") if spec.search.space is None else ("connections", "at_most")
        yield Contradiction(
            "strategy",
            f"evolve.strategy = {spec.search.evolve.strategy} cannot choose among {choices.count:,} {noun} for each of "
            f"{choices.most:,} connections",
            f"strategy = evolutionary, or a smaller {bound}",
        )
