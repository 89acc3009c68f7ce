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
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, fx, nn

from bcgraph.compiler import pipelines
from bcgraph.compiler.ir import Program, Value
from bcgraph.compiler.targets.fx.nodes import emit
from bcgraph.nn.graphs.capture import Capture, converted_anew
from bcgraph.nn.graphs.graphed import settings
from bcgraph.nn.graphs.segment import GraphedSegment, Places
from bcgraph.nn.graphs.tape import Tape
from bcgraph.schema import NetworkSpec
from bcgraph.search.supernet.lowered import Lowered
from bcgraph.search.supernet.parts import Divider, Key, Part
from bcgraph.search.supernet.restriction import Restriction, owner

KEPT = 256
"""Paths that are kept. The smaller spaces fit; in a large one an architecture hardly ever comes again."""

PARTS = 4096
"""Compiled parts that are kept: the backbone has one for each port and step, a connection one for each step."""

SESSIONS = 2
"""Kinds of batches for which segments are captured: whole ones and the last of an epoch."""


@dataclass(frozen=True, eq=False)
class CompiledPart:
    """What parts compute that have one key, as a module, and the layers that it calls."""

    module: fx.GraphModule
    layers: tuple[nn.Module, ...]


@dataclass(frozen=True, eq=False)
class Path:
    """A path: its parts in the order in which they run, and after each the values that nobody reads any more.

    `layers` are the modules that the parts call, each with one of those within it.
    """

    parts: tuple[Part, ...]
    compiled: tuple[CompiledPart, ...]
    done: tuple[tuple[str, ...], ...]
    layers: tuple[tuple[nn.Module, nn.Module], ...]
    input: str
    output: str

    def train(self) -> None:
        """Put the layers in training mode, which evaluations take them out of."""
        # To ask all takes a fraction of the time of `train` on each part.
        for layer, member in self.layers:
            if not member.training:
                layer.train()


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
        self._divider = Divider()
        self._parts: OrderedDict[Key, CompiledPart] = OrderedDict()
        self._captured: OrderedDict[Hashable, _Session] = OrderedDict()

    def run(self, spec: NetworkSpec, x: Tensor) -> Tensor:
        """O of the network `spec` in training mode, `[T, N, classes]`. Raises CompileError."""
        # In half precision it matters where currents are added up.
        half = torch.is_autocast_enabled(x.device.type)
        path = self.path(spec, half=half)
        path.train()
        session = self._session(x)
        # A captured segment converts its weights itself, and what runs plain does as it does.
        with converted_anew():
            return session.run(path, x) if session is not None else _plainly(path, x)

    def path(self, spec: NetworkSpec, *, half: bool = False) -> Path:
        """The path of a network, with all its parts compiled, as it is in half precision or not."""
        key = (spec.connections, half)
        path = self._paths.get(key)
        if path is None:
            path = self._paths[key] = self._made(spec, half or self.capture is not None)
            if len(self._paths) > KEPT:
                self._paths.popitem(last=False)
        self._paths.move_to_end(key)
        return path

    def _made(self, spec: NetworkSpec, single: bool) -> Path:
        program, divider = self._program_of(spec)
        (output,) = program.outputs
        nodes = divider.with_single_currents(program.nodes) if single else program.nodes
        start = program.inputs[0].name
        found = tuple(divider.parts(nodes, program.outputs, start))
        last = {name: number for number, part in enumerate(found) for name in part.reads}
        done = tuple(
            tuple(n for n in dict.fromkeys((*part.reads, *part.gives)) if n != output and last.get(n, -1) <= number)
            for number, part in enumerate(found)
        )
        compiled = self._compiled(spec, found, start)
        layers = dict.fromkeys(layer for each in compiled for layer in each.layers)
        within = tuple((layer, member) for layer in layers for member in layer.modules())
        return Path(found, compiled, done, within, start, output)

    def _program_of(self, spec: NetworkSpec) -> tuple[Program, Divider]:
        """The program of a network, and what divides it: nodes of a restriction are those of other paths, too."""
        if self.restriction is not None:
            nodes = self.restriction.to(spec.prefixes().values())
            if nodes is not None:
                return replace(self.restriction.program, nodes=nodes), self._divider
        network = Lowered.of(spec)
        return network.shared_modules(network.scheduled("unrolled", pipelines.SUPERNET)), Divider()

    def _compiled(self, spec: NetworkSpec, found: Sequence[Part], start: str) -> tuple[CompiledPart, ...]:
        compiled: list[CompiledPart] = []
        values: dict[str, Value] | None = None
        for part in found:
            if part.key not in self._parts:
                if values is None:
                    values = {v.name: v for each in found for node in each.nodes for v in node.outputs}
                    values[start] = Value(start, spec.input.shape, spec.steps if spec.input.kind == "sequence" else 0)
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
                module = fx.GraphModule(self.root, emit(program), class_name="Part")
                self._parts[part.key] = CompiledPart(module, tuple(_called(module)))
            self._parts.move_to_end(part.key)
            compiled.append(self._parts[part.key])
        while len(self._parts) > max(PARTS, len(found)):
            self._parts.popitem(last=False)
        return tuple(compiled)

    def _session(self, x: Tensor) -> _Session | None:
        """The captured segments for batches like `x`; None where they run plain."""
        if self.capture is None or not torch.is_grad_enabled() or not self.capture().takes(x.device):
            return None
        key = (settings(x.device), tuple(x.shape), x.dtype, x.device)
        if key not in self._captured:
            own = [p for name, p in self.root.named_parameters() if owner(name) is None]
            # Captures keep the values of all segments, so few kinds of batches have them.
            while len(self._captured) >= SESSIONS:
                self._captured.popitem(last=False)
            self._captured[key] = _Session(self.capture, Places(own))
        self._captured.move_to_end(key)
        return self._captured[key]


def _plainly(path: Path, x: Tensor) -> Tensor:
    """O of a path, part by part."""
    values = {path.input: x}
    for part, compiled, done in zip(path.parts, path.compiled, path.done, strict=True):
        found = compiled.module(*(values[name] for name in part.reads))
        values.update(zip(part.gives, found, strict=True))
        for name in done:
            del values[name]
    return values[path.output]


@dataclass(frozen=True, eq=False)
class _Session:
    """The captured segments for one kind of batches, by their parts."""

    capture: Callable[[], Capture]
    places: Places
    segments: dict[Key, GraphedSegment] = field(default_factory=dict)

    def run(self, path: Path, x: Tensor) -> Tensor:
        """O of a path, segments replayed and connections plain."""
        self.places.begin()
        tape = Tape(self.places, path.input, x)
        for part, compiled, done in zip(path.parts, path.compiled, path.done, strict=True):
            if part.segment:
                tape.replay(self._segment(part, compiled.module), part.reads, part.gives)
            else:
                tape.call(compiled.module, part.reads, part.gives)
            tape.drop(done)
        return tape.end(path.output)

    def _segment(self, part: Part, module: fx.GraphModule) -> GraphedSegment:
        if part.key not in self.segments:
            # Memory of its own: in a pool of all, one captured later that runs earlier would keep values where this one
            # computes.
            self.segments[part.key] = GraphedSegment(
                module,
                list(module.parameters()),
                lambda: list(module.buffers()),
                self.capture(),
                self.places,
                f"`{part.nodes[0].name}` to `{part.nodes[-1].name}`",
                part.varying,
            )
        return self.segments[part.key]


def _called(module: fx.GraphModule) -> Iterator[nn.Module]:
    """The layers that a part calls."""
    for node in module.graph.nodes:
        if node.op == "call_module":
            yield module.get_submodule(str(node.target))
