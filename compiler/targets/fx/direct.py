"""A program that runs without a torch.fx graph: each operation is called when it is come to.

To write a graph and its code takes longer than a run on a small batch does. Where a program runs once, as that of a
candidate that is scored, its operations are called directly, the same ones with the same operands.
"""

from __future__ import annotations

from torch import Tensor, nn

from bcgraph.compiler.ir import Program
from bcgraph.compiler.targets.fx import loops
from bcgraph.compiler.targets.fx.nodes import call
from bcgraph.compiler.targets.fx.sums import beside, sums_of


class Direct(nn.Module):
    """Runs `program` with the parameters of `root`, which it shares, and gives its outputs.

    It has no memory plan, and keeps no value longer than it is read.
    """

    def __init__(self, program: Program, root: nn.Module) -> None:
        super().__init__()
        self.program = program
        self.root = beside(root, sums_of(program, root))
        run = loops.loops_of(program, root)
        if run is not None:
            self.root.add_module(loops.LOOPS, run)
        kept = {*program.outputs, *(value.name for value in program.inputs)}
        # What nobody reads goes at once.
        last = {value.name: place for place, node in enumerate(program.nodes) for value in node.outputs}
        last |= {edge.value: place for place, node in enumerate(program.nodes) for edge in node.inputs}
        self._done: dict[int, list[str]] = {}
        for name, place in last.items():
            if name not in kept:
                self._done.setdefault(place, []).append(name)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The outputs of the program, from its inputs in their order."""
        return call(self.program, self.root, inputs, self._done)
