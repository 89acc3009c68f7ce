"""The layers of the language: what each may be given, and the node it becomes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bcgraph import schema
from bcgraph.dsl.elaboration.values import Parameter, parameters_of
from bcgraph.errors import Span


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the network says about every neuron and every batch norm; no neuron where it is wrong."""

    neuron: schema.Neuron | None
    norm: schema.Norm


@dataclass(frozen=True, slots=True)
class Layer:
    """One kind of layer. `named` layers hold parameters or state, so they need a name of their own."""

    parameters: tuple[Parameter, ...]
    make: Callable[[str, Span, Mapping[str, Any], Defaults], schema.LayerNode]
    named: bool


def _conv(name: str, span: Span, values: Mapping[str, Any], defaults: Defaults) -> schema.Conv:
    given = dict(values)
    half = (given.get("kernel", 3) - 1) * given.get("dilation", 1) // 2
    return schema.Conv(name=name, span=span, **{"padding": half, **given})


def _bn(name: str, span: Span, values: Mapping[str, Any], defaults: Defaults) -> schema.BatchNorm:
    return schema.BatchNorm(name=name, span=span, norm=dataclasses.replace(defaults.norm, **values))


def _linear(name: str, span: Span, values: Mapping[str, Any], defaults: Defaults) -> schema.Linear:
    return schema.Linear(name=name, span=span, **values)


def _flatten(name: str, span: Span, values: Mapping[str, Any], defaults: Defaults) -> schema.Flatten:
    return schema.Flatten(name=name, span=span)


def _dropout(name: str, span: Span, values: Mapping[str, Any], defaults: Defaults) -> schema.Dropout:
    given = {"probability": values["p"]} if "p" in values else {}
    return schema.Dropout(name=name, span=span, **given)


def _pool(kind: Any) -> Layer:
    def make(name: str, span: Span, values: Mapping[str, Any], defaults: Defaults) -> schema.Pool:
        return schema.Pool(kind=kind, name=name, span=span, **{"stride": values["kernel"], **values})

    parameters = tuple(dataclasses.replace(p, required=p.name == "kernel") for p in parameters_of(schema.Pool))
    return Layer(parameters, make, named=False)


def _adaptive(kind: Any) -> Layer:
    def make(name: str, span: Span, values: Mapping[str, Any], defaults: Defaults) -> schema.AdaptivePool:
        return schema.AdaptivePool(kind=kind, name=name, span=span, **values)

    return Layer(parameters_of(schema.AdaptivePool), make, named=False)


LAYERS: Mapping[str, Layer] = {
    "conv": Layer(parameters_of(schema.Conv), _conv, named=True),
    "bn": Layer(parameters_of(schema.Norm), _bn, named=True),
    "linear": Layer(parameters_of(schema.Linear), _linear, named=True),
    "avgpool": _pool("avgpool"),
    "maxpool": _pool("maxpool"),
    "adaptive_avgpool": _adaptive("adaptive_avgpool"),
    "adaptive_maxpool": _adaptive("adaptive_maxpool"),
    "flatten": Layer((), _flatten, named=False),
    "dropout": Layer(
        tuple(dataclasses.replace(p, name="p") for p in parameters_of(schema.Dropout)), _dropout, named=False
    ),
}
