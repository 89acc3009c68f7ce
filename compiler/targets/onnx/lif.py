"""The LIF layer as local functions of an ONNX model: charge, fire, reset (paper eq. 1 and 2), no surrogate.

`LifHard` and `LifSoft` take the current and the membrane of the step before; their `Start` forms take the current
alone and are the first step, their `End` forms give no membrane and are the last: onnxruntime would compute it for
nobody. Attributes: `tau`, `threshold`. Results: spikes, membrane.
"""

from __future__ import annotations

import onnx_ir as ir

DOMAIN = "bcgraph"
_OPSET = 18


def function_name(mode: str, start: bool, end: bool) -> str:
    """The name of the function for reset `mode`: of the first step (`start`) or a later one, of the last (`end`)."""
    return {"hard": "LifHard", "soft": "LifSoft"}[mode] + ("Start" if start else "") + ("End" if end else "")


def lif_function(mode: str, start: bool, end: bool) -> ir.Function:
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
    results = [like]
    if mode == "hard" and not end:
        # As a product: onnxruntime takes eight times as long for a Where.
        one = op("CastLike", [op("Constant", [], "one", ir.AttrFloat32("value_float", 1.0)), current], "all")
        results.append(op("Mul", [u, op("Sub", [one, like], "quiet")], "after"))
    elif not end:
        results.append(op("Sub", [u, op("Mul", [threshold, like], "charge_spent")], "after"))
    inputs = [current] if start else [current, membrane]
    name = function_name(mode, start, end)
    graph = ir.Graph(inputs, results, nodes=nodes, opset_imports={"": _OPSET}, name=name)
    declared = [ir.Attr("threshold", ir.AttributeType.FLOAT, None)]
    if not start:
        declared.append(ir.Attr("tau", ir.AttributeType.FLOAT, None))
    return ir.Function(DOMAIN, name, graph=graph, attributes=declared)
