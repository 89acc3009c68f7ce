"""What torch does around a call: it traces the call, transforms it (`torch.func`), or differentiates it twice.

Neither tracers nor transforms can follow kernels that write into given memory. There the plain equations stand in. A
surrogate is the first derivative of a spike. There is no second one, and asking for it is an error.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from bcgraph.errors import CompileError

_TRANSFORM: Callable[[], Any] = getattr(torch._C._functorch, "peek_interpreter_stack", lambda: None)

Gradients = tuple[Tensor | None, ...]


def transformed() -> bool:
    """Whether this runs inside `torch.func` (grad, vmap, jvp, ...) or under forward-mode differentiation."""
    # What a compiler traces is never inside one, and it cannot look.
    if torch.compiler.is_dynamo_compiling():
        return False
    return _TRANSFORM() is not None or getattr(forward_ad, "_current_level", -1) >= 0


def traced() -> bool:
    """Whether the equations have to stand in for the kernels: torch traces or transforms this call."""
    return compiled() or transformed()


def compiled() -> bool:
    """Whether `torch.compile` or `torch.export` traces this call. Torch's own flag is one for all threads."""
    if torch.compiler.is_dynamo_compiling():
        return True
    return torch.compiler.is_compiling() and torch._C._len_torch_dispatch_stack() > 0


def second_derivative() -> CompileError:
    """The error for a gradient of a gradient."""
    return CompileError(
        "E074",
        "a second derivative reaches a spike, whose surrogate is a first derivative only",
        hint="take gradients without `create_graph`, and do not nest `torch.func.grad`",
    )


def first_order(backward: Callable[..., Gradients]) -> Callable[..., Gradients]:
    """A backward pass that raises CompileError (E074) where its results are to be differentiated again.

    It keeps too little to connect its results to all that they depend on, so it does not wait for the second pass.
    """

    @functools.wraps(backward)
    def run(ctx: Any, *gradients: Tensor | None) -> Gradients:
        if torch.is_grad_enabled():
            raise second_derivative()
        return backward(ctx, *gradients)

    return run
