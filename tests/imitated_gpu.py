"""An imitation of GPUs on the CPU, for code that only runs there: devices, streams, captures and their memory.

Inside `gpus()` a tensor on `cuda` lies in the memory of the CPU and says that it is on `cuda`. A capture keeps the
operations that torch dispatches, with the places in memory that they read and write. A replay runs exactly these again,
and no line of Python. So what is wrong on a GPU is wrong here:

- memory that a capture has freed is filled with nonsense before each replay of its pool;
- a replay that would read memory that was freed since raises `StalePointerError`;
- a number of the host stays as it was;
- what waits for the device, or copies from it, breaks a capture. A broken capture leaves the stream, the pool and the
  generators as torch 2.9 does: later ones fail until they are put in order.
- tensors of two devices do not meet, and the fused update asks for what its kernel asks for.
- processes exchange tensors by gloo in place of NCCL. A capture exchanges nothing, and each replay does. A process that
  leaves its group while a capture with an exchange lives would wait for ever.

Every device draws from the generator of the CPU. Convolutions and sums are those of the CPU: nothing here tells whether
a kernel is right, nor what order work of two streams has.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import count
from types import TracebackType
from typing import Any
from unittest import mock
from weakref import WeakSet

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import FakeWork
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from bcgraph.nn.graphs import recordings
from bcgraph.nn.neuron.gpu import launch

aten = torch.ops.aten

WAITS = (
    aten._local_scalar_dense.default,
    aten.equal.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten.is_nonzero.default,
    aten._unique2.default,
)
"""Operations whose result the host waits for."""

EXCHANGES = ("c10d.allreduce_.default", "c10d.broadcast_.default")
"""Collectives that run on the device alone. For others the host waits."""

DRAWS = ("bernoulli", "rand", "normal", "uniform", "dropout", "multinomial", "exponential", "random_")

NONSENSE = 0xFF
"""The byte of memory that was freed: nan as a float, -1 as an integer."""

_REFUSED = "CUDA error: operation not permitted when stream is capturing"
_SPOILT = "CUDA error: operation failed due to a previous error during capture"


class StalePointerError(Exception):
    """A replay uses memory that was freed. On a GPU it would read, or destroy, what is there now."""


@dataclass(frozen=True)
class Stream:
    """A stream of a device; number 0 is the default one."""

    device: torch.device
    number: int

    @property
    def cuda_stream(self) -> int:
        return self.number

    @property
    def device_index(self) -> int:
        return self.device.index or 0

    def wait_stream(self, other: Stream) -> None:
        """Work is in order anyway."""

    def synchronize(self) -> None:
        GPU.refuse_while_capturing()


class Event:
    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def record(self, *_: Any) -> None:
        GPU.refuse_while_capturing()

    def synchronize(self) -> None:
        GPU.refuse_while_capturing()


@dataclass(eq=False)
class Pool:
    """Memory of captures: buffers, and for each what tells whether a tensor still lies there."""

    buffers: list[tuple[Tensor, StorageWeakRef]] = field(default_factory=list)
    users: int = 0

    def spoil(self) -> None:
        """Write nonsense over what was freed."""
        for buffer, lives in self.buffers:
            if lives.expired():
                buffer.fill_(NONSENSE)


@dataclass
class State:
    """All devices."""

    count: int = 1
    current: int = 0
    streams: dict[int, Stream] = field(default_factory=dict)
    marks: dict[int, tuple[StorageWeakRef, int]] = field(default_factory=dict)
    pinned: list[StorageWeakRef] = field(default_factory=list)
    capture: Capture | None = None
    recording: set[Any] = field(default_factory=set)
    generators_captured: bool = False
    pools: dict[Any, Pool] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=lambda: count(1))
    graphs: WeakSet[Graph] = field(default_factory=WeakSet)
    captures: int = 0
    replays: int = 0

    def stream(self, index: int) -> Stream:
        return self.streams.get(index) or Stream(torch.device("cuda", index), 0)

    def mark(self, tensor: Tensor, index: int) -> None:
        storage = tensor.untyped_storage()
        self.marks[storage._cdata] = (StorageWeakRef(storage), index)

    def device_of(self, tensor: Tensor) -> int | None:
        found = self.marks.get(tensor.untyped_storage()._cdata)
        return None if found is None or found[0].expired() else found[1]

    def capturing(self, index: int) -> Capture | None:
        """The capture that work on this device is a part of."""
        found = self.capture
        return found if found is not None and self.stream(index) == found.stream else None

    def refuse_while_capturing(self) -> None:
        if self.capture is not None and threading.current_thread() is self.capture.thread:
            self.capture.spoilt = True
            raise RuntimeError(_REFUSED)


GPU = State()


@dataclass
class Place:
    """Where a tensor lies: in the memory of a pool, or in other memory, which may be freed."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    dtype: torch.dtype
    buffer: Tensor | None
    outside: StorageWeakRef | None

    def tensor(self) -> Tensor:
        if self.buffer is not None:
            storage = self.buffer.untyped_storage()
        else:
            assert self.outside is not None
            if self.outside.expired():
                raise StalePointerError(f"{self.size} of {self.dtype}")
            storage = torch.UntypedStorage._new_with_weak_ptr(self.outside.cdata)
        return torch.empty(0, dtype=self.dtype).set_(storage, self.offset, self.size, self.stride)


