"""Rules of norms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bcgraph.importing.conversion.converter import Converter, ModuleRule, without
from bcgraph.importing.conversion.convolution import holder
from bcgraph.importing.layers import RefusedError, View
from bcgraph.importing.record import Ref


def _bn(c: Converter, m: Any, x: Ref) -> View:
    c.once()
    return batch_norm(c, c.view(x), m.running_mean, m.running_var, m.weight, m.bias, m.momentum, m.eps)


def batch_norm(
    c: Converter,
    view: View,
    mean: Tensor | None,
    var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float | None,
    eps: float,
    name: str | None = None,
) -> View:
    """A batch norm with these values."""
    if mean is None or var is None:
        raise RefusedError("a batch norm without running statistics cannot be said", "track its running statistics")
    if not view.axes.startswith("c"):
        raise RefusedError("a batch norm is over the axis after the batch")
    weights = {
        "weight": torch.ones_like(mean) if weight is None else weight.detach(),
        "bias": torch.zeros_like(mean) if bias is None else bias.detach(),
        "running_mean": mean.detach(),
        "running_var": var.detach(),
    }
    given = without(
        {"eps": float(eps), "momentum": 0.1 if momentum is None else float(momentum)}, eps=1e-5, momentum=0.1
    )
    return c.add("bn", (view.layer,), c.shape(view), view.axes, name, weights, **given)


def _functional_batch_norm(
    c: Converter, x: Any, running_mean: Any, running_var: Any, weight: Any = None, bias: Any = None,
    training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> View:  # fmt: skip
    if training:
        raise RefusedError("a batch norm by the statistics of the batch alone cannot be said")
    name = holder(c, running_mean, "bn")
    return batch_norm(c, c.view(x), running_mean, running_var, weight, bias, momentum, eps, name)


def _layer_norm_module(c: Converter, m: Any, x: Ref) -> View:
    c.once()
    return layer_norm(c, c.view(x), m.normalized_shape, m.weight, m.bias, m.eps)


def layer_norm(
    c: Converter, view: View, over: Any, weight: Tensor | None, bias: Tensor | None, eps: float = 1e-5,
    name: str | None = None,
) -> View:  # fmt: skip
    """A layer norm over channels, which are the last axis."""
    if len(tuple(over)) != 1 or not view.axes.endswith("c"):
        raise RefusedError(
            "a layer norm is over the channels at each place", "over more axes it is a group norm of 1 group"
        )
    given = without({"eps": float(eps), "affine": weight is not None}, eps=1e-5, affine=True)
    return c.add("layernorm", (view.layer,), c.shape(view), view.axes, name, _affine(weight, bias), **given)


def _functional_layer_norm(
    c: Converter, x: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> View:
    return layer_norm(c, c.view(x), normalized_shape, weight, bias, eps, holder(c, weight, "norm"))


def _group_norm_module(c: Converter, m: Any, x: Ref) -> View:
    c.once()
    return group_norm(c, c.view(x), m.num_groups, m.weight, m.bias, m.eps)


def group_norm(
    c: Converter, view: View, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float = 1e-5,
    name: str | None = None,
) -> View:  # fmt: skip
    """A group norm."""
    view = c.plain(view, "a group norm")
    given = without({"eps": float(eps), "affine": weight is not None}, eps=1e-5, affine=True)
    return c.add(
        "groupnorm", (view.layer,), c.shape(view), view.axes, name, _affine(weight, bias), groups=groups, **given
    )


def _functional_group_norm(
    c: Converter, x: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> View:
    return group_norm(c, c.view(x), num_groups, weight, bias, eps, holder(c, weight, "norm"))


def _instance_norm(c: Converter, m: Any, x: Ref) -> View:
    if m.track_running_stats:
        raise RefusedError("an instance norm with running statistics cannot be said")
    c.once()
    view = c.view(x)
    return group_norm(c, view, c.shape(view)[0], m.weight, m.bias, m.eps)


def _affine(weight: Tensor | None, bias: Tensor | None) -> dict[str, Tensor]:
    if weight is None:
        return {}
    return {"weight": weight.detach(), "bias": torch.zeros_like(weight) if bias is None else bias.detach()}


MODULES: Mapping[type, ModuleRule] = {
    nn.BatchNorm2d: _bn,
    nn.BatchNorm1d: _bn,
    nn.LayerNorm: _layer_norm_module,
    nn.GroupNorm: _group_norm_module,
    nn.InstanceNorm2d: _instance_norm,
    nn.InstanceNorm1d: _instance_norm,
}

FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "batch_norm": _functional_batch_norm,
    "layer_norm": _functional_layer_norm,
    "group_norm": _functional_group_norm,
}
