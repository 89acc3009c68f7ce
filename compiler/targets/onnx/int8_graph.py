"""What a file in int8 has to be: the graph of the float32 file that was proved, its numbers within half a step.

A comparison of accuracies alone lets a wrong weight pass. Without its `QuantizeLinear` and `DequantizeLinear` nodes the
file must have the nodes, edges, attributes and neurons of the file that it was made from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from bcgraph.errors import CompileError

_QUANTIZE, _DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
# Half a step, and a little for the rounding of the step itself.
_HALF = 0.501


def check(float32: onnx.ModelProto, int8: onnx.ModelProto, spikes: Sequence[str]) -> None:
    """Raise CompileError (E075) where `int8` is more than `float32` in 8 bits; `spikes` have to stay as they are."""
    try:
        _check(float32, int8, frozenset(spikes))
    except _OtherError as error:
        raise CompileError("E075", f"the file in int8 is another network than the one in float32: {error}") from None


class _OtherError(Exception):
    pass


def _check(float32: onnx.ModelProto, int8: onnx.ModelProto, spikes: frozenset[str]) -> None:
    numbers = {i.name: numpy_helper.to_array(i) for i in float32.graph.initializer}
    quantized = {i.name: numpy_helper.to_array(i) for i in int8.graph.initializer}
    roots = dict(_roots(int8.graph, quantized, spikes))
    nodes = [node for node in int8.graph.node if node.op_type not in (_QUANTIZE, _DEQUANTIZE)]
    if len(nodes) != len(float32.graph.node):
        raise _OtherError(f"{len(nodes)} operations instead of {len(float32.graph.node)}")
    theirs = {tuple(node.output): node for node in nodes}
    for node in float32.graph.node:
        other = theirs.get(tuple(node.output))
        if other is None or (other.op_type, other.domain) != (node.op_type, node.domain):
            raise _OtherError(f"`{node.output[0]}` is made otherwise")
        if _attributes(other) != _attributes(node) or len(other.input) != len(node.input):
            raise _OtherError(f"`{node.output[0]}` has other attributes")
        for expected, name in zip(node.input, other.input, strict=True):
            root = roots.get(name, name)
            if isinstance(root, str) and root in quantized and expected in numbers:
                root = (quantized[root], np.zeros(()))
            if isinstance(root, str):
                if root != expected:
                    raise _OtherError(f"`{node.output[0]}` reads `{root}` instead of `{expected}`")
                continue
            value, allowed = root
            if expected not in numbers or value.shape != numbers[expected].shape:
                raise _OtherError(f"`{node.output[0]}` reads other numbers than `{expected}`")
            if not bool((np.abs(value - numbers[expected]) <= allowed).all()):
                raise _OtherError(f"`{expected}` is further away than 8 bits round")
    if [f.SerializeToString(deterministic=True) for f in float32.functions] != [
        f.SerializeToString(deterministic=True) for f in int8.functions
    ]:
        raise _OtherError("its neurons have other equations")
    for ours, them in ((float32.graph.input, int8.graph.input), (float32.graph.output, int8.graph.output)):
        if [v.name for v in ours] != [v.name for v in them]:
            raise _OtherError("it has other inputs or outputs")


_Numbers = tuple[NDArray[np.floating], NDArray[np.floating]]


def _roots(
    graph: onnx.GraphProto, quantized: Mapping[str, np.ndarray], spikes: frozenset[str]
) -> Iterator[tuple[str, str | _Numbers]]:
    """For each value in 8 bits that is read in float32: where it comes from, or numbers and how far off they may be."""
    sources = {node.output[0]: node for node in graph.node if node.op_type == _QUANTIZE}
    for node in graph.node:
        if node.op_type != _DEQUANTIZE:
            continue
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        scale = quantized[node.input[1]].astype(np.float64)
        zero = quantized[node.input[2]].astype(np.float64) if len(node.input) > 2 and node.input[2] else np.zeros(())
        source = sources.get(node.input[0])
        if source is not None:
            if list(source.input[1:]) != list(node.input[1:]):
                raise _OtherError(f"`{source.input[0]}` comes back with another scale")
            if source.input[0] in spikes and (scale != 1.0 or zero != 0.0):
                raise _OtherError(f"the spikes `{source.input[0]}` are scaled")
            yield node.output[0], source.input[0]
            continue
        held = quantized[node.input[0]].astype(np.float64)
        if scale.ndim:
            wide = [-1 if i == axis % held.ndim else 1 for i in range(held.ndim)]
            scale, zero = scale.reshape(wide), zero.reshape(wide) if zero.ndim else zero
        yield node.output[0], ((held - zero) * scale, np.broadcast_to(_HALF * scale, held.shape))


def _attributes(node: onnx.NodeProto) -> list[bytes]:
    return sorted(a.SerializeToString(deterministic=True) for a in node.attribute)
