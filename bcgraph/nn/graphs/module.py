"""CUDA graphs of a module's calls without gradients."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from bcgraph.nn.graphs.graphed import Graphed, Graphs
from bcgraph.nn.graphs.recordings import Recordings, cuda
from bcgraph.nn.transforms import traced


class GraphedCall:
    """In place of a module's call: captured where gradients are off, inputs are tensors and nobody looks inside.

    Forward hooks would run once, at the capture, so a module with hooks runs plain.
    """

    def __init__(
        self, module: nn.Module, call: Callable[..., Any], recordings: Recordings, *, required: bool = False
    ) -> None:
        self.module = module
        self.call = call
        self.graphed = Graphed(self._run, self._state, recordings, "a compiled network", required=required)
        self._single = True

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """What the module gives. Results are the caller's: the next call leaves them alone."""
        plain = named or not inputs or not all(isinstance(x, Tensor) for x in inputs)
        if plain or traced() or torch.is_grad_enabled() or (key := self._key()) is None:
            return self.call(*inputs, **named)
        found = self.graphed(key, *inputs)
        return found[0] if self._single else found

    def _run(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        found = self.call(*inputs)
        self._single = isinstance(found, Tensor)
        return (found,) if self._single else tuple(found)

    def _state(self) -> Iterable[Tensor]:
        # Without gradients only buffers change.
        return list(self.module.buffers())

    def _key(self) -> Hashable | None:
        """The modes of all layers and where their tensors are; None with hooks."""
        modes = []
        for each in self.module.modules():
            if each._forward_hooks or each._forward_pre_hooks:
                return None
            modes.append(each.training)
        places = (t.data_ptr() for t in chain(self.module.parameters(), self.module.buffers()))
        return (tuple(modes), tuple(places))


def captured(module: nn.Module, graphs: Graphs, device: torch.device) -> Callable[..., Any]:
    """What computes what `module` on `device` does, captured as `graphs` says."""
    if graphs == "off" or device.type != "cuda":
        return module
    return GraphedCall(module, module, cuda(), required=graphs == "on")
