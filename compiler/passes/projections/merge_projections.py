"""`merge_projections`: many backward connections become few operations.

The projections of one source become one convolution with their channels side by side. Those of one resolution that
reach the same target are normalized each by its own statistics and added up before anything is enlarged, and the sums
go from resolution to resolution: 4x4 is enlarged to 8x8 and added there before both go on to 16x16. What a target
reads late is the sum at the finest of its sources' resolutions, so that little is kept from step to step.
Runs after `sink_resize`, which lets each projection run at its source's resolution.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from bcgraph import schema
from bcgraph.compiler.ir import Edge, Node, TemporalGraph, Value, free
from bcgraph.compiler.ops import attributes
from bcgraph.compiler.ops.merged import Part, Stack
from bcgraph.compiler.projections import Connection, Size, groups
from bcgraph.errors import Span
from bcgraph.names import merged


@dataclass(frozen=True)
class MergeProjections:
    """Merge connections that share sources or targets, from `least` of them on.

    Only those of one delay, one feedback loop and equal settings of their norms are merged, and of two ends a merged
    sum reaches both or neither: no step has to wait for more than before.
    """

    name: ClassVar[str] = "merge_projections"
    inference_only: ClassVar[bool] = False

    least: int = 2

    def run(self, graph: TemporalGraph) -> TemporalGraph:
        """The graph with merged projections."""
        number = 0
        # One after the other, as merging one group moves the operands of its targets.
        while group := next((g for g in groups(graph) if len(g) >= self.least), None):
            graph = _Merger(graph, number, group).run()
            number += 1
        return graph


@dataclass(frozen=True)
class _Bundle:
    """Targets of one size that are reached from the same resolutions, in the order of the graph.

    `chains` are these resolutions from coarse to fine; in each, one size divides the next.
    """

    size: Size
    chains: tuple[tuple[Size, ...], ...]
    targets: tuple[Connection, ...]

    @property
    def channels(self) -> int:
        return sum(target.channels for target in self.targets)

    @property
    def label(self) -> str:
        return f"{_label(self.size)}.{self.targets[0].target}"


class _Merger:
    """Rebuilds one graph around one group of connections."""

    def __init__(self, graph: TemporalGraph, number: int, group: Sequence[Connection]) -> None:
        self.graph = graph
        self.number = number
        self.group = group
        self.span: Span | None = group[0].bn.span
        self.taken = {*graph.values(), *(n.name for n in graph.nodes)}
        self.weights: list[Node] = []
        self.sums: list[Node] = []
        self.late: dict[str, list[Node]] = {}
        self.arriving: dict[str, list[Edge]] = {}
        self.bundles = _bundles(group)

    def run(self) -> TemporalGraph:
        partial = {size: self.sum_of(size) for size in sorted({c.given for c in self.group}, key=_area)}
        for bundle in self.bundles:
            for chain in bundle.chains:
                self.reach(bundle, self.chained(bundle, chain, partial), chain[-1])
        gone = {name for c in self.group for name in c.gone}
        gone |= {n.name for n in self.graph.nodes if n.op == "resize" and self.only_for(n, gone)}
        last = [n.name for n in self.graph.nodes if n.name in gone][-1]
        replaced = {(c.reader.name, c.index) for c in self.group}
        nodes: list[Node] = [*self.weights]
        for node in self.graph.nodes:
            if node.name == last:
                nodes.extend(self.sums)
            if node.name in gone:
                continue
            if node.name in self.arriving:
                nodes.extend(self.late.get(node.name, ()))
                places = [i for i in range(len(node.inputs)) if (node.name, i) in replaced]
                kept = [e for i, e in enumerate(node.inputs) if i not in places]
                kept[places[0] : places[0]] = self.arriving[node.name]
                node = replace(node, inputs=tuple(kept))
            nodes.append(node)
        return self.graph.with_nodes(tuple(nodes))

    def only_for(self, node: Node, gone: set[str]) -> bool:
        """Whether nobody but the nodes in `gone` reads what `node` computes."""
        readers = {n.name for n in self.graph.nodes if any(e.value == node.output.name for e in n.inputs)}
        kept = {c.x for c in self.group}
        return (
            bool(readers)
            and readers <= gone
            and node.output.name not in kept
            and node.output.name not in self.graph.outputs
        )

    def add(
        self, into: list[Node], part: str, op: str, inputs: tuple[Edge, ...], shape: tuple[int, ...], **attrs: object
    ) -> str:
        name = free(merged(self.number, part), self.taken)
        self.taken.add(name)
        node = Node(name, op, inputs, (Value(name, shape),), attributes(**attrs), span=self.span)
        into.append(replace(node, invariant=not inputs))
        return name

    def split(self, into: list[Node], edge: Edge, parts: Mapping[str, int], size: Size) -> list[str]:
        """The values of the `parts` of what `edge` reads, each with so many channels."""
        names = [free(merged(self.number, part), self.taken) for part in parts]
        self.taken.update(names)
        outputs = tuple(Value(name, (count, *size)) for name, count in zip(names, parts.values(), strict=True))
        counts = attributes(counts=tuple(parts.values()))
        name = f"{names[0]}.split"
        into.append(Node(name, "split", (edge,), outputs, counts, span=self.span))
        return names

    def stack(self, part: str, parameters: Sequence[str], channels: int) -> Edge:
        return Edge(self.add(self.weights, part, "stack_parameters", (), (channels,), parameters=tuple(parameters)))

    def sum_of(self, size: Size) -> Mapping[_Bundle, str]:
        """The sums of all projections at the resolution `size`, by bundle."""
        reached = [bundle for bundle in self.bundles if any(size in chain for chain in bundle.chains)]
        places: dict[str, int] = {}
        channels = 0
        for bundle in reached:
            for target in bundle.targets:
                places[target.reader.name] = channels
                channels += target.channels
        sources: dict[str, list[Connection]] = {}
        for c in sorted((c for c in self.group if c.given == size), key=lambda c: places[c.reader.name]):
            sources.setdefault(c.x, []).append(c)
        # The first operand begins the sum: it should have as many of its channels as possible.
        ordered = sorted(sources.items(), key=lambda item: -sum(c.channels for c in item[1]))
        stacks = tuple(
            tuple(
                Part(str(c.conv.module), str(c.bn.module), c.channels, places[c.reader.name], c.repeats) for c in some
            )
            for _, some in ordered
        )
        convs = tuple(Edge(self.project(x, some, stack)) for (x, some), stack in zip(ordered, stacks, strict=True))
        norms = [part.norm for stack in stacks for part in stack]
        total = sum(part.channels for stack in stacks for part in stack)
        affine = tuple(
            self.stack(f"{name}.{_label(size)}", [f"{n}.{kind}" for n in norms], total)
            for name, kind in (("scale", "weight"), ("shift", "bias"))
        )
        eps = self.group[0].bn.attrs["layer"].norm.eps
        name = self.add(
            self.sums,
            f"sum.{_label(size)}",
            "norm_sum",
            (*convs, *affine),
            (channels, *size),
            label=f"merged{self.number}.{_label(size)}",
            stacks=stacks,
            channels=channels,
            eps=eps,
        )
        parts = {f"to.{bundle.label}.at.{_label(size)}": bundle.channels for bundle in reached}
        if len(parts) == 1:
            return {reached[0]: name}
        return dict(zip(reached, self.split(self.sums, Edge(name), parts, size), strict=True))

    def project(self, x: str, some: Sequence[Connection], stack: Stack) -> str:
        first = some[0]
        channels = sum(part.channels for part in stack)
        label = f"{first.source}.{_label(first.given)}"
        weight = self.stack(f"weight.{label}", [f"{part.conv}.weight" for part in stack], channels)
        layer = schema.Conv(name=merged(self.number, f"conv.{label}"), channels=channels, kernel=1, span=self.span)
        return self.add(self.sums, f"conv.{label}", "project", (Edge(x), weight), (channels, *first.given), layer=layer)

    def chained(self, bundle: _Bundle, chain: tuple[Size, ...], partial: Mapping[Size, Mapping[_Bundle, str]]) -> str:
        """The sum of what reaches `bundle` from all resolutions of `chain`, at the finest of them."""
        found = ""
        for size in chain:
            name = partial[size][bundle]
            shape = (bundle.channels, *size)
            where = f"to.{bundle.label}.at.{_label(size)}"
            if found:
                larger = self.add(self.sums, f"{where}.resize", "resize", (Edge(found),), shape, size=size)
                name = self.add(self.sums, f"{where}.add", "add", (Edge(name), Edge(larger)), shape)
            found = name
        return found

    def reach(self, bundle: _Bundle, value: str, size: Size) -> None:
        """Let each target of `bundle` read its channels of `value`, late."""
        late = self.late.setdefault(bundle.targets[0].reader.name, [])
        edge = Edge(value, self.group[0].delay)
        where = f"to.{bundle.label}"
        if size != bundle.size:
            shape = (bundle.channels, *bundle.size)
            edge = Edge(self.add(late, f"{where}.resize", "resize", (edge,), shape, size=bundle.size))
        if len(bundle.targets) > 1:
            onto = {f"{where}.onto.{target.target}": target.channels for target in bundle.targets}
            edges = [Edge(name) for name in self.split(late, edge, onto, bundle.size)]
        else:
            edges = [edge]
        for target, part in zip(bundle.targets, edges, strict=True):
            if target.vector:
                label = f"{where}.onto.{target.target}.vector"
                part = Edge(self.add(late, label, "to_vector", (part,), (target.channels,)))
            self.arriving.setdefault(target.reader.name, []).append(part)


def _bundles(group: Sequence[Connection]) -> tuple[_Bundle, ...]:
    """The targets of `group` in bundles, the largest maps first."""
    targets: dict[str, list[Connection]] = {}
    for c in group:
        targets.setdefault(c.reader.name, []).append(c)
    found: dict[tuple[Size, bool, tuple[tuple[Size, ...], ...]], list[Connection]] = {}
    for some in targets.values():
        chains = _chains({c.given for c in some})
        found.setdefault((some[0].size, some[0].vector, chains), []).append(some[0])
    bundles = [_Bundle(size, chains, tuple(some)) for (size, _, chains), some in found.items()]
    return tuple(sorted(bundles, key=lambda bundle: -_area(bundle.size)))


def _chains(sizes: set[Size]) -> tuple[tuple[Size, ...], ...]:
    """`sizes` from coarse to fine, in as few chains as it takes for each to divide the next."""
    chains: list[tuple[Size, ...]] = []
    for size in sorted(sizes, key=_area):
        fits = (i for i, chain in enumerate(chains) if not any(a % b for a, b in zip(size, chain[-1], strict=True)))
        at = next(fits, None)
        if at is None:
            chains.append((size,))
        else:
            chains[at] = (*chains[at], size)
    return tuple(chains)


def _area(size: Size) -> int:
    return size[0] * size[1]


def _label(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
