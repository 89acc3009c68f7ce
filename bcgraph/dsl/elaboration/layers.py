"""The layers of the language: what each may be given, and the node it becomes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bcgraph import plugins, schema
from bcgraph.dsl import syntax
from bcgraph.dsl.elaboration import kinds
from bcgraph.dsl.elaboration.evaluate import Scope
from bcgraph.dsl.elaboration.values import Parameter, build, convert_all, parameters_of
from bcgraph.errors import Span
from bcgraph.layers import STANDARD
from bcgraph.plugins import values as values_of
from bcgraph.shapes import pair


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the network says about every neuron and every batch norm; no neuron where it is wrong.

    In a projection, `target` is the height and width of the port that it goes to.
    """

    neuron: schema.Neuron | None
    norm: schema.Norm
    target: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Layer:
    """One kind of layer. `named` layers hold parameters or state, so they need a name of their own.

    `threshold` says that it needs the threshold of the network's neuron. `later` layers came after the first version:
    a block of an older file may have their name, and is meant then. `projection` layers stand only in what a connection
    runs through.
    """

    parameters: tuple[Parameter, ...]
    make: Callable[[str, Span, Mapping[str, Any], Defaults], schema.LayerNode]
    named: bool
    threshold: bool = False
    later: bool = False
    projection: bool = False


