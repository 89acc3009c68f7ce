"""Search operators: pure functions from a spec and a generator to a spec, one a file."""

from bcgraph.search.operators.crossover import crossover
from bcgraph.search.operators.mutate import mutate
from bcgraph.search.operators.sample import sample
from bcgraph.search.operators.space import space, space_size

__all__ = ["crossover", "mutate", "sample", "space", "space_size"]
