"""Whether two ONNX files are one graph: a file, and its sibling that gives out more of what it computes."""

from __future__ import annotations

from collections.abc import Collection

import onnx


def bare(model: onnx.ModelProto, watch: Collection[str], *, numbers: bool = True) -> bytes:
    """What a file computes, to be compared: its nodes, attributes, functions and initializers, without metadata.

    Without the outputs that watch the values `watch`; without `numbers` only shapes and types are left of initializers.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    del made.metadata_props[:]
    watching = frozenset(end for name in watch for end in (f"{name}.watched", f"{name}.watched_t"))
    _strip(made.graph, watching, numbers=numbers)
    data: bytes = made.SerializeToString(deterministic=True)
    return data


def _strip(graph: onnx.GraphProto, watching: frozenset[str], *, numbers: bool) -> None:
    """Leave out outputs, the nodes that only make them, and numbers, in the bodies of nodes too."""
    # Initializers stand where they were first asked for.
    held = sorted(graph.initializer, key=lambda each: each.name)
    del graph.initializer[:]
    for tensor in held:
        if not numbers and tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.ClearField("raw_data")
            tensor.ClearField("float_data")
        graph.initializer.append(tensor)
    kept = [node for node in graph.node if not (node.op_type == "Identity" and node.output[0] in watching)]
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
    del graph.node[:]
    graph.node.extend(nodes)
    for node in graph.node:
        outputs = [name for name in node.output if name not in watching]
        del node.output[:]
        node.output.extend(outputs)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _strip(attribute.g, watching, numbers=numbers)
    for values in (graph.output, graph.value_info):
        left = [onnx.ValueInfoProto.FromString(v.SerializeToString()) for v in values if v.name not in watching]
        del values[:]
        values.extend(left)
