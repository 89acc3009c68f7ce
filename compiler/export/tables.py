"""Tables of targets, from operation to emitter: what a table cannot carry is refused before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

from bcgraph import layers, plugins, schema, shapes
from bcgraph.compiler.ir import Node
from bcgraph.errors import CompileError, Diagnostic

REGISTERED = "registered"
"""The operation of all registered layers."""

STANDARD = "standard"
"""The operation of all layers that `bcgraph.layers` declares."""


def check(nodes: Iterable[Node], table: Collection[str], target: str) -> None:
    """Raise CompileError (E073) with one diagnostic for each layer that `table` and `target` cannot express."""
    wrong: dict[object, Diagnostic] = {}
    for node in nodes:
        if node.op not in table:
            what = f"`{node.name}` is of the operation `{node.op}`, which the target {target} cannot express"
            wrong.setdefault((node.op, node.span), Diagnostic("E073", what, node.span))
        elif node.op == STANDARD and target not in standard(node).emitters:
            layer = node.attrs["layer"]
            what = f"`{layer.name}` is a `{layer.layer}`, which the target {target} cannot express"
            wrong.setdefault((layer.name, node.span), Diagnostic("E073", what, node.span))
        elif node.op == REGISTERED and target not in shapes.registered(layer_of(node)).value.emitters:
            layer = layer_of(node)
            what = f"`{layer.name}`: the layer `{layer.layer}` has no emitter for the target {target}"
            hint = f'register it with `emitters={{"{target}": ...}}`, or write a .pt2 file'
            origin = shapes.registered(layer).origin
            notes = (f"it is registered by {origin}",)
            wrong.setdefault((layer.name, node.span), Diagnostic("E073", what, node.span, hint, notes=notes))
    if wrong:
        raise CompileError.of(wrong.values())


def standard(node: Node) -> layers.Standard:
    """The declaration of the layer of a node."""
    return layers.STANDARD[node.attrs["layer"].layer]


def written(node: Node, target: str, given: shapes.Shape, *values: Any) -> Any:
    """What the emitter of a declared layer makes of `values`, for the shape `given` before it."""
    return standard(node).emitters[target](*values, given, **dict(node.attrs["layer"].arguments))


def layer_of(node: Node) -> schema.Registered:
    """The layer of a node of a registered one."""
    layer = node.attrs["layer"]
    assert isinstance(layer, schema.Registered)
    return layer


def called(node: Node, target: str, *given: Any) -> Any:
    """What the emitter of a registered layer makes of `given` and the layer's arguments. Raises PluginError (E095)."""
    layer = layer_of(node)
    entry = shapes.registered(layer)
    emit: Callable[..., Any] = entry.value.emitters[target]
    with plugins.calling(entry):
        return emit(*given, **dict(layer.arguments))
