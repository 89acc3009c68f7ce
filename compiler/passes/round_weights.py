"""`round_weights`: for inference, weights that meet spikes are rounded to 16 bits, so that their sums are exact.

Spikes are 0 and 1, so with whole-number weights a current is a whole number, whatever the order of the sum, and the
processor's kernels for 8 bits compute it in about half of the time (see `bcgraph.nn.conv.int16`). Runs after `fold_bn`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bcgraph.compiler.ir import TemporalGraph
from bcgraph.compiler.ops import Trait, has


@dataclass(frozen=True)
class RoundWeights:
    """Mark the folded weights of convolutions that read spikes. Which of them fit the kernels is seen when they run."""

    name: ClassVar[str] = "round_weights"
    inference_only: ClassVar[bool] = True

    def run(self, graph: TemporalGraph) -> TemporalGraph:
        """The graph with `bits=16` on the `fold_norm` nodes of such weights."""
        spikes = _spikes(graph)
        convs = [n for n in graph.nodes if n.op == "conv" and len(n.inputs) == 3 and n.inputs[0].value in spikes]
        read = {n.inputs[1].value for n in convs}
        chosen = {
            n.name for n in graph.nodes if n.op == "fold_norm" and n.outputs[0].name in read and not n.attrs.get("bits")
        }
        if not chosen:
            return graph
        return graph.with_nodes(tuple(n.with_attrs(bits=16) if n.name in chosen else n for n in graph.nodes))


def _spikes(graph: TemporalGraph) -> frozenset[str]:
    """The values that are 0 or 1 at every step: before the first they are 0."""
    found = {n.outputs[0].name for n in graph.nodes if has(n, Trait.BINARY)}
    while True:
        # A value may be read, a step late, by a node that comes before it.
        moved = {
            n.output.name
            for n in graph.nodes
            if has(n, Trait.KEEPS_SPIKES) and n.inputs and all(e.value in found for e in n.inputs)
        }
        if moved <= found:
            return frozenset(found)
        found |= moved
