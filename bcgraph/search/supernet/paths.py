"""Paths through a supernet from parts that are compiled once: segments of the backbone, and projections between them.

The program of an architecture is what is left of the program with all connections (`restriction`). It is cut before
each layer of neurons and around each projection (`parts`). A part is compiled when an architecture first has it, and is
one module for all that have it, so that a new architecture costs neither lowering nor compiling. On a GPU the segments
of the backbone are captured once, forward and backward, and connections run between them.

The other way, all connections in one program with gates, computes the projections of all pairs in each step, where a
path needs those of two (docs/scaling.md has the cost).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from bcgraph.compiler import pipelines
from bcgraph.compiler.ir import Program, Value
from bcgraph.compiler.targets.fx.nodes import emit
from bcgraph.nn.graphs.capture import Capture
from bcgraph.nn.graphs.graphed import settings
from bcgraph.nn.graphs.segment import GraphedSegment, Places
from bcgraph.schema import NetworkSpec
from bcgraph.search.supernet.lowered import Lowered
from bcgraph.search.supernet.parts import Part, parts, with_single_currents
from bcgraph.search.supernet.restriction import Restriction, owner

KEPT = 256
"""Paths that are kept. The smaller spaces fit; in a large one an architecture hardly ever comes again."""

PARTS = 4096
"""Compiled parts that are kept: the backbone has one for each port and step, a connection one for each step."""

SESSIONS = 2
"""Kinds of batches for which segments are captured: whole ones and the last of an epoch."""


@dataclass(frozen=True, eq=False)
class Path:
    """A path: its parts in the order in which they run, and after each the values that nobody reads any more."""

    parts: tuple[Part, ...]
    done: tuple[tuple[str, ...], ...]
    input: str
    output: str


class Paths:
    """The paths of architectures through the modules of `root`, which stand there by their shared names.

    `everything` is the network with all connections, where one network can hold them. With `capture`, which gives what
    captures a segment, segments are captured where gradients are on.
    """

    def __init__(
        self, root: nn.Module, everything: NetworkSpec | None, capture: Callable[[], Capture] | None = None
    ) -> None:
        self.root = root
        self.capture = capture
        self.restriction = None if everything is None else Restriction(Lowered.of(everything).graph)
        self._paths: OrderedDict[Hashable, Path] = OrderedDict()
        self._parts: OrderedDict[Hashable, fx.GraphModule] = OrderedDict()
        self._captured: OrderedDict[Hashable, tuple[Places, dict[Hashable, GraphedSegment]]] = OrderedDict()

    def run(self, spec: NetworkSpec, x: Tensor) -> Tensor:
        """O of the network `spec` in training mode, `[T, N, classes]`. Raises CompileError."""
        path = self.path(spec)
        segment = self._session(x)
        values = {path.input: x}
        for part, done in zip(path.parts, path.done, strict=True):
            module = self._parts[part.key].train()
            call = module if segment is None or not part.segment else segment(part, module)
            found = call(*(values[name] for name in part.reads))
            values.update(zip(part.gives, found, strict=True))
            for name in done:
                del values[name]
        return values[path.output]

    def path(self, spec: NetworkSpec) -> Path:
        """The path of a network, with all its parts compiled."""
        key = spec.connections
        path = self._paths.get(key)
        if path is None:
            path = self._paths[key] = self._made(spec)
            if len(self._paths) > KEPT:
                self._paths.popitem(last=False)
        self._paths.move_to_end(key)
        if any(part.key not in self._parts for part in path.parts):
            self._compile(spec, path)
        return path

    def _made(self, spec: NetworkSpec) -> Path:
        program = self._program_of(spec)
        (output,) = program.outputs
        nodes = tuple(with_single_currents(program.nodes)) if self.capture is not None else program.nodes
        found = parts(nodes, program.outputs, program.inputs[0].name)
        last = {name: number for number, part in enumerate(found) for name in part.reads}
        done = tuple(
            tuple(n for n in dict.fromkeys((*part.reads, *part.gives)) if n != output and last.get(n, -1) <= number)
            for number, part in enumerate(found)
        )
        return Path(tuple(found), done, program.inputs[0].name, output)

    def _program_of(self, spec: NetworkSpec) -> Program:
        if self.restriction is not None:
            nodes = self.restriction.to(spec.prefixes().values())
            if nodes is not None:
                return replace(self.restriction.program, nodes=nodes)
        network = Lowered.of(spec)
        return network.shared_modules(network.scheduled("unrolled", pipelines.SUPERNET))

    def _compile(self, spec: NetworkSpec, path: Path) -> None:
        values = {v.name: v for part in path.parts for node in part.nodes for v in node.outputs}
        fed = Value(path.input, spec.input.shape, spec.steps if spec.input.kind == "sequence" else 0)
        values[path.input] = fed
        for part in path.parts:
            if part.key not in self._parts:
                program = Program(
                    name="part",
                    schedule="segment",
                    steps=spec.steps,
                    sequence=spec.input.kind == "sequence",
                    inputs=tuple(values[name] for name in part.reads),
                    nodes=part.nodes,
                    outputs=part.gives,
                    states=(),
                    ports=spec.ports,
                )
                self._parts[part.key] = fx.GraphModule(self.root, emit(program), class_name="Part")
            self._parts.move_to_end(part.key)
        while len(self._parts) > max(PARTS, len(path.parts)):
            self._parts.popitem(last=False)

    def _session(self, x: Tensor) -> Callable[[Part, fx.GraphModule], Any] | None:
        """What gives the captured segments for batches like `x`; None where they run plain."""
        if self.capture is None or not torch.is_grad_enabled() or not self.capture().takes(x.device):
            return None
        key = (settings(x.device), tuple(x.shape), x.dtype, x.device)
        if key not in self._captured:
            own = [p for name, p in self.root.named_parameters() if owner(name) is None]
            # Captures keep the values of all segments, so few kinds of batches have them.
            while len(self._captured) >= SESSIONS:
                self._captured.popitem(last=False)
            self._captured[key] = (Places(own), {})
        self._captured.move_to_end(key)
        places, held = self._captured[key]
        places.begin()
        capture = self.capture

        def segment(part: Part, module: fx.GraphModule) -> GraphedSegment:
            if part.key not in held:
                # Memory of its own: in a pool of all, one captured later that runs earlier would keep values where this
                # one computes.
                held[part.key] = GraphedSegment(
                    module,
                    list(module.parameters()),
                    lambda: list(module.buffers()),
                    capture(),
                    places,
                    f"`{part.nodes[0].name}` to `{part.nodes[-1].name}`",
                    part.varying,
                )
            return held[part.key]

        return segment
