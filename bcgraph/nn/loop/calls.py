"""What a feedback loop of vectors computes at each step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from torch import Tensor

from bcgraph.equations.neuron import Equations
from bcgraph.equations.simplify import NoValueError
from bcgraph.nn.modules import BatchNorm
from bcgraph.nn.neuron.kernel import Kernel, kernel
from bcgraph.nn.norm import split


@dataclass(frozen=True, slots=True)
class Product:
    """`gives = reads @ weight.T + bias`, at the first `steps` steps; `weight` and `bias` are names of parameters."""

    gives: str
    reads: str
    weight: str
    bias: str | None
    steps: int


@dataclass(frozen=True, slots=True)
class Norm:
    """A batch norm of the value `reads`, at the first `steps` steps; `module` is its name in the network."""

    gives: str
    reads: str
    module: str
    steps: int


@dataclass(frozen=True)
class Fire:
    """A neuron, at all steps: from its current and its states of the step before to what its equations give.

    The current is the sum of `currents`, each a value and by how many steps it is late; what is not there yet is left
    out. `learned` are names of parameters.
    """

    port: int
    gives: tuple[str, ...]
    currents: tuple[tuple[str, int], ...]
    equations: Equations
    learned: tuple[str, ...]

    @cached_property
    def kernels(self) -> tuple[Kernel, Kernel]:
        """The kernel of the first step, which has no states to read, and that of all others."""
        try:
            first = self.equations.without(self.equations.states)
        except NoValueError:
            first = self.equations
        return kernel(first), kernel(self.equations)

    @cached_property
    def states(self) -> dict[str, str]:
        """For each state that the equations read, by the key of its value before, the value that holds it."""
        held = dict(zip(self.equations.gives, self.gives, strict=True))
        return {key: held[name] for name, key in zip(self.equations.states, self.kernels[1].states, strict=True)}


Call: TypeAlias = Product | Norm | Fire


@dataclass(frozen=True, eq=False)
class Loop:
    """A loop of `calls`, `steps` times. It owns nothing: parameters are given, norms stand in the network.

    `frames` are the names of what is given for all steps, `[T*N, C]`; those in `steady` are the same at every step, and
    given once, `[N, C]`. `fixed` are the names of parameters. `results` are the values that it gives.
    """

    calls: tuple[Call, ...]
    steps: int
    frames: tuple[str, ...]
    steady: frozenset[str]
    fixed: tuple[str, ...]
    results: tuple[str, ...]
    norms: Mapping[str, BatchNorm]

    def of_steps(self, name: str, x: Tensor) -> Sequence[Tensor]:
        """The steps of something that is given."""
        return (x,) if name in self.steady else split(x, self.steps)


def longest_delays(calls: Iterable[Call]) -> dict[str, int]:
    """For each value that is read late, by how many steps at most."""
    found: dict[str, int] = {}
    for call in calls:
        if isinstance(call, Fire):
            for name, late in (*call.currents, *((state, 1) for state in call.states.values())):
                found[name] = max(late, found.get(name, 0))
    return found


def kept(calls: Iterable[Call]) -> set[str]:
    """The values of which the backward pass reads all steps."""
    found: set[str] = set()
    for call in calls:
        if isinstance(call, Fire):
            held = {key for one in call.kernels for key in one.held}
            found.update(value for key, value in call.states.items() if key in held)
        else:
            found.add(call.reads)
    return found
