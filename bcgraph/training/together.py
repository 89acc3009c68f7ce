"""What several processes do together: where one cannot go on, all of them stop, with the same message.

A process that raises on its own would leave the others waiting for it in their next exchange.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias, TypeVar

import torch
import torch.distributed as dist
from lightning.fabric import Fabric

from bcgraph.errors import BcgraphError, Diagnostic

T = TypeVar("T")

# An error as it travels: exceptions with arguments by name cannot be pickled.
_Fault: TypeAlias = tuple[type[BcgraphError], tuple[Diagnostic, ...]]


def agreed(fabric: Fabric, action: Callable[[], T]) -> T:
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


def first(fabric: Fabric, action: Callable[[], object]) -> None:
    """`action` in the first process, while the others wait for its outcome. Raises its BcgraphError in all."""
    agreed(fabric, action if fabric.is_global_zero else _nothing)


def each(fabric: Fabric, items: Iterator[T]) -> Iterator[T]:
    """`items`, of which all processes have the same number, one after the other in agreement."""
    end = object()
    while (item := agreed(fabric, lambda: next(items, end))) is not end:
        yield item  # type: ignore[misc]


def _any(fabric: Fabric, failed: bool) -> bool:
    count = torch.tensor(int(failed), device=fabric.device)
    dist.all_reduce(count)
    return bool(count)


def _nothing() -> None:
    pass