def _conv(name: str, span: Span, values: Mapping[str, Any], defaults: Defaults) -> schema.Conv:
    given = dict(values)
    kernel, dilation = pair(given.get("kernel", 3)), pair(given.get("dilation", 1))
    rows, columns = ((k - 1) * d // 2 for k, d in zip(kernel, dilation, strict=True))
    half = rows if rows == columns else (rows, columns)
    return schema.Conv(name=name, span=span, **{"padding": half, **given})


def _bn(name: str, span: Span, values: Mapping[str, Any], defaults: Defaults) -> schema.BatchNorm:
    return schema.BatchNorm(name=name, span=span, norm=dataclasses.replace(defaults.norm, **values))


def _tdbn(name: str, span: Span, values: Mapping[str, Any], defaults: Defaults) -> schema.BatchNorm:
    given = dict(values)
    threshold = defaults.neuron.threshold if defaults.neuron is not None else None
    given["gain"] = given.pop("alpha", 1.0) * (1.0 if threshold is None else threshold)
    return _bn(name, span, {**given, "scales": "shared"}, defaults)


def _tebn(name: str, span: Span, values: Mapping[str, Any], defaults: Defaults) -> schema.BatchNorm:
    return _bn(name, span, {"gain": 1.0, **values, "scales": "per_step"}, defaults)


def _linear(name: str, span: Span, values: Mapping[str, Any], defaults: Defaults) -> schema.Linear:
    return schema.Linear(name=name, span=span, **values)


def _resize(name: str, span: Span, values: Mapping[str, Any], defaults: Defaults) -> schema.Resize:
    assert defaults.target is not None
    return schema.Resize(name=name, span=span, size=defaults.target, **values)


def _flatten(name: str, span: Span, values: Mapping[str, Any], defaults: Defaults) -> schema.Flatten:
    return schema.Flatten(name=name, span=span)


def _dropout(name: str, span: Span, values: Mapping[str, Any], defaults: Defaults) -> schema.Dropout:
    given = {"probability": values["p"]} if "p" in values else {}
    return schema.Dropout(name=name, span=span, **given)


def _pool(kind: Any) -> Layer:
    def make(name: str, span: Span, values: Mapping[str, Any], defaults: Defaults) -> schema.Pool:
        return schema.Pool(kind=kind, name=name, span=span, **{"stride": values["kernel"], **values})

    parameters = tuple(
        dataclasses.replace(p, required=p.name == "kernel")
        for p in parameters_of(schema.Pool)
        if p.name != "ceil" or kind == "maxpool"
    )
    return Layer(parameters, make, named=False)


def _adaptive(kind: Any) -> Layer:
    def make(name: str, span: Span, values: Mapping[str, Any], defaults: Defaults) -> schema.AdaptivePool:
        return schema.AdaptivePool(kind=kind, name=name, span=span, **values)

    return Layer(parameters_of(schema.AdaptivePool), make, named=False)


_NORM = {parameter.name: parameter for parameter in parameters_of(schema.Norm)}

_KINDS: Mapping[type, kinds.Kind] = {
    bool: kinds.Flag(),
    int: kinds.Integer(),
    float: kinds.Real(),
    str: kinds.Text(),
}


def registered(entry: plugins.Entry) -> Layer:
    """The layer that a user has registered."""
    declared: values_of.Layer = entry.value
    plain = {a.name: a.default for a in declared.arguments if not a.required}

    def make(name: str, span: Span, values: Mapping[str, Any], defaults: Defaults) -> schema.Registered:
        given = {**plain, **values}
        arguments = tuple((a.name, given[a.name]) for a in declared.arguments)
        return schema.Registered(
            name=name, span=span, layer=entry.name, package=entry.origin.package, arguments=arguments
        )

    parameters = tuple(Parameter(a.name, _KINDS[a.kind], a.required) for a in declared.arguments)
    return Layer(parameters, make, named=True)


def _standard(kind: str) -> Layer:
    """A layer that is declared in `bcgraph.layers`."""
    declared = STANDARD[kind]
    plain = {a.name: a.default for a in declared.arguments if not a.required}

    def make(name: str, span: Span, values: Mapping[str, Any], defaults: Defaults) -> schema.Standard:
        given = {**plain, **values}
        arguments = tuple((a.name, given[a.name]) for a in declared.arguments)
        return schema.Standard(name=name, span=span, layer=kind, arguments=arguments)

    parameters = tuple(Parameter(a.name, _KINDS[a.kind], a.required) for a in declared.arguments)
    return Layer(parameters, make, named=declared.named, later=True)


LAYERS: Mapping[str, Layer] = {
    "conv": Layer(parameters_of(schema.Conv), _conv, named=True),
    "bn": Layer(parameters_of(schema.Norm), _bn, named=True),
    "tdbn": Layer(
        (Parameter("alpha", _NORM["gain"].kind, False), *(_NORM[name] for name in ("eps", "momentum", "statistics"))),
        _tdbn,
        named=True,
        threshold=True,
        later=True,
    ),
    "tebn": Layer(
        tuple(_NORM[name] for name in ("eps", "momentum", "statistics", "gain")), _tebn, named=True, later=True
    ),
    "linear": Layer(parameters_of(schema.Linear), _linear, named=True),
    "avgpool": _pool("avgpool"),
    "maxpool": _pool("maxpool"),
    "adaptive_avgpool": _adaptive("adaptive_avgpool"),
    "adaptive_maxpool": _adaptive("adaptive_maxpool"),
    "flatten": Layer((), _flatten, named=False),
    "resize": Layer(
        (Parameter("mode", kinds.kind_of(kinds.fields(schema.Resize)["mode"]), False),),
        _resize,
        named=False,
        later=True,
        projection=True,
    ),
    "dropout": Layer(
        tuple(dataclasses.replace(p, name="p") for p in parameters_of(schema.Dropout)), _dropout, named=False
    ),
    **{kind: _standard(kind) for kind in STANDARD},
}


def check_threshold(layer: Layer, call: syntax.Call, defaults: Defaults, scope: Scope) -> None:
    """Report a layer that needs the threshold of the network's neuron where that has none (E044). Raises Failed."""
    neuron = defaults.neuron
    if layer.threshold and neuron is not None and neuron.threshold is None:
        message = f"`{call.name}` needs a threshold, and the network's neuron `{neuron.name}` has none"
        raise scope.fail("E044", message, call.name_span, "write `bn()`, or take a neuron with a `threshold`")


def check_place(layer: Layer, call: syntax.Call, defaults: Defaults, scope: Scope) -> None:
    """Report a layer of projections that stands in a backbone (E035). Raises Failed."""
    if layer.projection and defaults.target is None:
        hint = "it stands in a block that a connection names: `backward ... { through = name() }`"
        raise scope.fail("E035", f"`{call.name}` does not belong in a backbone", call.name_span, hint)


def norm(call: syntax.Call, defaults: Defaults, scope: Scope) -> schema.Norm:
    """The norm that `norm = tdbn(...)` or `norm = tebn(...)` means. Raises Failed once the reasons are reported."""
    layer = LAYERS[call.name]
    check_threshold(layer, call, defaults, scope)
    values, spans = convert_all(call, layer.parameters, scope)

    def make(values: Mapping[str, Any]) -> schema.LayerNode:
        return layer.make("norm", call.span, values, defaults)

    made: schema.BatchNorm = build(make, {"values": values}, spans, call.span, scope)
    return made.norm


NORMS = tuple(name for name, layer in LAYERS.items() if layer.make in (_tdbn, _tebn))
"""Layers that `norm = ...` takes beside `bn`."""
