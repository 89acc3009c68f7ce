"""torch's global defaults, which a user may have set, kept away from training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch


@contextmanager
def ordinary_defaults() -> Iterator[None]:
    """Inside, torch creates float32 tensors on the CPU unless told otherwise, as it does without any settings.

    Optimizers, which are torch's own, ask these defaults. Restores `set_default_dtype` and `set_default_device` on
    exit. The number of threads stays what it is, and from then on every library inside torch keeps to it.
    """
    dtype = torch.get_default_dtype()
    # Until torch is told a number, MKL may use fewer threads for a small product, so sums would round otherwise in a
    # fresh process than in one where somebody has set the number before, be it to the same.
    torch.set_num_threads(torch.get_num_threads())
    with ExitStack() as stack:
        # A default device makes every call of torch slower, so one is set only against another.
        if torch.get_default_device() != torch.device("cpu"):
            stack.enter_context(torch.device("cpu"))
        torch.set_default_dtype(torch.float32)
        stack.callback(torch.set_default_dtype, dtype)
        yield