@dataclass
class Capture:
    """What is captured: operations, by the places that they use."""

    stream: Stream
    pool: Pool
    thread: threading.Thread
    operations: list[tuple[Any, Any, Any, list[Place | None]]] = field(default_factory=list)
    own: dict[int, tuple[StorageWeakRef, Tensor]] = field(default_factory=dict)
    changed: dict[int, tuple[StorageWeakRef, Tensor]] = field(default_factory=dict)
    drawn: Tensor = field(default_factory=torch.get_rng_state)
    exchanges: bool = False
    spoilt: bool = False

    def keep(self, tensor: Tensor) -> None:
        """Keep what an operation may change: a capture computes nothing."""
        storage = tensor.untyped_storage()
        if storage._cdata not in self.own and storage._cdata not in self.changed:
            whole = torch.empty(0, dtype=torch.uint8).set_(storage)
            self.changed[storage._cdata] = (StorageWeakRef(storage), whole.clone())

    def undo(self) -> None:
        """Take back all that was computed."""
        torch.set_rng_state(self.drawn)
        for lives, values in self.changed.values():
            if not lives.expired():
                storage = torch.UntypedStorage._new_with_weak_ptr(lives.cdata)
                torch.empty(0, dtype=torch.uint8).set_(storage).copy_(values)
        for _, buffer in self.own.values():
            buffer.fill_(NONSENSE)

    def place(self, tensor: Tensor) -> Place:
        storage = tensor.untyped_storage()
        found = self.own.get(storage._cdata)
        inside = found is not None and not found[0].expired()
        return Place(
            tuple(tensor.shape),
            tensor.stride(),
            tensor.storage_offset(),
            tensor.dtype,
            found[1] if inside and found is not None else None,
            None if inside else StorageWeakRef(storage),
        )

    def owned(self, tensor: Tensor, index: int) -> Tensor:
        """`tensor` in memory of the pool."""
        storage = tensor.untyped_storage()
        buffer = torch.empty(max(1, storage.nbytes()), dtype=torch.uint8)
        if storage.nbytes():
            buffer[: storage.nbytes()].copy_(torch.empty(0, dtype=torch.uint8).set_(storage))
        moved = torch._C._construct_storage_from_data_pointer(
            buffer.data_ptr(), torch.device("cpu"), max(1, storage.nbytes())
        )
        given = torch.empty(0, dtype=tensor.dtype).set_(moved, tensor.storage_offset(), tensor.shape, tensor.stride())
        lives = StorageWeakRef(given.untyped_storage())
        self.own[given.untyped_storage()._cdata] = (lives, buffer)
        self.pool.buffers.append((buffer, lives))
        GPU.mark(given, index)
        return given


