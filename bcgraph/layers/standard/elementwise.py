"""Layers that multiply or turn over each value by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bcgraph import lazy
from bcgraph.layers.declaration import Shape, Standard, by_channel, keep, onnx_by_channel

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy.Module("torch")

_LARGEST = 1e12


def _scale(given: Shape, initial: float = 1.0) -> Shape:
    _finite("initial", initial)
    return given


def _scaled(x: Tensor, weight: Any, given: Shape, initial: float) -> Tensor:
    factor: Tensor = weight("weight")
    return x * factor.view(-1, *[1] * (len(given) - 1))


def _scale_weights(given: Shape, initial: float) -> Mapping[str, Tensor]:
    return {"weight": torch.full((given[0],), initial)}


def _times(given: Shape, factor: float) -> Shape:
    _finite("factor", factor)
    return given


def _finite(name: str, value: float) -> None:
    if not abs(value) <= _LARGEST:
        raise ValueError(f"`{name}` cannot be {value}: it is from -1e12 to 1e12")


def _scale_nir(weight: Any, given: Shape, initial: float) -> Any:
    import nir
    import numpy as np

    return nir.Scale(np.broadcast_to(weight("weight").reshape(-1, *[1] * (len(given) - 1)), given).copy())


def _times_nir(weight: Any, given: Shape, factor: float) -> Any:
    import nir
    import numpy as np

    return nir.Scale(np.full(given, factor, dtype=np.float32))


LAYERS: Mapping[str, Standard] = {
    "scale": Standard(
        _scale,
        _scaled,
        lambda given, **_: given[0],
        weights=_scale_weights,
        emitters={
            "onnx": lambda build, x, given, initial: build.op("Mul", x, onnx_by_channel(build, "weight", given)),
            "python": lambda x, weight, given, initial: f"{x} * {by_channel(weight('weight'), given)}",
            "nir": _scale_nir,
            "c": lambda x, weight, given, initial: f"{x} * {weight('weight')}",
        },
    ),
    "times": Standard(
        _times,
        lambda x, weight, given, factor: x * factor,
        emitters={
            "onnx": lambda build, x, given, factor: build.op("Mul", x, factor),
            "python": lambda x, weight, given, factor: f"{x} * {factor!r}",
            "nir": _times_nir,
            "c": lambda x, weight, given, factor: f"{x} * {float(factor)!r}f",
        },
    ),
    "complement": Standard(
        lambda given: given,
        lambda x, weight, given: 1 - x,
        zero=keep,
        keeps_spikes=True,
        emitters={
            "onnx": lambda build, x, given: build.op("Sub", 1.0, x),
            "python": lambda x, weight, given: f"1 - {x}",
            "c": lambda x, weight, given: f"1.0f - {x}",
        },
    ),
}
