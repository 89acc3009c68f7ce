"""The text form of temporal graphs and programs: stable, one node a line, made for reading and for golden tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bcgraph import shapes
from bcgraph.compiler.ir import Node, Program, TemporalGraph, Value
from bcgraph.compiler.ops.neuron import layer_of
from bcgraph.equations.expression import replaced
from bcgraph.equations.expression import text as expression_text
from bcgraph.equations.neuron import Equations


def graph_text(graph: TemporalGraph) -> str:
    """The text of a temporal graph. A delayed read is written `%value@-d`."""
    feed = "sequence" if graph.sequence else "image"
    head = f"graph {graph.name} (steps={graph.steps}, input={feed})"
    return _text(head, graph.inputs, graph.nodes, graph.outputs)


def program_text(program: Program) -> str:
    """The text of a scheduled program. Names carry their step: `%lif1.s@t3`."""
    head = f"program {program.name} (schedule={program.schedule}, steps={program.steps})"
    return _text(head, program.inputs, program.nodes, program.outputs)


def _text(head: str, inputs: Iterable[Value], nodes: Iterable[Node], outputs: Iterable[str]) -> str:
    lines = [f"{head} {{"]
    lines.extend(f"  input %{v.name} : {_type(v)}" for v in inputs)
    lines.extend(f"  {node_text(n)}" for n in nodes)
    lines.append(f"  return {', '.join(f'%{name}' for name in outputs)}")
    lines.append("}")
    return "\n".join(lines) + "\n"


def node_text(node: Node) -> str:
    """One node on one line, without the newline."""
    left = ", ".join(f"%{v.name}" for v in node.outputs)
    operands = ", ".join(str(e) for e in node.inputs)
    types = ", ".join(_type(v) for v in node.outputs)
    notes = [f"{k}={_attribute(v)}" for k, v in node.attributes if k not in _ELSEWHERE]
    if node.op == "equation":
        notes.insert(0, f"{node.attrs['gives']} = {_equation(node)}")
    notes.extend(_layer(node.attrs["layer"]) if "layer" in node.attrs else [])
    if node.port is not None:
        notes.append(f"port={node.port}")
    if node.invariant:
        notes.append("invariant")
    shown = f" {{{', '.join(notes)}}}" if notes else ""
    return f"{left} = {node.op}({operands}) : {types}{shown}"


# Attributes that are not shown as they are.
_ELSEWHERE = ("layer", "neuron", "expression", "gives", "reads")


def _equation(node: Node) -> str:
    """An equation with its learned parameters as they were written."""
    known = dict(layer_of(node).neuron.equations.uniform)
    return expression_text(replaced(node.attrs["expression"], lambda read: known.get(read.key, read)))


def _type(value: Value) -> str:
    shape = shapes.text(value.shape) or "flag"
    return f"{value.steps}*{shape}" if value.steps else shape


def _attribute(value: Any) -> str:
    if isinstance(value, tuple):
        plain = all(isinstance(v, int) for v in value)
        return "x".join(map(str, value)) if plain else f"[{', '.join(map(_attribute, value))}]"
    if isinstance(value, Equations):
        return str(value).replace("\n", "; ")
    kind = getattr(value, "kind", None)
    if kind is not None:
        inner = ", ".join(f"{k}={v}" for k, v in sorted(vars(value).items()) if k != "kind")
        return f"{kind}({inner})"
    return str(value)


_SHOWN = ("kernel", "stride", "padding", "groups", "dilation", "bias", "size", "probability")
_PLAIN = {"groups": 1, "dilation": 1, "bias": False}


def _layer(layer: Any) -> list[str]:
    if layer.kind in ("registered", "standard"):
        return [layer.layer, *(f"{name}={value}" for name, value in layer.arguments)]
    fields = vars(layer)
    return [f"{k}={fields[k]}" for k in _SHOWN if k in fields and fields[k] != _PLAIN.get(k)]
