"""Schedule `folded`: time goes into the batch wherever no feedback needs it apart.

Outside of the feedback loops a node runs once on all steps, `[T*N, ...]`, time first; a layer of neurons on its
own is a recurrence that runs its steps inside one node. Inside a loop the steps are written out as in
`unrolled`. At the border, values are cut into steps or joined again, each at most once.
"""

from __future__ import annotations

from dataclasses import replace

from bcgraph.compiler.ir import Edge, Node, Program, TemporalGraph, Value, free
from bcgraph.compiler.needed import needed, needed_at, needed_steps
from bcgraph.compiler.ops import Trait, attributes, has
from bcgraph.compiler.ops.layers import by_step
from bcgraph.compiler.ops.neuron import equations_of, states_of
from bcgraph.compiler.scc import Component, components
from bcgraph.compiler.schedules.placement import Where, frame, once, place, zeros_like


def folded(graph: TemporalGraph) -> Program:
    """All steps of `graph`, folded. The output is O of all steps, `[T, N, classes]`."""
    folder = _Folder(graph)
    for component in components(graph):
        folder.component(component)
    outputs = tuple(folder.output(name) for name in graph.outputs)
    inputs = tuple(replace(v, steps=graph.steps) if graph.sequence else v for v in graph.inputs)
    return Program(
        name=graph.name,
        schedule="folded",
        steps=graph.steps,
        sequence=graph.sequence,
        inputs=inputs,
        nodes=tuple(folder.nodes),
        outputs=outputs,
        states=(),
        ports=graph.ports,
    )


