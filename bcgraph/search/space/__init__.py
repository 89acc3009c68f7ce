"""The search space and its operators, one a file: pure functions from a spec and a generator to a spec."""

from bcgraph.search.space.crossover import crossover
from bcgraph.search.space.mutate import mutate
from bcgraph.search.space.sample import sample
from bcgraph.search.space.search_space import space, space_size

__all__ = ["crossover", "mutate", "sample", "space", "space_size"]
