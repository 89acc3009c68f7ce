"""Observation of a compiled module while it runs: its spikes, and the values of chosen nodes.

The module is interpreted node by node with the kernels of its own call, so outputs and spikes are bit-identical to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, fx

from bcgraph.compiler.targets.fx.nodes import MEMORY
from bcgraph.errors import CompileError


class Observer(fx.Interpreter):
    """Runs `module` and keeps what passes by.

    `spikes` holds the spikes `[N, ...]` of each (port, step), step 0 for a program of one step. `values` holds, by the
    given names, the result of each fx node in `wanted`. With `copies` they are copies; by default they are where the
    module has a memory plan, since a later step writes over its slots. Gradients flow as in the module's own call.
    """

    def __init__(
        self, module: fx.GraphModule, wanted: Mapping[str, fx.Node] | None = None, *, copies: bool | None = None
    ) -> None:
        super().__init__(module)
        self.copies = hasattr(module, MEMORY) if copies is None else copies
        self.spikes: dict[tuple[int, int], Tensor] = {}
        self.values: dict[str, Tensor] = {}
        self._names: dict[fx.Node, list[str]] = {}
        for name, node in (wanted or {}).items():
            self._names.setdefault(node, []).append(name)

    def run_node(self, n: fx.Node) -> Any:
        """Run one node and keep its result where somebody wants it."""
        result = super().run_node(n)
        spikes = n.meta.get("spikes")
        names = self._names.get(n, ())
        if spikes is None and not names:
            return result
        kept = result.clone() if self.copies else result
        self.values.update(dict.fromkeys(names, kept))
        if spikes is not None:
            port, first, count = spikes
            parts = by_step(kept, count)
            self.spikes.update({(port, first + i): part for i, part in enumerate(parts)})
        return result


def by_step(x: Tensor, count: int) -> tuple[Tensor, ...]:
    """The steps of `[count*N, ...]`, time first, each a view `[N, ...]`."""
    return (x,) if count == 1 else x.view(count, -1, *x.shape[1:]).unbind(0)


def check_observable(module: fx.GraphModule) -> None:
    """Raises CompileError (E072) for a module whose graph does not hold all steps of its ports."""
    if module.meta.get("recompute"):
        raise CompileError("E072", "a recomputing module keeps no spikes to read", hint="compile without `recompute`")
    if module.meta.get("schedule") == "step":
        raise CompileError("E072", "a program of one step holds the spikes of one step only", hint="use `unrolled`")


def spikes(model: fx.GraphModule, x: Tensor) -> tuple[Tensor, dict[tuple[int, int], Tensor]]:
    """Run `model` on `x` and return O, `[T, N, classes]`, and the spikes `[N, ...]` of each (port, step).

    Differentiable as the module itself. Raises CompileError (E072) for a module of the step schedule.
    """
    check_observable(model)
    observer = Observer(model)
    output = observer.run(x)
    return output, dict(sorted(observer.spikes.items()))


def codes(model: fx.GraphModule, found: Mapping[tuple[int, int], Tensor]) -> dict[tuple[int, int], Tensor]:
    """What the ports of `model` sent, by (port, step), as 0 and 1: numbers other than 0 count as firing."""
    graded = {port for port, layer in model.meta["neurons"].items() if not layer.neuron.equations.binary}
    return {place: (s != 0).to(s.dtype) if place[0] in graded else s for place, s in found.items()}
