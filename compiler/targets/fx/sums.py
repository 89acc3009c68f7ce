"""Merged projections in a torch.fx graph: how their operations become nodes, and the modules of their sums."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import nn

from bcgraph.compiler.ir import Node, Program, Value
from bcgraph.compiler.ops.merged import runs, stacks_of
from bcgraph.nn import merged, modules, tree

SUMS = "_sums"
"""The name of the submodule with what normalizes and sums merged projections, one module a sum."""


class _Emitting(Protocol):
    """What emits the nodes of a program (`bcgraph.compiler.targets.fx.nodes.Emitter`).

    `env` holds what stands for each value, `readers` a node that reads it, `workspace` the memory of inference.
    """

    env: dict[str, Any]
    readers: dict[str, Node]
    values: dict[str, Value]
    workspace: Any

    def read(self, node: Node) -> list[Any]: ...

    def add(
        self,
        node: Node,
        op: str,
        target: Any,
        args: tuple[Any, ...],
        name: str | None = None,
        kwargs: dict[str, Any] | None = None,
    ) -> Any: ...

    def call(self, node: Node, target: Callable[..., Any], *args: Any) -> None: ...


def _parameters(emitter: _Emitting, node: Node, names: tuple[str, ...]) -> list[Any]:
    return [emitter.add(node, "get_attr", tree.in_code(name), (), name) for name in names]


def _several(emitter: _Emitting, node: Node, target: Callable[..., Any], *args: Any) -> None:
    """A call with a result for each output of `node`."""
    made = emitter.add(node, "call_function", target, args)
    for index, value in enumerate(node.outputs):
        emitter.env[value.name] = emitter.add(node, "call_function", operator.getitem, (made, index), value.name)


def _stack(emitter: _Emitting, node: Node) -> None:
    emitter.call(node, merged.stack, *_parameters(emitter, node, node.attrs["parameters"]))


def _fold_norms(emitter: _Emitting, node: Node) -> None:
    stacks = stacks_of(node)
    weights = [_parameters(emitter, node, tuple(f"{part.conv}.weight" for part in stack)) for stack in stacks]
    norms = [part.norm for stack in stacks for part in stack]
    affine = [
        _parameters(emitter, node, tuple(f"{norm}.{name}" for norm in norms))
        for name in ("weight", "bias", "running_mean", "running_var")
    ]
    reader = emitter.readers[node.outputs[0].name]
    shapes = [emitter.values[edge.value].shape for edge in reader.inputs[: len(stacks)]]
    workspace = (emitter.workspace, len(emitter.env)) if emitter.workspace is not None else ()
    places = tuple(map(runs, stacks))
    a = node.attrs
    _several(emitter, node, merged.fold_norms, weights, affine, places, a["channels"], a["eps"], shapes, *workspace)


def _project(emitter: _Emitting, node: Node) -> None:
    emitter.call(node, merged.project, *emitter.read(node))


def _norm_sum(emitter: _Emitting, node: Node) -> None:
    count = len(stacks_of(node))
    reads = emitter.read(node)
    named = {"steps": node.attrs["steps"]} if "steps" in node.attrs else {}
    args = (reads[:count], *reads[count:])
    emitter.env[node.output.name] = emitter.add(node, "call_module", f"{SUMS}.{_module(node)}", args, kwargs=named)


def _project_sum(emitter: _Emitting, node: Node) -> None:
    stacks = stacks_of(node)
    reads = emitter.read(node)
    xs, weights = reads[: len(stacks)], reads[len(stacks) : -1]
    emitter.call(node, merged.project_sum, xs, weights, reads[-1], tuple(map(runs, stacks)), node.attrs["channels"])


def _split(emitter: _Emitting, node: Node) -> None:
    _several(emitter, node, torch.split, *emitter.read(node), list(node.attrs["counts"]), 1)


EMIT: Mapping[str, Callable[[_Emitting, Node], None]] = {
    "stack_parameters": _stack,
    "fold_norms": _fold_norms,
    "project": _project,
    "norm_sum": _norm_sum,
    "project_sum": _project_sum,
    "split": _split,
}


class Sums(nn.Module):
    """The modules of the sums of merged projections. They call norms that stand elsewhere and own nothing."""


def sums_of(program: Program, root: nn.Module) -> Sums | None:
    """The modules for the `norm_sum` nodes of `program`, which call the norms of `root`; None where there are none."""
    sums = Sums()
    for node in program.nodes:
        if node.op == "norm_sum" and _module(node) not in sums._modules:
            stacks = stacks_of(node)
            terms = tuple(
                tuple(merged.Piece(_norm(root, part.norm), part.channels, part.repeats) for part in stack)
                for stack in stacks
            )
            sums.add_module(_module(node), merged.NormSum(terms, tuple(map(runs, stacks)), node.attrs["channels"]))
    return sums if sums._modules else None


def norms_of(program: Program) -> set[str]:
    """The norms that the sums of merged projections call."""
    nodes = [node for node in program.nodes if node.op == "norm_sum"]
    return {part.norm for node in nodes for stack in stacks_of(node) for part in stack}


def beside(root: nn.Module, sums: Sums | None) -> nn.Module:
    """The layers of `root` and, beside them, the modules of sums."""
    both = tree.Tree()
    both._modules.update(root._modules)
    if sums is not None:
        both.add_module(SUMS, sums)
    return both


def _module(node: Node) -> str:
    """The name of the module, in `SUMS`, that computes a `norm_sum` of any step."""
    return str(node.attrs["label"]).replace(".", "_")


def _norm(root: nn.Module, path: str) -> modules.BatchNorm:
    norm = tree.find(root, path)
    assert isinstance(norm, modules.BatchNorm)
    return norm
