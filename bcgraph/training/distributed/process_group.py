"""A group of processes that train together. When one of them fails, all stop with the same message.

A process that raised on its own would leave the others waiting in their next collective.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed as dist
from pydantic import TypeAdapter
from torch import Tensor, nn

from bcgraph import foreign
from bcgraph.errors import BcgraphError, Diagnostic

T = TypeVar("T")


class ProcessGroup(Protocol):
    """The processes that share the work, as each of them sees them: Lightning Fabric's, or a `SingleProcess`."""

    @property
    def global_rank(self) -> int:
        """The number of this process, from 0."""

    @property
    def world_size(self) -> int:
        """The number of processes."""

    @property
    def is_global_zero(self) -> bool:
        """Whether this is the first process, which writes the files."""

    @property
    def device(self) -> torch.device:
        """The device of this process."""

    def setup(self, module: nn.Module, optimizer: torch.optim.Optimizer, /) -> Any:
        """The module and the optimizer, wrapped for the group."""

    def backward(self, loss: Tensor, /) -> None:
        """Compute the gradients and average them over the group, at the latest in `average_gradients`."""

    def no_backward_sync(self, module: Any, /) -> AbstractContextManager[None]:
        """Inside, `backward` adds up gradients in this process alone."""

    def average_gradients(self, optimizer: Any, /) -> None:
        """Average the gradients of what `optimizer` updates over the group, where `backward` has not."""

    def clip_gradients(self, module: Any, optimizer: Any, *, max_norm: float, error_if_nonfinite: bool) -> Any:
        """Scale the gradients down to a total norm of at most `max_norm`."""

    def all_reduce(self, data: Tensor, *, reduce_op: str = "mean") -> Any:
        """The `mean` or the `sum` over the group."""

    def precision_state(self) -> Mapping[str, Any]:
        """The state of mixed precision that a checkpoint keeps."""

    def load_precision_state(self, state: Mapping[str, Any], /) -> None:
        """Restore what `precision_state` returned."""


@dataclass(frozen=True)
class SingleProcess:
    """A group of one process on the CPU, without Lightning Fabric."""

    global_rank: int = 0
    world_size: int = 1
    is_global_zero: bool = True

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return torch.device("cpu")

    def setup(self, module: nn.Module, optimizer: torch.optim.Optimizer, /) -> Any:
        """Both unchanged."""
        return module, optimizer

    def backward(self, loss: Tensor, /) -> None:
        """Compute the gradients."""
        loss.backward()  # type: ignore[no-untyped-call]

    def no_backward_sync(self, module: Any, /) -> AbstractContextManager[None]:
        """Nothing to leave out."""
        return nullcontext()

    def average_gradients(self, optimizer: Any, /) -> None:
        """Nothing to average."""

    def clip_gradients(self, module: Any, optimizer: Any, *, max_norm: float, error_if_nonfinite: bool) -> Any:
        """Scale the gradients down to a total norm of at most `max_norm`."""
        return nn.utils.clip_grad_norm_(module.parameters(), max_norm, error_if_nonfinite=error_if_nonfinite)

    def all_reduce(self, data: Tensor, *, reduce_op: str = "mean") -> Any:
        """`data` unchanged."""
        return data

    def precision_state(self) -> Mapping[str, Any]:
        """Nothing."""
        return {}

    def load_precision_state(self, state: Mapping[str, Any], /) -> None:
        """Nothing to restore."""


def on_every_rank(group: ProcessGroup, action: Callable[[], T]) -> T:
    """Call `action` in every process; it must use no collective itself.

    Raises the BcgraphError of the first process that has one, in all of them.
    """
    result: T | None = None
    raised: BcgraphError | None = None
    try:
        result = action()
    except BcgraphError as error:
        if group.world_size == 1:
            raise
        raised = error
    if group.world_size > 1 and _any(group, raised is not None):
        raise next(error for error in _exchanged(group, raised) if error is not None)
    return result  # type: ignore[return-value]


def on_rank_zero(group: ProcessGroup, action: Callable[[], object]) -> None:
    """Call `action` in the first process while the others wait. Raises its BcgraphError in all of them."""
    on_every_rank(group, action if group.is_global_zero else _nothing)


def first_wrong(group: ProcessGroup, wrong: str | None) -> str | None:
    """What is `wrong` in the first process in which something is; all processes call this and get the same."""
    if not _any(group, wrong is not None):
        return None
    said = "" if wrong is None else f"{wrong} (in process {group.global_rank + 1} of {group.world_size})"
    return next(text.decode() for text in _gathered(group, said) if text)


@contextmanager
def destroyed_on_error(group: ProcessGroup) -> Iterator[None]:
    """Destroys torch's process group when the block raises a BcgraphError, which `on_every_rank` raises everywhere.

    A process that ends while threads of a collective still run may be aborted, with a message of its own.
    """
    try:
        yield
    except BcgraphError:
        if group.world_size > 1 and dist.is_initialized():
            dist.destroy_process_group()
        raise


def _exchanged(group: ProcessGroup, error: BcgraphError | None) -> list[BcgraphError | None]:
    """The error of each process, sent as text: what comes from another process is never unpickled."""
    sent = "" if error is None else json.dumps({"kind": type(error).__name__, "diagnostics": _as_data(error)})
    return [_error(text) for text in _gathered(group, sent)]


def _gathered(group: ProcessGroup, sent: str) -> list[bytes]:
    """What each process has sent."""
    own = torch.frombuffer(bytearray(sent.encode() or b" "), dtype=torch.uint8).to(group.device)
    sizes = [torch.zeros(1, dtype=torch.int64, device=group.device) for _ in range(group.world_size)]
    dist.all_gather(sizes, torch.tensor([own.numel()], device=group.device))
    length = max(int(size) for size in sizes)
    parts = [torch.zeros(length, dtype=torch.uint8, device=group.device) for _ in range(group.world_size)]
    dist.all_gather(parts, torch.nn.functional.pad(own, (0, length - own.numel())))
    return [bytes(p[: int(n)].tolist()).strip() for p, n in zip(parts, sizes, strict=True)]


def _as_data(error: BcgraphError) -> list[dict[str, Any]]:
    return [asdict(diagnostic) for diagnostic in error.diagnostics]


def _error(sent: bytes) -> BcgraphError | None:
    if not sent:
        return None
    found = foreign.from_json(sent, _SHAPE)
    known: list[type[BcgraphError]] = BcgraphError.__subclasses__()
    return next((kind for kind in known if kind.__name__ == found.kind), BcgraphError).of(found.diagnostics)


@dataclass(frozen=True)
class _Sent:
    kind: str
    diagnostics: tuple[Diagnostic, ...]


_SHAPE = TypeAdapter(_Sent)


def _any(group: ProcessGroup, failed: bool) -> bool:
    count = torch.tensor(int(failed), device=group.device)
    dist.all_reduce(count)
    return bool(count)


def _nothing() -> None:
    pass