class Operations(TorchDispatchMode):
    """What torch dispatches, on the device where its tensors are."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunction():
            return self._run(func, args, kwargs)

    def _run(self, func: Any, args: Any, kwargs: Any) -> Any:
        tensors = _tensors((*args, *kwargs.values()))
        if func.namespace == "c10d":
            return self._exchanged(func, args, kwargs, tensors)
        places = [GPU.device_of(x) for x in tensors]
        index = next((i for i in places if i is not None), None)
        if index is None:
            return func(*args, **kwargs)
        if func is aten.mul.out and GPU.device_of(kwargs["out"]) is None:
            # A bucket of DistributedDataParallel, which C++ allocates where the weights are.
            GPU.mark(kwargs["out"], index)
            places = [index] * len(tensors)
        copies = func in (aten.copy_.default, aten._to_copy.default)
        if not copies:
            meet = {i for x, i in zip(tensors, places, strict=True) if i is not None or x.dim()}
            if len(meet) > 1:
                raise RuntimeError(f"Expected all tensors to be on the same device, {func} has {meet}")
        capture = GPU.capturing(index)
        if func in WAITS or (func is aten.index.Tensor and any(x.dtype == torch.bool for x in tensors[1:])):
            GPU.refuse_while_capturing()
        if copies and len(set(places)) > 1:
            GPU.refuse_while_capturing()
        if func is aten._fused_sgd_.tensor_lr:
            _fused(*args, lr=kwargs["lr"])
        if _draws(func) and (capture is None) == GPU.generators_captured:
            raise RuntimeError("Offset increment outside graph capture encountered unexpectedly.")
        if capture is not None and _changes(func):
            for x in tensors:
                capture.keep(x)
        found = func(*args, **kwargs)
        if func is aten.copy_.default:
            index = places[0] if places[0] is not None else index
        if capture is None:
            if not (copies and places[0] is None):
                for x in _tensors((found,)):
                    GPU.mark(x, index)
            return found
        return self._recorded(capture, index, func, args, kwargs, found)

    def _exchanged(self, func: Any, args: Any, kwargs: Any, tensors: list[Tensor]) -> Any:
        """A collective; in a capture nothing is exchanged."""
        if GPU.capture is None or str(func) not in EXCHANGES:
            GPU.refuse_while_capturing()
            return func(*args, **kwargs)
        GPU.capture.exchanges = True
        spec = _mapped(Tensor, GPU.capture.place, (args, kwargs))
        GPU.capture.operations.append((partial(_waited, func), *spec, [None] * len(tensors)))
        return args[0], dist.Work.boxed(FakeWork())

    def _recorded(self, capture: Capture, index: int, func: Any, args: Any, kwargs: Any, found: Any) -> Any:
        before = {x.untyped_storage()._cdata for x in _tensors((*args, *kwargs.values()))}
        spec = _mapped(
            Tensor, lambda x: capture.place(x) if GPU.device_of(x) is not None else x.clone(), (args, kwargs)
        )
        made: list[Place | None] = []

        def given(x: Tensor) -> Tensor:
            if x.untyped_storage()._cdata in before:
                made.append(None)
                return x
            moved = capture.owned(x, index)
            made.append(capture.place(moved))
            return moved

        found = _mapped(Tensor, given, found)
        capture.operations.append((func, *spec, made))
        return found


def _tensors(values: Any) -> list[Tensor]:
    """All tensors in nested lists and tuples: what operations take and give."""
    found: list[Tensor] = []
    for each in values:
        if isinstance(each, Tensor):
            found.append(each)
        elif isinstance(each, list | tuple):
            found += _tensors(each)
    return found


def _mapped(kind: type, change: Callable[[Any], Any], value: Any) -> Any:
    """`value` with all of a kind changed in nested lists, tuples and dicts."""
    if isinstance(value, kind):
        return change(value)
    if isinstance(value, list | tuple):
        return type(value)(_mapped(kind, change, each) for each in value)
    if isinstance(value, dict):
        return {name: _mapped(kind, change, each) for name, each in value.items()}
    return value


@cache
def _draws(func: Any) -> bool:
    return any(word in str(func) for word in DRAWS)


@cache
def _changes(func: Any) -> bool:
    # What a batch norm says of itself leaves its running statistics out.
    return func._schema.is_mutable or "batch_norm" in str(func)


def _waited(func: Any, *args: Any, **kwargs: Any) -> Any:
    tensors, work = func(*args, **kwargs)
    dist.Work.unbox(work).wait()
    return tensors


def _fused(params: Any, grads: Any, buffers: Any, *, lr: Tensor) -> None:
    """What the kernel of a fused update asks for."""
    if lr.dtype != torch.float32:
        raise RuntimeError(f"expected scalar type Float but found {lr.dtype}")
    for each in zip(*(x for x in (params, grads, buffers) if x), strict=True):
        # Where there is one element a stride says nothing.
        layouts = {tuple(step for step, size in zip(x.stride(), x.shape, strict=True) if size > 1) for x in each}
        if len(layouts) > 1:
            raise RuntimeError(
                "Expected check_fast_path_restrictions({params, grads, momentum_buffer_list}) to be true"
            )


def _index(device: Any) -> int | None:
    """The number of a GPU, None for another device."""
    if isinstance(device, int):
        return device
    if device is None:
        return None
    found = torch.device(device)
    return (GPU.current if found.index is None else found.index) if found.type == "cuda" else None


_GETTERS: dict[str, Callable[[int], object]] = {
    "device": lambda index: torch.device("cuda", index),
    "is_cuda": lambda _: True,
    "is_cpu": lambda _: False,
}


class Functions(TorchFunctionMode):
    """What asks for a device, or names one."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name == "__get__":
            wanted = getattr(func.__self__, "__name__", "")
            index = GPU.device_of(args[0]) if wanted in _GETTERS else None
            return func(*args, **kwargs) if index is None else _GETTERS[wanted](index)
        moving = _MOVES.get(name)
        if moving is not None and args and isinstance(args[0], Tensor):
            return moving(func, args, kwargs)
        if name == "get_device" and GPU.device_of(args[0]) is not None:
            return GPU.device_of(args[0])
        if name in ("numpy", "__array__") and GPU.device_of(args[0]) is not None:
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        if kwargs.pop("pin_memory", False):
            kwargs.pop("device", None)
            found = func(*args, **kwargs)
            GPU.pinned.append(StorageWeakRef(found.untyped_storage()))
            return found
        if kwargs.get("device") is None or name == "_parse_to":
            return func(*args, **kwargs)
        index = _index(kwargs["device"])
        if index is None:
            found = func(*args, **kwargs)
            if isinstance(found, Tensor):
                GPU.marks.pop(found.untyped_storage()._cdata, None)
            return found
        if name in ("tensor", "as_tensor"):
            GPU.refuse_while_capturing()
        kwargs["device"] = "cpu"
        return _made_on(index, func, args, kwargs)


