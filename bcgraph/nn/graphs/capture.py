"""What captures a call: CUDA's graphs, or a stand-in that calls again, for machines without a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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

    def warming(self, device: torch.device) -> AbstractContextManager[None]:
        """Inside, calls run as before a capture; what they draw from generators is drawn again after."""

    def record(self, run: Run) -> Run:
        """The call captured, without its effects; what is returned runs it, and gives the same tensors each time."""


class CudaCapture:
    """CUDA graphs, all with memory from one pool: outputs are copied before another of them is replayed."""

    def __init__(self) -> None:
        self._pool: Any = None

    def takes(self, device: torch.device) -> bool:
        """See `Capture`."""
        return device.type == "cuda" and not torch.cuda.is_current_stream_capturing()

    @contextmanager
    def warming(self, device: torch.device) -> Iterator[None]:
        """On a stream beside the present one: libraries choose their kernels and reserve their memory there."""
        side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        present = torch.cuda.current_stream(device)
        side.wait_stream(present)
        with torch.random.fork_rng([device]), torch.cuda.stream(side):
            yield
        present.wait_stream(side)

    def record(self, run: Run) -> Run:
        """See `Capture`."""
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            outputs = run()

        def replay() -> tuple[Tensor, ...]:
            graph.replay()
            return outputs

        return replay


class CallAgain:
    """Calls again for each replay. So the state around a capture can be tested on any device."""

    def takes(self, device: torch.device) -> bool:
        """See `Capture`."""
        return True

    @contextmanager
    def warming(self, device: torch.device) -> Iterator[None]:
        """See `Capture`."""
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield

    def record(self, run: Run) -> Run:
        """See `Capture`."""
        return run
