"""Hooks on the submodules of a compiled module: they work where the submodule runs, and are refused where it does not.

A compiled module calls the forward of its convolutions, norms and linear layers, so that torch's hooks work on them.
Modules that only group layers never run, and neither do layers whose weights are read alone, such as convolutions with
a norm folded into them. A hook there would wait for a call that never comes.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from bcgraph.errors import CompileError


def hooked(module: nn.Module) -> bool:
    """Whether a call of `module` runs hooks of its own, forward or backward."""
    kinds = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(kinds)


class _CheckedHooks(nn.Module):
    """Raises CompileError (E072) where a hook is registered and `never_runs` gives a reason."""

    def never_runs(self) -> str | None:
        """Why no forward of this module runs; None where it does."""
        raise NotImplementedError

    def _check(self) -> None:
        reason = self.never_runs()
        if reason is not None:
            raise CompileError(
                "E072",
                f"a hook here would never be called: {reason}",
                hint="bcgraph.record(model, x) gives spikes, membranes and currents by port",
            )

    def register_forward_hook(self, *args: Any, **kwargs: Any) -> RemovableHandle:
        """As in torch, where this module runs."""
        self._check()
        return super().register_forward_hook(*args, **kwargs)

    def register_forward_pre_hook(self, *args: Any, **kwargs: Any) -> RemovableHandle:
        """As in torch, where this module runs."""
        self._check()
        return super().register_forward_pre_hook(*args, **kwargs)

    def register_full_backward_hook(self, *args: Any, **kwargs: Any) -> RemovableHandle:
        """As in torch, where this module runs."""
        self._check()
        return super().register_full_backward_hook(*args, **kwargs)

    def register_full_backward_pre_hook(self, *args: Any, **kwargs: Any) -> RemovableHandle:
        """As in torch, where this module runs."""
        self._check()
        return super().register_full_backward_pre_hook(*args, **kwargs)


class Container(_CheckedHooks):
    """A part of the names of layers, such as `layer1.0`. It groups them and never runs."""

    def never_runs(self) -> str:
        """The reason."""
        return "this module only groups layers, which the compiled module calls one by one"


class Layer(_CheckedHooks):
    """A layer with parameters. Programs that share it say in `called` whether one of them calls its forward."""

    called: bool | None = None

    def never_runs(self) -> str | None:
        """The reason, where programs read the parameters of this layer and none calls it."""
        return "the compiled module reads the parameters of this layer alone" if self.called is False else None

    def note_program(self, *, calls: bool) -> None:
        """A program uses this layer, and either calls its forward or does not."""
        self.called = bool(self.called) or calls
