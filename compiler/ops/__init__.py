"""The operations of the temporal graph, one family a file. `OPS` is the table of all of them."""

from __future__ import annotations

from collections.abc import Mapping

from bcgraph.compiler.ir import Node
from bcgraph.compiler.ops.base import Op, Trait, attributes
from bcgraph.compiler.ops.constant import CONSTANT
from bcgraph.compiler.ops.lanes import LANES
from bcgraph.compiler.ops.layers import LAYERS
from bcgraph.compiler.ops.loop import LOOP
from bcgraph.compiler.ops.merged import MERGED
from bcgraph.compiler.ops.neuron import NEURON
from bcgraph.compiler.ops.scheduling import SCHEDULING
from bcgraph.compiler.ops.shape import SHAPE

__all__ = ["OPS", "Op", "Trait", "attributes", "has", "operations"]

OPS: Mapping[str, Op] = {**LAYERS, **SHAPE, **NEURON, **CONSTANT, **MERGED, **LOOP, **SCHEDULING, **LANES}


def has(node: Node, trait: Trait) -> bool:
    """Whether the operation of `node` has `trait`."""
    return trait in OPS[node.op].of(node)


def operations(node: Node, given: tuple[int, ...]) -> int:
    """Multiply-accumulates of `node` in one step of one sample; `given` is the shape of its first operand."""
    count = OPS[node.op].operations
    return 0 if count is None else count(node, given)
