"""Candidates side by side: the suffixes of several as one program, whose values hold a lane for each that differs.

A lane is the batch of one candidate. The lanes of a value stand along its batch axis, `[R*N, ...]`, so one call of a
layer computes all of them. A candidate has a lane only where its value is not that of another candidate or of the
prefix cache, and a connection is computed only for those that have it: nothing is multiplied by zero. Norms with batch
statistics take those of each lane; what else may mix the samples of a batch runs once a lane.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, fx, nn

from bcgraph.compiler.ir import Edge, Node, Program, Value
from bcgraph.compiler.ops import Trait, attributes, has
from bcgraph.compiler.ops.layers import by_step
from bcgraph.compiler.targets.fx.direct import Direct
from bcgraph.compiler.targets.fx.module import to_fx
from bcgraph.nn import tree
from bcgraph.nn.lanes import lanes_of
from bcgraph.search.supernet.lowered import Lowered
from bcgraph.search.supernet.prefix_cache import PrefixModel, fired, suffix


class Lane(NamedTuple):
    """Where the value of one candidate is: the tensor that holds it, and its lane there."""

    tensor: str
    number: int


@dataclass(frozen=True, eq=False)
class SideBySide:
    """The program of several candidates. It takes x and the cached values `reads`, and gives the tensors `gives`.

    `held` are the lanes of each of those tensors, `where` for each candidate the lanes of its values by name.
    """

    program: Program
    reads: tuple[str, ...]
    gives: tuple[str, ...]
    held: Mapping[str, int]
    where: tuple[Mapping[str, Lane], ...]


def side_by_side(
    programs: Sequence[Program],
    wanted: Callable[[Program], Iterable[str]],
    *,
    inputs: int,
    apart: int = 0,
    statistics: bool = True,
    together: bool = False,
) -> SideBySide:
    """One program for `programs`, of whose inputs the first `inputs` are those of the network and others are cached.

    The values `wanted` of each leave it. With `apart` all inputs have that many lanes, one for each candidate, and no
    two candidates share a value, so that gradients can be told apart; else inputs have one lane. `statistics` says that
    norms take batch statistics, and `together` that a value of all candidates leaves the program in one tensor.
    """
    merger = _Merger(programs, inputs, apart, statistics)
    for key in _in_order(programs):
        merger.place(key)
    return merger.result(wanted, together)


class _Merger:
    def __init__(self, programs: Sequence[Program], inputs: int, apart: int, statistics: bool) -> None:
        self.programs = programs
        self.fed = programs[0].inputs[:inputs]
        self.apart = apart
        self.statistics = statistics
        cached = {v.name: v for p in programs for v in p.inputs[inputs:]}
        self.cached = tuple(cached[name] for name in sorted(cached))
        self.given = frozenset(v.name for v in (*self.fed, *self.cached))
        self.held: dict[str, int] = dict.fromkeys(self.given, apart or 1)
        self.values: dict[str, Value] = {v.name: v for v in (*self.fed, *self.cached)}
        self.where: list[dict[str, Lane]] = [
            {v.name: Lane(v.name, k if apart else 0) for v in p.inputs} for k, p in enumerate(programs)
        ]
        self.by_key = [{key_of(node): node for node in p.nodes} for p in programs]
        self.nodes: list[Node] = []
        self.gathered: dict[tuple[Lane, ...], str] = {}

    def place(self, key: Key) -> None:
        """Place what the candidates have under `key`: a call for each kind of node, a lane for each version."""
        kinds: list[Node] = []
        versions: dict[tuple[int, tuple[Lane, ...], int], list[int]] = {}
        for k, nodes in enumerate(self.by_key):
            node = nodes.get(key)
            if node is None:
                continue
            if node not in kinds:
                kinds.append(node)
            reads = tuple(self.where[k][e.value] for e in node.inputs)
            own = k if self.apart and not self.for_all(node) else -1
            versions.setdefault((kinds.index(node), reads if own >= 0 or not self.apart else (), own), []).append(k)
        for number, node in enumerate(kinds):
            found = [(reads, members) for (kind, reads, _), members in versions.items() if kind == number]
            # Lanes that stand together already, in the order in which they do.
            found.sort(key=lambda each: [(lane.tensor in self.given, lane.number) for lane in each[0][:1]])
            single = has(node, Trait.MIXES) and (node.op != "bn" or (self.statistics and by_step(node)))
            for part in [[each] for each in found] if single else [found]:
                self.call(node, part)

    def for_all(self, node: Node) -> bool:
        """Whether the node is one for all lanes of the input: it reads nothing else."""
        return all(e.value in {v.name for v in self.fed} for e in node.inputs)

    def call(self, node: Node, versions: Sequence[tuple[tuple[Lane, ...], list[int]]]) -> None:
        every = self.apart > 0 and self.for_all(node)
        lanes = self.apart if every else len(versions)
        reads = node.inputs
        if not every:
            operands = zip(*(reads for reads, _ in versions), strict=True)
            reads = tuple(Edge(self.gather(tuple(operand))) for operand in operands)
        number = len(self.nodes)
        outputs = tuple(
            replace(v, name=f"{v.name}#{number}", steps=lanes if lanes > 1 and not v.steps else v.steps)
            for v in node.outputs
        )
        if node.op == "bn" and self.statistics and not by_step(node):
            # Running statistics are restored anyway, and lanes have no order to update them in.
            node = node.with_attrs(steps=lanes, updates=0)
        self.nodes.append(replace(node, name=f"{node.name}#{number}", inputs=reads, outputs=outputs))
        for before, after in zip(node.outputs, outputs, strict=True):
            self.values[after.name] = after
            self.held[after.name] = lanes
            for lane, (_, members) in enumerate(versions):
                for k in members:
                    self.where[k][before.name] = Lane(after.name, k if every else lane)

    def gather(self, lanes: tuple[Lane, ...]) -> str:
        """The name of a tensor that holds these lanes, and no others."""
        tensor = lanes[0].tensor
        if lanes == tuple(Lane(tensor, i) for i in range(self.held[tensor])):
            return tensor
        if lanes not in self.gathered:
            tensors = tuple(dict.fromkeys(lane.tensor for lane in lanes))
            name = f"{tensor}#{len(self.nodes)}"
            value = Value(name, self.values[tensor].shape, len(lanes) if len(lanes) > 1 else 0)
            attrs = attributes(
                held=tuple(self.held[t] for t in tensors),
                picks=tuple((tensors.index(lane.tensor), lane.number) for lane in lanes),
            )
            self.nodes.append(Node(name, "lanes", tuple(map(Edge, tensors)), (value,), attrs))
            self.values[name], self.held[name] = value, len(lanes)
            self.gathered[lanes] = name
        return self.gathered[lanes]

    def result(self, wanted: Callable[[Program], Iterable[str]], together: bool) -> SideBySide:
        first = self.programs[0]
        for name in wanted(first) if together else ():
            tensor = self.gather(tuple(own[name] for own in self.where))
            for k, own in enumerate(self.where):
                own[name] = Lane(tensor, k)
        where = tuple({name: self.where[k][name] for name in wanted(p)} for k, p in enumerate(self.programs))
        gives = tuple(dict.fromkeys(lane.tensor for lanes in where for lane in lanes.values()))
        program = replace(
            first, schedule="lanes", inputs=(*self.fed, *self.cached), nodes=tuple(self.nodes), outputs=gives
        )
        held = {tensor: self.held[tensor] for tensor in gives}
        return SideBySide(program, tuple(v.name for v in self.cached), gives, held, where)


Key = tuple[str, ...]
"""What tells nodes apart: the values that they make."""


def key_of(node: Node) -> Key:
    """The key of a node. One that is fused with others in one candidate alone has another key there."""
    return tuple(v.name for v in node.outputs)


def _in_order(programs: Sequence[Program]) -> Iterator[Key]:
    """The keys of the nodes of all programs, each after those that it reads in any of them, step by step."""
    before: dict[Key, set[Key]] = {}
    rank: dict[Key, tuple[int, int]] = {}
    for p in programs:
        makers = {v.name: key_of(node) for node in p.nodes for v in node.outputs}
        for place, node in enumerate(p.nodes):
            reads = {makers[e.value] for e in node.inputs if e.value in makers}
            before.setdefault(key_of(node), set()).update(reads)
            step = p.steps if node.op == "stack" else -1 if node.step is None else node.step
            rank.setdefault(key_of(node), (step, place))
    done: set[Key] = set()
    opened: set[Key] = set()
    for key in sorted(rank, key=rank.__getitem__):
        # From step to step keys are in order already, so this is short.
        waiting = [key]
        while waiting:
            last = waiting[-1]
            missing = [] if last in done else sorted(before[last] - done, key=rank.__getitem__)
            opened.add(last)
            assert opened.isdisjoint(missing), f"{last} is a part of a loop"
            waiting.extend(missing)
            if not missing:
                waiting.pop()
                if last not in done:
                    done.add(last)
                    yield last


@dataclass(frozen=True, eq=False)
class LaneSuffixes:
    """The suffixes of several candidates, compiled as one module, which takes x and the cached values `reads`.

    `outputs` and `spikes` are the lanes of each candidate's O and of its spikes that differ from the cache.
    """

    module: fx.GraphModule | Direct
    reads: tuple[str, ...]
    gives: tuple[str, ...]
    held: Mapping[str, int]
    outputs: tuple[Lane, ...]
    spikes: tuple[Mapping[tuple[int, int], Lane], ...]

    def run(self, x: Tensor, values: Sequence[Tensor]) -> dict[str, Tensor]:
        """The tensors that hold the results, by name."""
        return dict(zip(self.gives, self.module(x, *values), strict=True))

    def output(self, found: Mapping[str, Tensor], candidate: int) -> Tensor:
        """O of a candidate, `[T, N, classes]`, in what `run` has given: a view."""
        lane = self.outputs[candidate]
        return lanes_of(found[lane.tensor], self.held[lane.tensor], lane.number, axis=1)


def compiled(
    prefix: PrefixModel, candidates: Sequence[Lowered], *, spikes: bool = False, apart: int = 0
) -> LaneSuffixes:
    """Compile the suffixes of `candidates` side by side. Raises CompileError.

    With `spikes` those that differ from the cache leave the module. For `apart` see `side_by_side`.
    """
    layers: dict[str, nn.Module] = {}
    programs = [_named(suffix(c.program, prefix.nodes, prefix.cached), c, prefix, layers) for c in candidates]
    root = tree.of(layers)

    def wanted(program: Program) -> tuple[str, ...]:
        return (*program.outputs, *(fired(program) if spikes else ()))

    inputs = len(prefix.program.inputs)
    merged = side_by_side(programs, wanted, inputs=inputs, apart=apart, statistics=not prefix.inference)
    places = [fired(program) if spikes else {} for program in programs]
    return LaneSuffixes(
        to_fx(merged.program, root, inference=True) if prefix.inference else Direct(merged.program, root),
        merged.reads,
        merged.gives,
        merged.held,
        tuple(lanes[p.outputs[0]] for p, lanes in zip(programs, merged.where, strict=True)),
        tuple(
            {place: lanes[name] for name, place in each.items()}
            for each, lanes in zip(places, merged.where, strict=True)
        ),
    )


def _named(program: Program, candidate: Lowered, prefix: PrefixModel, layers: dict[str, nn.Module]) -> Program:
    """`program` with its modules by the names that all candidates share, under which they are added to `layers`."""
    for name, layer in prefix.layers(candidate, program).items():
        layers[candidate.shared_name(name)] = layer
    return candidate.shared_modules(program)


def backbone(prefix: PrefixModel, lanes: int) -> tuple[fx.GraphModule, SideBySide]:
    """The network without connections with so many lanes: the module takes x and gives all values of the cache."""
    program = prefix.program
    kept = tuple(sorted(prefix.cached))
    merged = side_by_side([program] * lanes, lambda _: kept, inputs=len(program.inputs), apart=lanes, together=True)
    layers: dict[str, nn.Module] = {}
    named = _named(merged.program, prefix.lowering.plain, prefix, layers)
    return to_fx(named, tree.of(layers)), merged


def copies(x: Tensor, lanes: int, axis: int) -> Tensor:
    """`lanes` copies of the batch `x`, side by side along `axis`."""
    return torch.cat([x.detach()] * lanes, axis)
