"""The LIF layer as local functions of an ONNX model: charge, fire, reset (paper eq. 1 and 2), no surrogate.

`LifHard` and `LifSoft` take the current and the membrane of the step before; their `Start` forms take the
current alone and are the first step. Attributes: `tau`, `threshold`. Results: spikes, membrane.
"""

from __future__ import annotations

import onnx_ir as ir

DOMAIN = "bcgraph"
_OPSET = 18


def function_name(mode: str, start: bool) -> str:
    """The name of the function for reset `mode`, at the first step (`start`) or later."""
    return {"hard": "LifHard", "soft": "LifSoft"}[mode] + ("Start" if start else "")


def lif_function(mode: str, start: bool) -> ir.Function:
    """The local function itself."""
    current, membrane = ir.Value(name="current"), ir.Value(name="membrane")
    nodes: list[ir.Node] = []

    def op(kind: str, inputs: list[ir.Value], name: str, *attributes: ir.Attr) -> ir.Value:
        value = ir.Value(name=name)
        nodes.append(ir.Node("", kind, inputs, list(attributes), outputs=[value], name=name))
        return value

    def attribute(name: str) -> ir.Value:
        return op("Constant", [], name, ir.RefAttr("value_float", name, ir.AttributeType.FLOAT))

    threshold = attribute("threshold")
    u = current if start else op("Add", [op("Mul", [attribute("tau"), membrane], "leak"), current], "u")
    fired = op("Greater", [u, threshold], "fired")
    like = op("CastLike", [fired, current], "spikes")
    if mode == "hard":
        # As a product: onnxruntime takes eight times as long for a Where.
        one = op("CastLike", [op("Constant", [], "one", ir.AttrFloat32("value_float", 1.0)), current], "all")
        after = op("Mul", [u, op("Sub", [one, like], "quiet")], "after")
    else:
        after = op("Sub", [u, op("Mul", [threshold, like], "charge_spent")], "after")
    inputs = [current] if start else [current, membrane]
    graph = ir.Graph(inputs, [like, after], nodes=nodes, opset_imports={"": _OPSET}, name=function_name(mode, start))
    declared = [ir.Attr("threshold", ir.AttributeType.FLOAT, None)]
    if not start:
        declared.append(ir.Attr("tau", ir.AttributeType.FLOAT, None))
    return ir.Function(DOMAIN, function_name(mode, start), graph=graph, attributes=declared)
