"""Attention without a softmax: spiking self-attention (Zhou et al. 2023, equation 6).

Q, K and V come as one value of 3C channels, in this order: a `concat` of three branches. Since nothing stands between
the two products, the cheaper order is taken: `(V K^T) Q` for many places, `V (K^T Q)` for few.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bcgraph import lazy
from bcgraph.layers.declaration import Shape, Standard, divides, places

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy.Module("torch")


def _attention(given: Shape, heads: int = 1, scale: float = 0.125) -> Shape:
    if len(given) == 1:
        raise ValueError("attention is over places, and a vector has none")
    divides(given[0], 3, "equal parts: Q, K and V")
    divides(given[0] // 3, heads, "heads")
    if not 1e-12 <= scale <= 1e12:
        raise ValueError(f"`scale` cannot be {scale}: it is from 1e-12 to 1e12")
    return (given[0] // 3, *given[1:])


def across_channels(given: Shape, heads: int) -> bool:
    """Whether V K^T is computed first: of fewer values than K^T Q."""
    return given[0] // (3 * heads) < places(given)


def _forward(x: Tensor, weight: Any, given: Shape, heads: int, scale: float) -> Tensor:
    # [N, 3C, ...] as three of [N, heads, C / heads, places].
    q, k, v = torch.unflatten(x.flatten(2), 1, (3, heads, -1)).unbind(1)
    mixed = (v @ k.mT) @ q if across_channels(given, heads) else v @ (k.mT @ q)
    return (mixed * scale).flatten(1, 2).view(x.shape[0], -1, *x.shape[2:])


def _operations(given: Shape, heads: int = 1, **_: Any) -> int:
    width, length = given[0] // (3 * heads), places(given)
    return 2 * heads * width * length * min(width, length)


def _onnx(build: Any, x: Any, given: Shape, heads: int, scale: float) -> Any:
    width = given[0] // 3
    axis = build.integers(1)
    q, k, v = (
        build.op(
            "Reshape",
            build.op("Slice", x, build.integers(i * width), build.integers((i + 1) * width), axis),
            build.integers(0, heads, width // heads, -1),
        )
        for i in range(3)
    )
    turned = build.op("Transpose", k, perm=[0, 1, 3, 2])
    if across_channels(given, heads):
        mixed = build.op("MatMul", build.op("MatMul", v, turned), q)
    else:
        mixed = build.op("MatMul", v, build.op("MatMul", turned, q))
    return build.op("Reshape", build.op("Mul", mixed, scale), build.integers(0, width, *given[1:]))


def _python(x: str, weight: Any, given: Shape, heads: int, scale: float) -> str:
    width = given[0] // 3
    q, k, v = (f"{x}[:, {i * width}:{(i + 1) * width}].reshape(-1, {heads}, {width // heads}, {places(given)})"
               for i in range(3))  # fmt: skip
    product = f"({v} @ {k}.mT) @ {q}" if across_channels(given, heads) else f"{v} @ ({k}.mT @ {q})"
    return f"({product} * {scale!r}).reshape(-1, {', '.join(map(str, (width, *given[1:])))})"


LAYERS: Mapping[str, Standard] = {
    "attention": Standard(
        _attention,
        _forward,
        operations=_operations,
        emitters={"onnx": _onnx, "python": _python},
    )
}
