"""What a training step keeps for its backward pass, by step and by kind of node."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor, fx


class _Keeper(fx.Interpreter):
    """Runs a module and charges each storage that autograd saves to the node that saved it first."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.node: fx.Node | None = None
        self.bytes: Counter[tuple[int | None, str]] = Counter()
        self.seen = {p.untyped_storage().data_ptr() for p in module.parameters()}
        self.alive: list[Tensor] = []

    def run_node(self, n: fx.Node) -> Any:
        self.node = n
        return super().run_node(n)

    def keep(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.seen:
            self.seen.add(storage.data_ptr())
            # Held, so that no later tensor is given the same address and taken for this one.
            self.alive.append(tensor)
            self.bytes[self.key()] += storage.nbytes()
        return tensor

    def key(self) -> tuple[int | None, str]:
        node = self.node
        assert node is not None
        if node.op == "call_module":
            return node.meta.get("step"), type(self.module.get_submodule(str(node.target))).__name__
        return node.meta.get("step"), getattr(node.target, "__name__", str(node.target))


def kept(module: fx.GraphModule, x: Tensor) -> dict[tuple[int | None, str], int]:
    """Bytes that autograd keeps of one forward pass of `module` on `x`, by step (None: all of them) and kind.

    A storage that several nodes keep counts once, for the first. Kinds are the names of modules (`Conv`,
    `BatchNorm`) and of functions (`lif`).
    """
    keeper = _Keeper(module)
    with torch.autograd.graph.saved_tensors_hooks(keeper.keep, lambda t: t):
        keeper.run(x)
    return dict(sorted(keeper.bytes.items(), key=lambda item: (item[0][0] is not None, item[0][0] or 0, item[0][1])))