class _Folder:
    """`whole` names the folded value of each value that has one, `where` the value of each step."""

    def __init__(self, graph: TemporalGraph) -> None:
        self.graph = graph
        self.steps = graph.steps
        self.values = graph.values()
        self.producers = graph.producers()
        self.wanted = needed(graph)
        self.nodes: list[Node] = []
        self.where: Where = {}
        self.whole: dict[str, str] = {}
        self.steady: set[str] = set()
        for value in graph.inputs:
            if graph.sequence:
                name = f"{value.name}.all"
                self.emit(name, "fold_frames", (Edge(value.name),), value, steps=self.steps)
                self.whole[value.name] = name
            else:
                self.steady.add(value.name)
                self.where.update({(value.name, t): value.name for t in range(self.steps)})

    def emit(self, name: str, op: str, inputs: tuple[Edge, ...], like: Value, **attrs: int) -> str:
        out = Value(name, like.shape, self.steps)
        self.nodes.append(Node(name, op, inputs, (out,), attributes(**attrs)))
        return name

    def component(self, component: Component) -> None:
        if not any(self.needed_steps(node) for node in component.nodes):
            return
        node = component.nodes[0]
        alone = len(component.nodes) == 1
        if alone and node.invariant:
            steps = self.needed_steps(node)
            self.nodes.append(once(node, steps, self.steps, self.where))
            self.steady.update(v.name for v in node.outputs)
        elif alone and self.foldable(node) and (not component.loop or self.recurs(node)):
            self.fold(node)
        else:
            self.loop(component.nodes)

    def needed_steps(self, node: Node) -> tuple[int, ...]:
        return needed_steps(node, self.steps, self.wanted)

    def foldable(self, node: Node) -> bool:
        """Whether every step is needed, and each step is treated alike."""
        if by_step(node):
            return False
        return len(self.needed_steps(node)) == self.steps

    def recurs(self, node: Node) -> bool:
        """Whether the node is a neuron whose only loops are its own states, which nobody else reads."""
        if not has(node, Trait.NEURON):
            return False
        own = dict(zip(equations_of(node).gives, (v.name for v in node.outputs), strict=True))
        if any(node.inputs[place] != Edge(own[name], 1) for name, place in states_of(node).items()):
            return False
        inner = {v.name for v in node.outputs[1:]}
        return not any(edge.value in inner for other in self.graph.nodes if other is not node for edge in other.inputs)

    def fold(self, node: Node) -> None:
        """Place `node` once for all steps."""
        if node.op == "loop":
            self.fold_loop(node)
            return
        own = {v.name for v in node.outputs}
        reads = [e for e in node.inputs if e.value not in own]
        steady = has(node, Trait.NEURON) and all(self.always(e) for e in reads)
        names = tuple(Edge(self.held(e) if steady or self.weight(e) else self.all_steps(e)) for e in reads)
        out = replace(node.outputs[0], steps=self.steps)
        self.nodes.append(replace(node, inputs=names, outputs=(out,)).with_attrs(steps=self.steps))
        self.whole[out.name] = out.name

    def fold_loop(self, node: Node) -> None:
        """Place a loop, which runs all steps itself. It is told which operands are the same at every step."""
        once = tuple(self.always(e) or self.weight(e) for e in node.inputs)
        names = tuple(
            Edge(self.held(e) if one else self.all_steps(e)) for e, one in zip(node.inputs, once, strict=True)
        )
        outputs = tuple(replace(v, steps=self.steps) for v in node.outputs)
        self.nodes.append(replace(node, inputs=names, outputs=outputs).with_attrs(once=once, steps=self.steps))
        self.whole.update((v.name, v.name) for v in outputs)

    def always(self, edge: Edge) -> bool:
        """Whether `edge` reads the same value at every step."""
        return edge.value in self.steady and not edge.delay

    def weight(self, edge: Edge) -> bool:
        producer = self.producers.get(edge.value)
        return producer is not None and has(producer, Trait.WEIGHTS)

    def bits_of(self, name: str) -> Edge | None:
        """What `name` packs, where it is packed bits: those cannot be joined or cut, only packed anew."""
        producer = self.producers.get(name)
        return producer.inputs[0] if producer is not None and producer.op == "pack" else None

    def held(self, edge: Edge) -> str:
        name = self.where[edge.value, 0]
        assert name is not None
        return name

    def all_steps(self, edge: Edge) -> str:
        """The name of the folded value that `edge` reads, made where it is not there yet."""
        name = edge.value
        if name not in self.whole:
            value = self.values[name]
            spikes = self.bits_of(name)
            if spikes is not None:
                self.whole[name] = self.emit(f"{name}.all", "pack", (Edge(self.all_steps(spikes)),), value)
            elif name in self.steady:
                self.whole[name] = self.emit(f"{name}.all", "repeat", (Edge(name),), value, steps=self.steps)
            else:
                parts = tuple(Edge(self.built(name, t)) for t in range(self.steps))
                self.whole[name] = self.emit(f"{name}.all", "fold", parts, value)
        if not edge.delay:
            return self.whole[name]
        late = f"{name}.late{edge.delay}"
        if late not in self.whole:
            source = (Edge(self.whole[name]),)
            self.whole[late] = self.emit(late, "shift", source, self.values[name], delay=edge.delay, steps=self.steps)
        return late

    def built(self, name: str, t: int) -> str:
        held = self.where.get((name, t))
        if held is None:
            self.nodes.append(zeros_like(f"{name}.zero", self.values[name], t))
            held = self.nodes[-1].name
        return held

    def loop(self, nodes: tuple[Node, ...]) -> None:
        """Place the nodes of a feedback loop step by step."""
        inside = {v.name for n in nodes for v in n.outputs}
        for t in range(self.steps):
            for node in nodes:
                if not needed_at(node, t, self.wanted):
                    continue
                for edge in node.inputs:
                    if edge.value not in inside and t >= edge.delay:
                        self.one_step(edge.value, t - edge.delay)
                self.nodes.extend(place(node, t, self.where, self.values, self.wanted))

    def one_step(self, name: str, t: int) -> None:
        if (name, t) in self.where:
            return
        source = self.graph.inputs[0]
        spikes = self.bits_of(name)
        if self.graph.sequence and name == source.name:
            node = frame(source, t)
        elif spikes is not None:
            self.one_step(spikes.value, t)
            read = self.where[spikes.value, t]
            assert read is not None
            node = replace(frame(self.values[name], t), op="pack", inputs=(Edge(read),))
        else:
            like = frame(self.values[name], t)
            node = replace(like, op="at", inputs=(Edge(self.whole[name]),)).with_attrs(steps=self.steps)
        self.nodes.append(node)
        self.where[name, t] = node.name

    def output(self, name: str) -> str:
        label = free("O" if len(self.graph.outputs) == 1 else f"O.{name}", self.values)
        if name in self.whole:
            return self.emit(label, "unfold", (Edge(self.whole[name]),), self.values[name], steps=self.steps)
        parts = tuple(Edge(self.built(name, t)) for t in range(self.steps))
        return self.emit(label, "stack", parts, self.values[name])
