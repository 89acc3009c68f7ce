"""What captures a call: CUDA's graphs, or a stand-in that calls again, for machines without a GPU."""

from __future__ import annotations

import gc
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from bcgraph.process import GENERATORS

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


@dataclass(eq=False)
class _Pool:
    """Memory for captures. The small graph holds it: a pool that no graph holds is lost."""

    graph: torch.cuda.CUDAGraph


@dataclass(frozen=True, eq=False)
class _Replay:
    graph: torch.cuda.CUDAGraph
    outputs: tuple[Tensor, ...]
    pool: _Pool

    def __call__(self) -> tuple[Tensor, ...]:
        self.graph.replay()
        return self.outputs


class CudaCapture:
    """CUDA graphs, those of one stream with memory from one pool.

    So outputs are copied before another graph of the stream is replayed. Different streams may run at the same time and
    share nothing. A pool lives as long as a capture in it.
    """

    def __init__(self, streams: dict[Hashable, torch.cuda.Stream] | None = None) -> None:
        self._streams = {} if streams is None else streams
        self._pools: WeakValueDictionary[Hashable, _Pool] = WeakValueDictionary()
        self._broken: list[torch.cuda.CUDAGraph] = []

    def apart(self) -> CudaCapture:
        """Another one, whose captures share no memory with those of this one."""
        return CudaCapture(self._streams)

    def takes(self, device: torch.device) -> bool:
        """See `Capture`."""
        return device.type == "cuda" and not torch.cuda.is_current_stream_capturing()

    def place(self, device: torch.device) -> Hashable:
        """See `Capture`."""
        return device, torch.cuda.current_stream(device).cuda_stream

    @contextmanager
    def warming(self, device: torch.device) -> Iterator[None]:
        """On the stream of the capture: there libraries choose their kernels and reserve their memory."""
        present, own = torch.cuda.current_stream(device), self._stream(device)
        own.wait_stream(present)
        try:
            with GENERATORS, torch.random.fork_rng([device], device_type="cuda"), torch.cuda.stream(own), uncached():
                yield
        finally:
            present.wait_stream(own)

    def record(self, run: Run, device: torch.device) -> Run:
        """See `Capture`."""
        pool, graph = self._pool(device), torch.cuda.CUDAGraph()
        try:
            outputs = self._captured(graph, pool.graph.pool(), run, device)
        except BaseException:
            self._abandon(graph, pool, device)
            raise
        return _Replay(graph, outputs, pool)

    def _stream(self, device: torch.device) -> torch.cuda.Stream:
        """The stream for captures of what runs on the present one, always the same.

        Each stream has memory and workspaces of its own, which are never given back. Torch's own stream for captures is
        one for all devices.
        """
        place = self.place(device)
        if place not in self._streams:
            self._streams[place] = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        return self._streams[place]

    def _pool(self, device: torch.device) -> _Pool:
        place = self.place(device)
        pool = self._pools.get(place)
        if pool is None:
            pool = self._pools[place] = _Pool(torch.cuda.CUDAGraph())
            self._captured(pool.graph, torch.cuda.graph_pool_handle(), lambda: (torch.zeros(1, device=device),), device)
        return pool

    def _captured(self, graph: torch.cuda.CUDAGraph, pool: Any, run: Run, device: torch.device) -> tuple[Tensor, ...]:
        # Other threads go on: the one that reads ahead pins memory, which would break a capture of all threads.
        capturing = torch.cuda.graph(graph, pool=pool, stream=self._stream(device), capture_error_mode="thread_local")
        # After a capture that fails, torch leaves its stream to be the present one.
        present = torch.cuda.stream(torch.cuda.current_stream(device))
        first: list[RuntimeError] = []
        try:
            with torch.cuda.device(device), present, _uncollected(), uncached(), capturing:
                try:
                    return run()
                except RuntimeError as error:
                    first.append(error)
                    raise
        except RuntimeError:
            # At the end of such a capture torch says that something failed before, not what.
            if first:
                raise first.pop() from None
            raise

    def _abandon(self, graph: torch.cuda.CUDAGraph, pool: _Pool, device: torch.device) -> None:
        """Clean up after a capture that fails.

        Torch 2.9 goes on to take the pool and the generators for those of a capture. Then no other one begins in the
        pool, and nothing draws random numbers until one ends well.
        """
        self._pools.pop(self.place(device), None)
        with suppress(RuntimeError):
            torch._C._cuda_endAllocateToPool(device.index, pool.graph.pool())
            # It may still be asked which streams it captures.
            self._broken.append(graph)
        with suppress(RuntimeError):
            self._pool(device)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Inside no garbage is collected: it may hold graphs and events, and destroying those would break a capture."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


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
        with GENERATORS, torch.random.fork_rng([device] if device.type == "cuda" else []), uncached():
            yield

    def record(self, run: Run, device: torch.device) -> Run:
        """See `Capture`."""
        return run


@contextmanager
def converted_anew() -> Iterator[None]:
    """Inside, autocast converts a weight each time it is read, so that it does not matter what else has read it.

    Gradients of the reads are then added up in the type of the weight.
    """
    before = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(before)


@contextmanager
def uncached() -> Iterator[None]:
    """Inside, autocast does not know the weights that it has converted outside, and the other way round.

    It keeps them until its block ends. A capture that reads one would read that memory for ever.
    """
    torch.clear_autocast_cache()
    try:
        yield
    finally:
        torch.clear_autocast_cache()
