"""The prefix cache: many candidates run on one batch and share what no backward connection has changed yet.

The cache of a batch holds the values of the network without backward connections. A candidate computes the same values
before the first port that one of its connections leads to, and in the steps before its delay. There it reads the cache,
and only its suffix runs. The batch is the same, so this is exact, also under batch statistics.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor, fx, nn

from bcgraph.compiler.ir import Node, Program
from bcgraph.compiler.ops import Trait, has
from bcgraph.compiler.targets.fx.direct import Direct
from bcgraph.compiler.targets.fx.module import to_fx
from bcgraph.compiler.targets.fx.observer import Observer
from bcgraph.nn import tree
from bcgraph.schema import NetworkSpec
from bcgraph.search.supernet.lowered import Lowered, Lowering

Spikes = dict[tuple[int, int], Tensor]
"""For each port and step, the spikes `[N, ...]`."""


class Modules(Protocol):
    """Modules that all candidates share."""

    def assemble(self, network: Lowered) -> nn.Module:
        """A tree of the modules that `network` uses."""
        ...


def cacheable(program: Program) -> frozenset[str]:
    """The values of a program without connections that the suffix of a candidate may begin from.

    These are the outputs, all spikes (connections begin there), and whatever meets another value after the first step:
    a lone operand has changed where its reader has.
    """
    found = set(program.outputs)
    for node in program.nodes:
        if has(node, Trait.FIRES):
            found.add(node.outputs[0].name)
        if has(node, Trait.NEURON) or (len(node.inputs) > 1 and node.step != 0):
            found.update(edge.value for edge in node.inputs if node.step != 0)
    return frozenset(found - {v.name for v in program.inputs})


def suffix(program: Program, base: Mapping[str, Node], cached: Collection[str]) -> Program:
    """The part of a candidate's program that must run. The cached values that it reads are further inputs.

    `base` are the nodes of the backbone's program by name, `cached` the names of the values in the cache.
    """
    same: set[str] = {v.name for v in program.inputs}
    for node in program.nodes:
        known = base.get(node.name)
        # Most often it is that node itself: to compare all that it holds takes longer than the rest.
        if (known is node or known == node) and all(edge.value in same for edge in node.inputs):
            same.update(v.name for v in node.outputs)
    wanted = set(program.outputs)
    taken = wanted & same & set(cached)
    nodes: list[Node] = []
    for node in reversed(program.nodes):
        missing = [v.name for v in node.outputs if v.name in wanted and v.name not in taken]
        if not missing:
            continue
        nodes.append(node)
        reads = {edge.value for edge in node.inputs}
        wanted |= reads
        taken |= reads & same & set(cached)
    values = program.values()
    inputs = (*program.inputs, *(values[name] for name in sorted(taken)))
    return replace(program, inputs=inputs, nodes=tuple(reversed(nodes)))


def fired(program: Program) -> dict[str, tuple[int, int]]:
    """The values of `program` that ports send, with port and step."""
    return {node.outputs[0].name: (node.port or 0, node.step or 0) for node in program.nodes if has(node, Trait.FIRES)}


@dataclass(frozen=True, eq=False)
class Suffix:
    """The suffix of a candidate: its module takes x and then the cached values named in `reads`.

    One that is run again and again, for inference, is compiled. Another one also gives its spikes, of the ports and
    steps in `fires`.
    """

    module: fx.GraphModule | Direct
    reads: tuple[str, ...]
    fires: tuple[tuple[int, int], ...]

    def observe(self, x: Tensor, values: Sequence[Tensor]) -> tuple[Tensor, Spikes]:
        """O `[T, N, classes]`, and the spikes of those ports and steps that differ from the cache."""
        assert isinstance(self.module, Direct)
        output, *spikes = self.module(x, *values)
        return output, dict(zip(self.fires, spikes, strict=True))

    def output(self, x: Tensor, values: Sequence[Tensor]) -> Tensor:
        """O `[T, N, classes]` alone."""
        assert not isinstance(self.module, Direct)
        output: Tensor = self.module(x, *values)
        return output


@dataclass(frozen=True, eq=False)
class PrefixModel:
    """The backbone of `spec`, compiled with `modules`. It fills caches and compiles the suffixes of candidates.

    With `inference` everything runs in evaluation mode and without gradients only, and suffixes reuse their memory.
    """

    modules: Modules
    lowering: Lowering
    inference: bool
    program: Program
    nodes: Mapping[str, Node]
    cached: frozenset[str]
    module: fx.GraphModule

    @staticmethod
    def of(modules: Modules, spec: NetworkSpec | Lowering, *, inference: bool = False) -> PrefixModel:
        """The model for candidates with the backbone of `spec`. Ignores the connections of `spec` itself.

        A `Lowering` of such candidates may be shared by several models.
        """
        lowering = spec if isinstance(spec, Lowering) else Lowering(spec)
        program = lowering.plain.program
        nodes = {node.name: node for node in program.nodes}
        cached = cacheable(program)
        module = to_fx(program, modules.assemble(lowering.plain), inference=inference, kept=cached)
        return PrefixModel(modules, lowering, inference, program, nodes, cached, module)

    @cached_property
    def _everything(self) -> dict[str, nn.Module]:
        """The modules of all candidates whose programs are known without their graphs, by name."""
        assert self.lowering.everything is not None
        return self._layers(self.lowering.everything, self.lowering.everything.graph.nodes)

    def layers(self, candidate: Lowered, program: Program) -> dict[str, nn.Module]:
        """The modules of `program`, a part of that of `candidate`, by the names that they have in it."""
        if candidate.known is None:
            return self._layers(candidate, program.nodes)
        return {node.module: self._everything[node.module] for node in program.nodes if node.module is not None}

    def _layers(self, network: Lowered, nodes: Iterable[Node]) -> dict[str, nn.Module]:
        root = self.modules.assemble(network)
        return {name: tree.find(root, name) for name in dict.fromkeys(n.module for n in nodes) if name is not None}

    def size(self, samples: int, element: int, *, gradients: bool = False) -> int:
        """About how many bytes a cache of so many samples takes; with `gradients` also what autograd keeps."""
        held = [v for name, v in self.program.values().items() if gradients or name in self.cached]
        return samples * element * sum(math.prod(v.shape) for v in held)

    def suffix(self, candidate: Lowered) -> Suffix:
        """The suffix of `candidate`. Raises CompileError."""
        program = suffix(candidate.program, self.nodes, self.cached)
        reads = tuple(v.name for v in program.inputs[len(self.program.inputs) :])
        root = tree.of(self.layers(candidate, program))
        if self.inference:
            return Suffix(to_fx(program, root, inference=True), reads, ())
        spikes = fired(program)
        whole = replace(program, outputs=(*program.outputs, *spikes))
        return Suffix(Direct(whole, root), reads, tuple(spikes.values()))

    def cache(self, x: Tensor) -> PrefixCache:
        """Run the network on `x`. Modes and gradients are the caller's."""
        # Without copies: the memory plan leaves cached values alone.
        observer = Observer(self.module, self._holders(), copies=False)
        output = observer.run(x)
        return PrefixCache(x, output, observer.values, observer.spikes)

    def _holders(self) -> dict[str, fx.Node]:
        """The fx node that holds each cached value: the last one emitted for its node, or the one that picks it out."""
        found: dict[str, fx.Node] = {}
        for n in self.module.graph.nodes:
            node = self.nodes.get(n.meta.get("bcgraph", ""))
            if node is None:
                continue
            picked = n.target is operator.getitem and len(node.outputs) > 1
            value = node.outputs[n.args[1] if picked else 0].name
            if value in self.cached:
                found[value] = n
        return found


@dataclass(frozen=True, eq=False)
class PrefixCache:
    """The network without backward connections on the batch `x`: O, and the values and spikes that candidates read."""

    x: Tensor
    output: Tensor
    values: Mapping[str, Tensor]
    spikes: Spikes

    def run(self, candidate: Suffix) -> Tensor:
        """O of a candidate, `[T, N, classes]`, without gradients."""
        with torch.no_grad():
            return candidate.output(self.x, [self.values[name] for name in candidate.reads])
