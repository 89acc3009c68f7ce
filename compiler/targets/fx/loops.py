"""Feedback loops of vectors in a torch.fx graph: the modules that run them, and the calls of these."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from torch import nn

from bcgraph.compiler.ir import Node, Program
from bcgraph.compiler.ops import Trait, has
from bcgraph.compiler.ops.loop import Body, body_of
from bcgraph.compiler.ops.neuron import equations_of, states_of
from bcgraph.equations.neuron import SPIKES
from bcgraph.nn import modules, tree
from bcgraph.nn.loop.calls import Call, Fire, Loop, Norm, Product
from bcgraph.nn.loop.module import LoopModule

LOOPS = "_loops"
"""The name of the submodule with what runs feedback loops, one module a loop."""


class Loops(nn.Module):
    """The modules of the loops of a program. They own nothing."""


class _Emitting(Protocol):
    env: dict[str, Any]

    def read(self, node: Node) -> list[Any]: ...

    def add(self, node: Node, op: str, target: Any, args: tuple[Any, ...], name: str | None = None) -> Any: ...

    def sends(self, value: str, port: int | None, step: int, count: int) -> None: ...


def _emit(emitter: _Emitting, node: Node) -> None:
    body = body_of(node)
    given = dict(zip(map(str, body.outside), emitter.read(node), strict=True))
    frames = [given[name] for name in _frames(body)]
    fixed = []
    for name in _fixed(body):
        path = tree.in_code(name)
        fixed.append(given[name] if name in given else emitter.add(node, "get_attr", path, (), path))
    made = emitter.add(node, "call_module", f"{LOOPS}.{_module(node)}", (frames, fixed))
    ports = {each.outputs[0].name: each for each in body.nodes if has(each, Trait.FIRES)}
    for index, value in enumerate(node.outputs):
        emitter.env[value.name] = emitter.add(node, "call_function", operator.getitem, (made, index), value.name)
        port = ports.get(value.name)
        if port is not None and equations_of(port).gives[0] == SPIKES:
            emitter.sends(value.name, port.port, 0, value.steps)


EMIT: Mapping[str, Callable[[_Emitting, Node], None]] = {"loop": _emit}


def loops_of(program: Program, root: nn.Module) -> Loops | None:
    """The modules for the loops of `program`, with the norms of `root`; None where there are none."""
    loops = Loops()
    for node in program.nodes:
        if node.op == "loop":
            loops.add_module(_module(node), LoopModule(_loop(node, program.steps, root)))
    return loops if loops._modules else None


def inside(program: Program) -> Iterator[Node]:
    """The nodes that the loops of `program` run."""
    for node in program.nodes:
        if node.op == "loop":
            yield from body_of(node).nodes


def norms_of(program: Program) -> set[str]:
    """The norms in loops."""
    return {str(node.module) for node in inside(program) if node.op == "bn"}


def _loop(node: Node, steps: int, root: nn.Module) -> Loop:
    body = body_of(node)
    steady = {str(edge) for edge, once in zip(body.outside, node.attrs["once"], strict=True) if once}
    frames = tuple(_frames(body))
    norms = {str(each.module): _norm(root, str(each.module)) for each in body.running if each.op == "bn"}
    own = frozenset(v.name for each in body.nodes for v in each.outputs)
    calls = [_CALLS[each.op](each, count, own) for each, count in zip(body.nodes, body.steps, strict=True) if count]
    results = tuple(v.name for v in node.outputs)
    return Loop(tuple(calls), steps, frames, frozenset(frames) & steady, tuple(_fixed(body)), results, norms)


def _product(node: Node, steps: int, own: frozenset[str]) -> Call:
    names = [*parameters(node), None]
    return Product(node.output.name, node.inputs[0].value, str(names[0]), names[1], steps)


def _normed(node: Node, steps: int, own: frozenset[str]) -> Call:
    return Norm(node.output.name, node.inputs[0].value, str(node.module), steps)


def _fire(node: Node, steps: int, own: frozenset[str]) -> Call:
    equations = equations_of(node)
    first = len(node.inputs) - len(states_of(node))
    # What comes from outside is late already; what is later than the last step never arrives.
    arriving = [e for e in node.inputs[:first] if e.value not in own or e.delay < steps]
    currents = tuple((e.value, e.delay) if e.value in own else (str(e), 0) for e in arriving)
    assert node.port is not None
    return Fire(node.port, tuple(v.name for v in node.outputs), currents, equations, tuple(parameters(node)))


_CALLS: Mapping[str, Callable[[Node, int, frozenset[str]], Call]] = {
    "pointwise": _product,
    "linear": _product,
    "bn": _normed,
    "neuron": _fire,
}


def parameters(node: Node) -> list[str]:
    """The names of the parameters that `node` reads: of its module, or values that are weights."""
    if node.op in ("pointwise", "linear"):
        if len(node.inputs) > 1:
            return [str(edge) for edge in node.inputs[1:]]
        return [f"{node.module}.{part}" for part in (("weight", "bias") if node.attrs["layer"].bias else ("weight",))]
    if node.op == "neuron":
        return [f"{node.module}.{each.name}" for each in equations_of(node).learned]
    return []


def _fixed(body: Body) -> list[str]:
    return list(dict.fromkeys(name for node in body.running for name in parameters(node)))


def _frames(body: Body) -> list[str]:
    fixed = set(_fixed(body))
    return [str(edge) for edge in body.outside if str(edge) not in fixed]


def _norm(root: nn.Module, path: str) -> modules.BatchNorm:
    norm = tree.find(root, path)
    assert isinstance(norm, modules.BatchNorm)
    return norm


def _module(node: Node) -> str:
    """The name in `LOOPS` of the module of a loop."""
    return node.name.replace(".", "_")
