"""Norms that know no batch: layer norm and group norm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bcgraph import lazy
from bcgraph.layers.declaration import Shape, Standard, by_channel, divides, keep, onnx_by_channel

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
else:
    torch = lazy.Module("torch")
    nn = lazy.Module("torch.nn")


def _layernorm(given: Shape, eps: float = 1e-5, affine: bool = True) -> Shape:
    _small(eps)
    return given


def _groupnorm(given: Shape, groups: int, eps: float = 1e-5, affine: bool = True) -> Shape:
    _small(eps)
    divides(given[0], groups)
    return given


def _small(eps: float) -> None:
    if not 1e-12 <= eps <= 1e12:
        raise ValueError(f"`eps` cannot be {eps}: it is from 1e-12 to 1e12")


def _parameters(given: Shape, affine: bool = True, **_: Any) -> int:
    return 2 * given[0] if affine else 0


def _weights(given: Shape, eps: float, affine: bool) -> Mapping[str, Tensor]:
    return {"weight": torch.ones(given[0]), "bias": torch.zeros(given[0])} if affine else {}


def _layer_normed(x: Tensor, weight: Any, given: Shape, eps: float, affine: bool) -> Tensor:
    scale, shift = (weight("weight"), weight("bias")) if affine else (None, None)
    y = nn.functional.layer_norm(x.movedim(1, -1), x.shape[1:2], scale, shift, eps).movedim(-1, 1)
    # torch's batch norm takes gradients in another layout than its input's for those of other places.
    last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return y.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def _group_norm(given: Shape, groups: int, eps: float, affine: bool) -> nn.Module:
    return nn.GroupNorm(groups, given[0], eps, affine)


def _normalized(build: Any, x: Any, axis: int, eps: float) -> Any:
    """`x` less its mean along an axis, over its standard deviation."""
    axes = build.integers(axis)
    centered = build.op("Sub", x, build.op("ReduceMean", x, axes, keepdims=1))
    spread = build.op("ReduceMean", build.op("Mul", centered, centered), axes, keepdims=1)
    return build.op("Div", centered, build.op("Sqrt", build.op("Add", spread, eps)))


def _affine(build: Any, x: Any, given: Shape, affine: bool) -> Any:
    if not affine:
        return x
    scaled = build.op("Mul", x, onnx_by_channel(build, "weight", given))
    return build.op("Add", scaled, onnx_by_channel(build, "bias", given))


def _layernorm_onnx(build: Any, x: Any, given: Shape, eps: float, affine: bool) -> Any:
    return _affine(build, _normalized(build, x, 1, eps), given, affine)


def _groupnorm_onnx(build: Any, x: Any, given: Shape, groups: int, eps: float, affine: bool) -> Any:
    parts = build.op("Reshape", x, build.integers(0, groups, -1))
    whole = build.op("Reshape", _normalized(build, parts, 2, eps), build.integers(0, *given))
    return _affine(build, whole, given, affine)


def _layernorm_python(x: str, weight: Any, given: Shape, eps: float, affine: bool) -> str:
    normal = f"({x} - {x}.mean(1, keepdim=True)) / ({x}.var(1, keepdim=True, correction=0) + {eps!r}).sqrt()"
    if not affine:
        return normal
    return f"{normal} * {by_channel(weight('weight'), given)} + {by_channel(weight('bias'), given)}"


def _groupnorm_python(x: str, weight: Any, given: Shape, groups: int, eps: float, affine: bool) -> str:
    both = f", {weight('weight')}, {weight('bias')}" if affine else ""
    return f"F.group_norm({x}, {groups}{both}, eps={eps!r})"


LAYERS: Mapping[str, Standard] = {
    "layernorm": Standard(
        _layernorm,
        _layer_normed,
        _parameters,
        weights=_weights,
        zero=keep,
        emitters={"onnx": _layernorm_onnx, "python": _layernorm_python},
    ),
    "groupnorm": Standard(
        _groupnorm,
        parameters=_parameters,
        module=_group_norm,
        zero=keep,
        emitters={"onnx": _groupnorm_onnx, "python": _groupnorm_python},
    ),
}
