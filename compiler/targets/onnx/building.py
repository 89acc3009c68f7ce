"""Building an ONNX graph: nodes, constants that are stored once, and what a registered layer adds its own with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from bcgraph.compiler.ir import Node

OPSET = 18
IR_VERSION = 9
BATCH = "N"
FLOATS = ir.TensorType(ir.DataType.FLOAT)


class Nodes:
    """Adds nodes and initializers. `env` holds the ONNX value of each value of the program that is made."""

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        self.weights = weights
        self.tape = ir.tape.Tape()
        self.initializers: dict[str, ir.Value] = {}
        self.env: dict[str, ir.Value] = {}

    def op(
        self,
        kind: str,
        inputs: Sequence[ir.Value | None],
        name: str,
        attributes: Mapping[str, Any] | None = None,
        *,
        domain: str = "",
        outputs: Sequence[str] | None = None,
    ) -> ir.Value:
        """A node, by its first result, which is called `name` unless `outputs` names the results."""
        made = [ir.Value(name=n) for n in (outputs or [name])]
        self.tape.op_multi_out(kind, list(inputs), attributes, domain=domain, outputs=made, name=name)
        return made[0]

    def constant(self, name: str, value: np.ndarray) -> ir.Value:
        """An initializer, stored once a name."""
        if name not in self.initializers:
            self.initializers[name] = self.tape.initializer(ir.tensor(np.asarray(value, order="C"), name=name))
        return self.initializers[name]

    def integers(self, *values: int) -> ir.Value:
        """Whole numbers, for a shape or for axes."""
        return self.constant("i64." + "_".join(map(str, values)), np.array(values, dtype=np.int64))

    def weight(self, name: str) -> ir.Value:
        """A weight by its name in the state dict."""
        return self.constant(name, self.weights[name].astype(np.float32))

    def reads(self, node: Node) -> list[ir.Value]:
        """What a node of the program reads."""
        return [self.env[e.value] for e in node.inputs]

    def put(self, node: Node, kind: str, inputs: Sequence[ir.Value | None], **attributes: Any) -> None:
        """Add what a node of the program becomes where it becomes one node."""
        self.env[node.output.name] = self.op(kind, inputs, node.output.name, attributes)


class Build:
    """What the emitter of a registered layer is given: it adds ONNX nodes, and reads the layer's parameters."""

    def __init__(self, nodes: Nodes, node: Node) -> None:
        self._nodes = nodes
        self._node = node
        self._count = 0

    def op(self, kind: str, *inputs: ir.Value | np.ndarray | float | None, **attributes: Any) -> ir.Value:
        """A node of ONNX's own operations, by its result; numbers and arrays become constants in float32."""
        self._count += 1
        name = f"{self._node.output.name}.{self._count}"
        read = [
            each
            if each is None or isinstance(each, ir.Value)
            else self._nodes.constant(f"{name}.{place}", np.asarray(each, dtype=np.float32))
            for place, each in enumerate(inputs)
        ]
        return self._nodes.op(kind, read, name, attributes)

    def integers(self, *values: int) -> ir.Value:
        """Whole numbers, for a shape or for axes."""
        return self._nodes.integers(*values)

    def floats(self, *values: float) -> ir.Value:
        """Numbers in float32."""
        name = "f32." + "_".join(map(str, values))
        return self._nodes.constant(name, np.array(values, dtype=np.float32))

    def weight(self, name: str) -> ir.Value:
        """A parameter or buffer of the layer by its name in the state dict of its module."""
        return self._nodes.weight(f"{self._node.module}.{name}")


def typed(name: str, *shape: int | str) -> ir.Value:
    """A float32 value with a shape, whose free axes are named."""
    return ir.Value(name=name, shape=ir.Shape(shape), type=FLOATS)
