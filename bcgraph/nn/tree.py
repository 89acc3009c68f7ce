"""The tree of modules that holds a network's layers, each at the place that its name says.

The names of layers in forward connections begin with `forward`, which in a torch module is a method. They stand under
that name in the tree, so that the state dict has it, and code finds them under another one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from bcgraph.names import FORWARD

IN_CODE = "forward_connections"
"""The attribute under which code finds the layers whose names begin with `forward`."""


class Tree(nn.Module):
    """A module whose layers of forward connections can be found by code."""

    @property
    def forward_connections(self) -> nn.Module:
        """The part of the tree that is called `forward`. Raises AttributeError where there is none."""
        found = self._modules.get(FORWARD)
        if found is None:
            raise AttributeError(f"there are no forward connections in {type(self).__name__}")
        return found


def in_code(path: str) -> str:
    """How code writes the place of a layer."""
    first, dot, rest = path.partition(".")
    return f"{IN_CODE}{dot}{rest}" if first == FORWARD else path


def find(root: nn.Module, path: str) -> nn.Module:
    """The module at a place. Raises AttributeError where there is none."""
    first, _, rest = path.partition(".")
    if first != FORWARD:
        return root.get_submodule(path)
    child = root._modules.get(first)
    if child is None:
        raise AttributeError(f"there is no module `{path}`")
    return child.get_submodule(rest)


def place(root: nn.Module, path: str, module: nn.Module, group: Callable[[], nn.Module] = nn.Module) -> None:
    """Put a module at its place, with new groups of names on the way where there are none."""
    *parents, last = path.split(".")
    for part in parents:
        child = root._modules.get(part)
        if child is None:
            child = group()
            _add(root, part, child)
        root = child
    _add(root, last, module)


def of(layers: Mapping[str, nn.Module]) -> Tree:
    """A tree of layers by their places."""
    root = Tree()
    for path, layer in layers.items():
        place(root, path, layer)
    return root


def _add(parent: nn.Module, name: str, child: nn.Module) -> None:
    if name == FORWARD:
        parent._modules[name] = child
    else:
        parent.add_module(name, child)
