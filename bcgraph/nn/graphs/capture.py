"""What captures a call: CUDA's graphs, or a stand-in that calls again, for machines without a GPU."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

Run = Callable[[], tuple[Tensor, ...]]
"""A call without arguments: it reads tensors that stay where they are, and gives some."""


class Capture(Protocol):
    """Captures calls on one device."""

    def takes(self, device: torch.device) -> bool:
        """Whether calls on `device` can be captured."""

    def place(self, device: torch.device) -> Hashable:
        """Where calls on `device` run now. Captures of one place share memory, so only there they follow each other."""

    def warming(self, device: torch.device) -> AbstractContextManager[None]:
        """Inside, calls run as before a capture; what they draw from generators is drawn again after."""

    def record(self, run: Run, device: torch.device) -> Run:
        """The call captured, without its effects; what is returned runs it, and gives the same tensors each time."""


class CudaCapture:
    """CUDA graphs, those of one stream with memory from one pool.

    So outputs are copied before another graph of the stream is replayed. Different streams may run at the same time and
    share nothing.
    """

    def __init__(self) -> None:
        self._pools: dict[Hashable, torch.cuda.CUDAGraph] = {}

    def takes(self, device: torch.device) -> bool:
        """See `Capture`."""
        return device.type == "cuda" and not torch.cuda.is_current_stream_capturing()

    def place(self, device: torch.device) -> Hashable:
        """See `Capture`."""
        return device, torch.cuda.current_stream(device).cuda_stream

    @contextmanager
    def warming(self, device: torch.device) -> Iterator[None]:
        """On a stream beside the present one: libraries choose their kernels and reserve their memory there."""
        side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        present = torch.cuda.current_stream(device)
        side.wait_stream(present)
        with torch.random.fork_rng([device]), torch.cuda.stream(side):
            yield
        present.wait_stream(side)

    def record(self, run: Run, device: torch.device) -> Run:
        """See `Capture`."""
        with torch.cuda.device(device):
            graph = torch.cuda.CUDAGraph()
            with _capturing(graph, self._pool(device)):
                outputs = run()

        def replay() -> tuple[Tensor, ...]:
            graph.replay()
            return outputs

        return replay

    def _pool(self, device: torch.device) -> Any:
        """The pool of a stream. A small graph that is never dropped holds it: one that no graph holds is lost."""
        place = self.place(device)
        if place not in self._pools:
            first = torch.cuda.CUDAGraph()
            with _capturing(first, torch.cuda.graph_pool_handle()):
                torch.zeros(1, device=device)
            self._pools[place] = first
        return self._pools[place].pool()


def _capturing(graph: torch.cuda.CUDAGraph, pool: Any) -> AbstractContextManager[None]:
    # Other threads go on: the one that reads ahead pins memory, which would break a capture of all threads.
    return torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local")


class CallAgain:
    """Calls again for each replay. So the state around a capture can be tested on any device."""

    def takes(self, device: torch.device) -> bool:
        """See `Capture`."""
        return True

    def place(self, device: torch.device) -> Hashable:
        """See `Capture`."""
        return device

    @contextmanager
    def warming(self, device: torch.device) -> Iterator[None]:
        """See `Capture`."""
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield

    def record(self, run: Run, device: torch.device) -> Run:
        """See `Capture`."""
        return run
