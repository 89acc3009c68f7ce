"""Running many candidates on one batch: what a backward connection leaves as it was is computed once for all.

The trace of a batch holds the values of the network without backward connections. A candidate computes the same values
wherever nothing of its connections has arrived yet: before the first port that one of them leads to, and in the steps
before its delay. There it reads the trace, and only the rest of its program runs. So this is exact, also under batch
statistics, as the batch is the same.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, fx, nn

from bcgraph.compiler import schedules
from bcgraph.compiler.driver import optimized
from bcgraph.compiler.ir import Node, Program
from bcgraph.compiler.ops import NEURONS
from bcgraph.compiler.targets.fx.module import to_fx
from bcgraph.schema import NetworkSpec

# No weight gradients are wanted, so nothing is packed for them. Norms stay where they are: batch statistics need
# them, and with running statistics modules with folded norms stand in (see `bcgraph.search.supernet.shared_weights`).
PASSES = ("dce", "sink_resize", "fuse_lif", "hoist")

Spikes = dict[tuple[int, int], Tensor]
"""For each port and step, the spikes `[N, ...]`."""


class Modules(Protocol):
    """Modules that all candidates share."""

    def root(self, spec: NetworkSpec) -> nn.Module:
        """A tree of the modules that `spec` uses."""
        ...


def program_of(spec: NetworkSpec) -> Program:
    """The program of all steps that traces and candidates share their names and nodes with."""
    return schedules.schedule("unrolled", optimized(spec, PASSES))


def readable(program: Program) -> frozenset[str]:
    """The values of a program without connections that the rest of a candidate may begin from.

    These are the outputs, all spikes (connections begin there), and whatever meets another value after the first step:
    a lone operand has changed where its reader has.
    """
    found = set(program.outputs)
    for node in program.nodes:
        if node.op in NEURONS or node.op == "fire":
            found.add(node.outputs[0].name)
        if node.op in NEURONS or (len(node.inputs) > 1 and node.step != 0):
            found.update(edge.value for edge in node.inputs if node.step != 0)
    return frozenset(found - {v.name for v in program.inputs})


def rest(program: Program, base: Mapping[str, Node], kept: Collection[str]) -> Program:
    """What of a candidate's program remains to be run, with the values that it takes from the trace as further inputs.

    `base` are the nodes of the trace's program by name, `kept` the values that are held.
    """
    same: set[str] = {v.name for v in program.inputs}
    for node in program.nodes:
        if base.get(node.name) == node and all(edge.value in same for edge in node.inputs):
            same.update(v.name for v in node.outputs)
    wanted = set(program.outputs)
    taken = wanted & same & set(kept)
    nodes: list[Node] = []
    for node in reversed(program.nodes):
        missing = [v.name for v in node.outputs if v.name in wanted and v.name not in taken]
        if not missing:
            continue
        nodes.append(node)
        reads = {edge.value for edge in node.inputs}
        wanted |= reads
        taken |= reads & same & set(kept)
    values = program.values()
    inputs = (*program.inputs, *(values[name] for name in sorted(taken)))
    return replace(program, inputs=inputs, nodes=tuple(reversed(nodes)))


class _Reader(fx.Interpreter):
    """Runs a module and keeps its spikes and the values named in `holders` (fx node -> name)."""

    def __init__(self, module: fx.GraphModule, holders: Mapping[fx.Node, str] | None = None) -> None:
        super().__init__(module)
        self.holders = holders or {}
        self.values: dict[str, Tensor] = {}
        self.spikes: Spikes = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n in self.holders:
            self.values[self.holders[n]] = result
        if "spikes" in n.meta:
            port, step, _ = n.meta["spikes"]
            self.spikes[port, step] = result
        return result


@dataclass(frozen=True, eq=False)
class Candidate:
    """The rest of a candidate, compiled: it takes x and then the values `reads` of a trace."""

    module: fx.GraphModule
    reads: tuple[str, ...]

    def run(self, x: Tensor, values: Sequence[Tensor]) -> tuple[Tensor, Spikes]:
        """O `[T, N, classes]`, and the spikes of those ports and steps that differ from the trace."""
        reader = _Reader(self.module)
        return reader.run(x, *values), reader.spikes

    def output(self, x: Tensor, values: Sequence[Tensor]) -> Tensor:
        """O `[T, N, classes]` alone."""
        output: Tensor = self.module(x, *values)
        return output


@dataclass(frozen=True, eq=False)
class Tracer:
    """Makes traces of the backbone of `spec` with `modules`, and the candidates that go on from them.

    With `inference` they run in evaluation mode and without gradients only, and candidates use their memory again.
    """

    modules: Modules
    spec: NetworkSpec
    inference: bool
    program: Program
    nodes: Mapping[str, Node]
    kept: frozenset[str]
    module: fx.GraphModule

    @staticmethod
    def of(modules: Modules, spec: NetworkSpec, *, inference: bool = False) -> Tracer:
        """The tracer for candidates with the backbone of `spec`, whose own connections do not count."""
        plain = spec.with_backward(())
        program = program_of(plain)
        nodes = {node.name: node for node in program.nodes}
        kept = readable(program)
        module = to_fx(program, modules.root(plain), inference=inference, kept=kept)
        return Tracer(modules, plain, inference, program, nodes, kept, module)

    def size(self, samples: int, element: int, *, gradients: bool = False) -> int:
        """About how many bytes a trace of so many samples holds; with `gradients` also what autograd keeps."""
        held = [v for name, v in self.program.values().items() if gradients or name in self.kept]
        return samples * element * sum(math.prod(v.shape) for v in held)

    def candidate(self, spec: NetworkSpec) -> Candidate:
        """Compile what is left to do for `spec`."""
        remains = rest(program_of(spec), self.nodes, self.kept)
        reads = tuple(v.name for v in remains.inputs[len(self.program.inputs) :])
        return Candidate(to_fx(remains, self.modules.root(spec), inference=self.inference), reads)

    def trace(self, x: Tensor) -> Trace:
        """Run the network on `x`. Modes and gradients are the caller's."""
        reader = _Reader(self.module, self._holders())
        output = reader.run(x)
        return Trace(x, output, reader.values, reader.spikes)

    def _holders(self) -> dict[fx.Node, str]:
        """The fx node that holds each kept value: the last one made for its node, or the one that picks it out."""
        found: dict[str, fx.Node] = {}
        for n in self.module.graph.nodes:
            node = self.nodes.get(n.meta.get("bcgraph", ""))
            if node is None:
                continue
            picked = n.target is operator.getitem and len(node.outputs) > 1
            value = node.outputs[n.args[1] if picked else 0].name
            if value in self.kept:
                found[value] = n
        return {n: value for value, n in found.items()}


@dataclass(frozen=True, eq=False)
class Trace:
    """The network without backward connections on the batch `x`: O, and the values and spikes that candidates read."""

    x: Tensor
    output: Tensor
    values: Mapping[str, Tensor]
    spikes: Spikes

    def run(self, candidate: Candidate) -> Tensor:
        """O of a candidate, `[T, N, classes]`, without gradients."""
        with torch.no_grad():
            return candidate.output(self.x, [self.values[name] for name in candidate.reads])
