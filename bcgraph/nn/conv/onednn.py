"""torch's private calls into oneDNN, the CPU's library of convolutions, all of them guarded.

torch does not promise to keep them: another version may lack them or change their arguments. Each is tried once on a
small case. Where it fails, the plain path runs, and a BcgraphWarning says so once.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor

from bcgraph.errors import BcgraphWarning

T = TypeVar("T")

# The errors of a missing operation and of changed arguments.
_FAILURES = (AttributeError, RuntimeError, TypeError)

# The batch size that a weight is packed for. Other sizes use the same packing.
_SAMPLES = 32


def _tried(what: str, call: Callable[[], T], otherwise: T) -> T:
    """The result of `call`; `otherwise`, with a warning, where this torch cannot run it."""
    try:
        return call()
    except _FAILURES as error:
        first = str(error).strip().split("\n")[0]
        text = f"{what} of this version of torch ({torch.__version__}) cannot be used, so the plain path runs: {first}"
        warnings.warn(BcgraphWarning(text), stacklevel=3)
        return otherwise


@cache
def bfloat16_is_fast() -> bool:
    """Whether this processor has kernels for convolutions in bfloat16."""
    return _tried("the check for bfloat16", lambda: bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()), False)


def enabled() -> bool:
    """Whether this torch has oneDNN, and nobody has turned it off."""
    backend: Any = torch.backends.mkldnn
    return bool(backend.is_available() and backend.enabled)


@cache
def can_pack() -> bool:
    """Whether weights can be packed, and packed weights compute what plain ones do."""
    x = torch.ones((1, 1, 2, 2), dtype=torch.float32, device="cpu")
    weight = torch.ones((1, 1, 1, 1), dtype=torch.float32, device="cpu")

    def call() -> bool:
        packed = pack_weight(weight, (1, 2, 2), 1, 0, 1, 1)
        return torch.equal(convolve_packed(x, packed, x.new_zeros(1), 1, 0, 1, 1), x)

    return _tried("the packing of convolution weights", call, False)


def packs(weight: Tensor) -> bool:
    """Whether the kernels of the CPU have an order of their own for this weight, of a channels-last network."""
    if weight.dtype not in (torch.float32, torch.bfloat16):
        return False
    if not enabled():
        return False
    return (weight.dtype == torch.float32 or bfloat16_is_fast()) and can_pack()


def two(size: int | tuple[int, int]) -> list[int]:
    """The size of rows and that of columns."""
    return list(size) if isinstance(size, tuple) else [size] * 2


def pack_weight(
    weight: Tensor,
    shape: tuple[int, int, int],
    stride: int | tuple[int, int],
    padding: int | tuple[int, int],
    dilation: int | tuple[int, int],
    groups: int,
) -> Tensor:
    """A weight `[out, in/groups, k, k]` in the order that the kernels read for samples of `shape`."""
    arguments = (two(padding), two(stride), two(dilation), groups, [_SAMPLES, *shape])
    packed: Tensor = torch.ops.mkldnn._reorder_convolution_weight(weight, *arguments)
    return packed


def convolve_packed(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int | tuple[int, int],
    padding: int | tuple[int, int],
    dilation: int | tuple[int, int],
    groups: int,
) -> Tensor:
    """The convolution of x `[N, C, H, W]` with a packed weight."""
    result: Tensor = torch.ops.mkldnn._convolution_pointwise(
        x, weight, bias, two(padding), two(stride), two(dilation), groups, "none", [], ""
    )
    return result


@cache
def can_multiply() -> bool:
    """Whether this torch lets oneDNN multiply matrices."""
    x = torch.arange(6, dtype=torch.float32, device="cpu").view(2, 3)
    weight, bias = x.flip(0) - 2, torch.ones(2, dtype=torch.float32, device="cpu")

    def call() -> bool:
        return torch.equal(multiply(x, weight, bias), torch.addmm(bias, x, weight.t()))

    return _tried("the product of matrices", call, False)


def multiplies() -> bool:
    """Whether oneDNN multiplies matrices now: a user can turn it off."""
    return enabled() and can_multiply()


def multiply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Rows `[N, C]` times a weight `[out, C]`, plus the bias, without a gradient."""
    result: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return result


def pack_int8(weight: Tensor, settings: Any, size: tuple[int, int]) -> Tensor:
    """A weight `[out, in, k, k]` of 8 bits in the order that the kernels read for maps of `size`."""
    stride, padding, dilation, groups = settings
    ones = torch.ones(len(weight), dtype=torch.float32, device=weight.device)
    arguments = (list(stride), list(padding), list(dilation), groups, [_SAMPLES, weight.shape[1], *size])
    packed: Tensor = torch.ops.onednn.qconv_prepack(weight, ones, 1.0, 0, *arguments)
    return packed


def convolve_int8(x: Tensor, packed: Tensor, scale: Tensor, bias: Tensor | None, settings: Any) -> Tensor:
    """The convolution of bytes x `[N, C, H, W]` with a packed weight of 8 bits, times `scale` `[out]`, in float32."""
    stride, padding, dilation, groups = settings
    zeros = torch.zeros(len(scale), dtype=torch.int32, device=scale.device)
    place = (list(stride), list(padding), list(dilation), groups)
    # The result is not requantized, and nothing is done to it: scale 1, zero point 0, no operation after it.
    result: Tensor = torch.ops.onednn.qconv2d_pointwise(
        x, 1.0, 0, packed, scale, zeros, bias, *place, 1.0, 0, torch.float32, "none", [], ""
    )
    return result


def int8_works(check: Callable[[], bool]) -> bool:
    """The result of `check`, which calls the kernels for 8 bits; False where this torch has none."""
    return _tried("the convolution in 8 bits", check, False)
