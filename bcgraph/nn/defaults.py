"""torch's global defaults and modes, which a user may have set, kept away from what must not depend on them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from bcgraph.process import Setting

_DTYPE = Setting(torch.get_default_dtype, torch.set_default_dtype)
_SWAPS = Setting(
    torch.__future__.get_swap_module_params_on_conversion, torch.__future__.set_swap_module_params_on_conversion
)


@contextmanager
def ordinary_modes() -> Iterator[None]:
    """Inside, torch records gradients, computes in the types that it is given, and makes ordinary tensors, whose values
    it replaces in place.

    Leaves `no_grad`, `inference_mode`, `autocast` and swapped parameters of whoever calls, and returns to them on exit.
    Also a decorator.
    """
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        # Also where another thread has set it: it may end before this one does.
        stack.enter_context(_SWAPS.set(False))
        yield


@contextmanager
def ordinary_defaults() -> Iterator[None]:
    """As `ordinary_modes`, and torch creates float32 tensors on the CPU unless told otherwise, as without any settings.

    Optimizers, which are torch's own, ask these defaults. Restores `set_default_dtype` and `set_default_device` on
    exit. The number of threads stays what it is, and from then on every library inside torch keeps to it.
    """
    # Until torch is told a number, MKL may use fewer threads for a small product, so sums would round otherwise in a
    # fresh process than in one where somebody has set the number before, be it to the same.
    torch.set_num_threads(torch.get_num_threads())
    with ordinary_modes(), ExitStack() as stack:
        # A default device makes every call of torch slower, so one is set only against another.
        if torch.get_default_device() != torch.device("cpu"):
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(_DTYPE.set(torch.float32))
        yield


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Inside, torch computes on so many threads. Also a decorator."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