def _made_on(index: int, func: Any, args: Any, kwargs: Any) -> Tensor:
    """A tensor that a function makes on a device: in a capture by its kernel, too."""
    capture = GPU.capturing(index)
    if capture is None:
        found: Tensor = func(*args, **kwargs)
        GPU.mark(found, index)
        return found
    with torch._C.DisableTorchFunction(), _disable_current_modes():
        found = func(*args, **kwargs)
    moved = capture.owned(found.detach(), index)
    constant = found.detach().clone()
    if "empty" not in getattr(func, "__name__", ""):
        capture.operations.append((aten.copy_.default, (capture.place(moved), constant), {}, [None]))
    return moved.requires_grad_(found.requires_grad)


def _to(func: Any, args: Any, kwargs: Any) -> Tensor:
    x, dtype = args[0], kwargs.get("dtype")
    here = GPU.device_of(x)
    wanted = kwargs.get("device")
    there = here if wanted is None else _index(wanted)
    for each in args[1:]:
        if isinstance(each, Tensor):
            there, dtype = GPU.device_of(each), each.dtype
        elif isinstance(each, torch.dtype):
            dtype = each
        elif isinstance(each, str | torch.device):
            there = _index(each)
    settings = {name: kwargs[name] for name in ("copy", "memory_format") if name in kwargs}
    dtype = dtype or x.dtype
    if here == there:
        return x.to(dtype, **settings)  # type: ignore[no-any-return]
    if there is None or not (kwargs.get("non_blocking", False) and _pinned(x)):
        GPU.refuse_while_capturing()
    found: Tensor = x.to(dtype, **{**settings, "copy": True})
    if there is None:
        GPU.marks.pop(found.untyped_storage()._cdata, None)
    else:
        GPU.mark(found, there)
    return found


def _pinned(x: Tensor) -> bool:
    own = x.untyped_storage()._weak_ref()
    try:
        return any(each.cdata == own for each in GPU.pinned)
    finally:
        torch.Storage._free_weak_ref(own)


_MOVES: dict[str, Callable[..., Tensor]] = {
    "to": _to,
    "cuda": lambda func, args, kwargs: _to(
        func, args[:1], {"device": "cuda" if args[1:] in ((), (None,)) else args[1]}
    ),
    "cpu": lambda func, args, kwargs: _to(func, args[:1], {"device": "cpu"}),
    "pin_memory": lambda func, args, kwargs: _pin(args[0]),
    "is_pinned": lambda func, args, kwargs: _pinned(args[0]),  # type: ignore[dict-item]
}


