"""How a GPU's kernels compute what must come out the same again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def reproducible() -> Iterator[None]:
    """Inside, cuDNN adds in one fixed order, and does not try out which algorithm is the fastest.

    On the CPU it changes nothing. What was set before is set again behind it.
    """
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before


@contextmanager
def full_precision() -> Iterator[None]:
    """As `reproducible`, and float32 is computed with all its digits, not rounded to the 10 bits of TF32.

    TF32 is what torch takes for convolutions on a GPU, and enough for training; a ranking by scores is not that robust.
    """
    # torch's own annotations of this module leave `conv` out.
    kinds: tuple[Any, ...] = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)  # type: ignore[attr-defined]
    before = [kind.fp32_precision for kind in kinds]
    with reproducible():
        for kind in kinds:
            kind.fp32_precision = "ieee"
        try:
            yield
        finally:
            for kind, value in zip(kinds, before, strict=True):
                kind.fp32_precision = value
