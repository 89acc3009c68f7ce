"""Settings under which a GPU's kernels give reproducible results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def reproducible() -> Iterator[None]:
    """Inside, cuDNN uses deterministic algorithms and does not benchmark which of them is the fastest.

    It changes nothing on the CPU, and restores the settings on exit.
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
    """As `reproducible`, and float32 keeps all its bits: TF32, which rounds to 10 bits, is off.

    torch uses TF32 for convolutions on a GPU. That is enough for training, but not for a ranking by scores.
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
