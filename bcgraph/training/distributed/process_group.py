"""What several processes do together: where one cannot go on, all of them stop, with the same message.

A process that raises on its own would leave the others waiting for it in their next exchange.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from bcgraph.errors import BcgraphError, Diagnostic

T = TypeVar("T")

# An error as it travels: exceptions with arguments by name cannot be pickled.
_Fault: TypeAlias = tuple[type[BcgraphError], tuple[Diagnostic, ...]]


class Company(Protocol):
    """Processes that work together, as each of them sees them: what is asked here of Lightning Fabric."""

    @property
    def global_rank(self) -> int:
        """The number of this process, from 0."""

    @property
    def world_size(self) -> int:
        """How many there are."""

    @property
    def is_global_zero(self) -> bool:
        """Whether this is the first, which writes."""

    @property
    def device(self) -> torch.device:
        """Where this one computes."""

    def setup(self, module: nn.Module, optimizer: torch.optim.Optimizer, /) -> Any:
        """The module and the optimizer as they are to be used."""

    def backward(self, loss: Tensor, /) -> None:
        """Compute the gradients, the means over all processes."""

    def all_reduce(self, data: Tensor) -> Any:
        """The mean over all processes."""


@dataclass(frozen=True)
class Alone:
    """What Fabric is to several processes, for one on the CPU: importing Fabric takes seconds."""

    global_rank: int = 0
    world_size: int = 1
    is_global_zero: bool = True

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return torch.device("cpu")

    def setup(self, module: nn.Module, optimizer: torch.optim.Optimizer, /) -> Any:
        """Both as they are."""
        return module, optimizer

    def backward(self, loss: Tensor, /) -> None:
        """As torch does."""
        loss.backward()  # type: ignore[no-untyped-call]

    def all_reduce(self, data: Tensor) -> Any:
        """The one value."""
        return data


def agreed(fabric: Company, action: Callable[[], T]) -> T:
    """`action` in every process, which must not exchange anything with the others while it runs.

    Raises the BcgraphError of the first process that has one, in all of them.
    """
    result: T | None = None
    fault: _Fault | None = None
    try:
        result = action()
    except BcgraphError as error:
        if fabric.world_size == 1:
            raise
        fault = type(error), error.diagnostics
    if fabric.world_size > 1 and _any(fabric, fault is not None):
        faults: list[_Fault | None] = [None] * fabric.world_size
        dist.all_gather_object(faults, fault)
        kind, diagnostics = next(found for found in faults if found is not None)
        raise kind.of(diagnostics)
    return result  # type: ignore[return-value]


def first(fabric: Company, action: Callable[[], object]) -> None:
    """`action` in the first process, while the others wait for its outcome. Raises its BcgraphError in all."""
    agreed(fabric, action if fabric.is_global_zero else _nothing)


def each(fabric: Company, items: Iterator[T]) -> Iterator[T]:
    """`items`, of which all processes have the same number, one after the other in agreement."""
    end = object()
    while (item := agreed(fabric, lambda: next(items, end))) is not end:
        yield item  # type: ignore[misc]


@contextmanager
def parting(fabric: Company) -> Iterator[None]:
    """Parts the processes when the block raises a BcgraphError, which all of them do where `agreed` is used.

    A process that ends with threads of the exchange still running may be aborted, with a message of its own.
    """
    try:
        yield
    except BcgraphError:
        if fabric.world_size > 1 and dist.is_initialized():
            dist.destroy_process_group()
        raise


def _any(fabric: Company, failed: bool) -> bool:
    count = torch.tensor(int(failed), device=fabric.device)
    dist.all_reduce(count)
    return bool(count)


def _nothing() -> None:
    pass
