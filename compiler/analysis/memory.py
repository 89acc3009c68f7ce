"""Measured memory: what a training step keeps for its backward pass, and the peak of a forward pass."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


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
            # Held, so that no later tensor gets the same address and is mistaken for this one.
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


class _Living(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows the bytes of all storages that operations return, from their first to their last reference."""

    def __init__(self, given: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ignored = [t.untyped_storage() for t in given]
        self.sizes: dict[int, int] = {s._cdata: 0 for s in self.ignored}
        self.now = 0
        self.most = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.meet(leaf)
        return result

    def meet(self, tensor: Tensor) -> None:
        # A packed weight has no storage to look at.
        plain = tensor.layout is torch.strided
        owner: Any = tensor.untyped_storage() if plain else tensor
        key = owner._cdata if plain else id(tensor)
        if key in self.sizes:
            return
        self.sizes[key] = owner.nbytes() if plain else tensor.numel() * tensor.element_size()
        self.now += self.sizes[key]
        self.most = max(self.most, self.now)
        weakref.finalize(owner, self.drop, key)

    def drop(self, key: int) -> None:
        self.now -= self.sizes.pop(key)


@torch.no_grad()
def peak(module: fx.GraphModule, *inputs: Tensor) -> int:
    """The most bytes of tensors that are alive at once in a forward pass of `module` without gradients.

    Parameters, buffers and `inputs` do not count; memory that the module holds from an earlier call does not either.
    Scratch memory inside an operation of torch is not seen.
    """
    living = _Living([*module.parameters(), *module.buffers(), *inputs])
    with living:
        module(*inputs)
    return living.most