def _pin(x: Tensor) -> Tensor:
    found = x.clone()
    GPU.pinned.append(StorageWeakRef(found.untyped_storage()))
    return found


class Graph:
    """In place of torch.cuda.CUDAGraph."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.capture: Capture | None = None
        self.number: Any = None
        GPU.graphs.add(self)

    def pool(self) -> Any:
        return self.number

    def replay(self) -> None:
        assert self.capture is not None, "replay without a preceding successful capture"
        GPU.refuse_while_capturing()
        GPU.replays += 1
        with (
            _disable_current_modes(),
            torch._C.DisableTorchFunction(),
            torch.no_grad(),
            torch.autocast("cpu", enabled=False),
        ):
            self.capture.pool.spoil()
            for func, args, kwargs, made in self.capture.operations:
                inputs, settings = _mapped(Place, Place.tensor, (args, kwargs))
                found = func(*inputs, **settings)
                for place, value in zip(made, _tensors((found,)), strict=True):
                    if place is not None:
                        place.tensor().copy_(value)
            self.capture.pool.spoil()


class Graphing:
    """In place of torch.cuda.graph, with what it does when a capture breaks."""

    default_capture_stream: Stream | None = None

    def __init__(
        self, graph: Graph, pool: Any = None, stream: Stream | None = None, capture_error_mode: str = "global"
    ) -> None:
        assert capture_error_mode in ("global", "thread_local", "relaxed")
        if stream is None and Graphing.default_capture_stream is None:
            Graphing.default_capture_stream = make_stream()
        self.graph, self.number, self.stream = graph, pool, stream or Graphing.default_capture_stream

    def __enter__(self) -> None:
        assert self.stream is not None
        assert GPU.capture is None, "one capture at a time"
        if self.number in GPU.recording:
            raise RuntimeError("beginAllocateToPool: already recording to mempool_id")
        self.on = on_stream(self.stream)
        self.on.__enter__()
        pool = GPU.pools.setdefault(self.number, Pool())
        GPU.recording.add(self.number)
        GPU.generators_captured = True
        GPU.capture = Capture(self.stream, pool, threading.current_thread())

    def __exit__(self, kind: Any, error: BaseException | None, trace: TracebackType | None) -> None:
        capture, GPU.capture = GPU.capture, None
        assert capture is not None
        with _disable_current_modes(), torch._C.DisableTorchFunction():
            capture.undo()
        if capture.spoilt:
            # The stream, the pool and the generators stay as they are.
            raise RuntimeError(_SPOILT)
        GPU.recording.discard(self.number)
        GPU.generators_captured = False
        GPU.captures += 1
        self.graph.capture, self.graph.number = capture, self.number
        self.on.__exit__(kind, error, trace)


def end_pool(device: int, number: Any) -> None:
    """In place of torch._C._cuda_endAllocateToPool."""
    if number not in GPU.recording:
        raise RuntimeError("endAllocatePool: not currently recording to mempool_id")
    GPU.recording.discard(number)


def make_stream(device: Any = None, *_: Any, **__: Any) -> Stream:
    index = _index(device)
    # As torch, which has 32 and begins again.
    return Stream(torch.device("cuda", GPU.current if index is None else index), 1 + next(GPU.numbers) % 32)


class on_stream:  # noqa: N801 - in place of torch.cuda.stream
    def __init__(self, stream: Stream | None) -> None:
        self.stream = stream

    def __enter__(self) -> None:
        assert self.stream is not None
        index = self.stream.device_index
        self.before = (GPU.current, GPU.streams.get(index))
        GPU.current = index
        GPU.streams[index] = self.stream

    def __exit__(self, *_: object) -> None:
        assert self.stream is not None
        index = self.stream.device_index
        GPU.current, stream = self.before
        if stream is None:
            GPU.streams.pop(index, None)
        else:
            GPU.streams[index] = stream


class on_device:  # noqa: N801 - in place of torch.cuda.device
    def __init__(self, device: Any) -> None:
        self.index = _index(device)

    def __enter__(self) -> None:
        self.before = GPU.current
        GPU.current = self.before if self.index is None else self.index

    def __exit__(self, *_: object) -> None:
        GPU.current = self.before


class Autocast(torch.autocast):
    """Of the GPU by that of the CPU, which tensors here are on."""

    def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
        super().__init__("cpu", *args, **kwargs)


def _current_stream(device: Any = None) -> Stream:
    index = _index(device)
    return GPU.stream(GPU.current if index is None else index)


def _empty_cache() -> None:
    GPU.refuse_while_capturing()


def _in_place_of_nccl(init: Callable[..., None], _: str, **settings: Any) -> None:
    init("gloo", **{**settings, "device_id": None})


def _left(leave: Callable[[], None]) -> None:
    assert not any(graph.capture and graph.capture.exchanges for graph in GPU.graphs), "NCCL waits for a capture"
    leave()


@contextmanager
def gpus(count: int = 1) -> Iterator[State]:
    """Inside, there are so many GPUs."""
    global GPU
    before, GPU = GPU, State(count)
    Graphing.default_capture_stream = None
    enabled, narrow = torch.is_autocast_enabled, torch.get_autocast_dtype
    device = torch.device("cuda", 0)
    changed: dict[str, Any] = {
        "cuda.is_available": lambda: True,
        "cuda.device_count": lambda: GPU.count,
        "cuda.current_device": lambda: GPU.current,
        "cuda.set_device": lambda index: setattr(GPU, "current", _index(index)),
        "cuda.device": on_device,
        "cuda.Stream": make_stream,
        "cuda.stream": on_stream,
        "cuda.current_stream": _current_stream,
        "cuda.Event": Event,
        "cuda.CUDAGraph": Graph,
        "cuda.graph": Graphing,
        "cuda.graph_pool_handle": lambda: (0, next(GPU.numbers)),
        "cuda.is_current_stream_capturing": lambda: GPU.capturing(GPU.current) is not None,
        "cuda.synchronize": lambda *_: GPU.refuse_while_capturing(),
        "cuda.empty_cache": _empty_cache,
        "cuda.mem_get_info": lambda *_: (2**30, 2**30),
        "cuda.get_rng_state": lambda *_: torch.get_rng_state(),
        "cuda.set_rng_state": lambda state, *_: torch.set_rng_state(state),
        "cuda.manual_seed_all": lambda *_: None,
        "cuda.get_device_capability": lambda *_: (7, 0),
        "cuda.get_device_name": lambda *_: "an imitation",
        "distributed.init_process_group": partial(_in_place_of_nccl, dist.init_process_group),
        "distributed.destroy_process_group": partial(_left, dist.destroy_process_group),
        "accelerator.current_accelerator": lambda *_, **__: device,
        "_C._cuda_endAllocateToPool": end_pool,
        "_C._group_tensors_by_device_and_dtype": _grouped,
        "autocast": Autocast,
        "is_autocast_enabled": lambda *kind: enabled(*("cpu" for _ in kind)),
        "get_autocast_dtype": lambda kind: narrow("cpu"),
        "Tensor.pin_memory": _pin,
    }
    with ExitStack() as stack:
        for name, value in changed.items():
            stack.enter_context(mock.patch(f"torch.{name}", value))
        # The backward passes of Python's functions ask for devices, too.
        stack.enter_context(mock.patch("torch.autograd._engine_run_backward", _backward))
        stack.enter_context(mock.patch("torch.accelerator.current_stream", return_value=_Capturing()))
        # Its kernels are no operations of torch.
        stack.enter_context(mock.patch.object(launch, "available", return_value=False))
        stack.enter_context(Operations())
        stack.enter_context(Functions())
        # Captures of another imitation mean nothing here.
        recordings.cuda.cache_clear()
        try:
            yield GPU
        finally:
            recordings.cuda.cache_clear()
            GPU = before


_by_device = torch._C._group_tensors_by_device_and_dtype


def _grouped(lists: Any, *args: Any, **kwargs: Any) -> Any:
    index = next((GPU.device_of(x) for x in lists[0] if x is not None), None)
    found = _by_device(lists, *args, **kwargs)
    return found if index is None else {(torch.device("cuda", index), kind): v for (_, kind), v in found.items()}


_engine = torch.autograd._engine_run_backward  # type: ignore[attr-defined]


def _backward(*args: Any, **kwargs: Any) -> Any:
    with Functions():
        return _engine(*args, **kwargs)


class _Capturing:
    def is_capturing(self) -> bool:
        return GPU.capture is not None
