"""Inference and training of ResNet-18 on a GPU: plain and captured, by precision, batch and number of steps.

Sides are timed in turns in one process, and the clock stops when the GPU has finished. What a machine lacks is left out
and said.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn

import bcgraph
from bcgraph.nn.determinism import full_precision
from bcgraph.nn.graphs.capture import CudaCapture
from bcgraph.nn.graphs.graphed import Graphed
from bcgraph.schema import SGD
from bcgraph.training.optimizers import optimizer
from benchmarks.harness import Row, elapsed, medians
from benchmarks.inference import raw_calls
from benchmarks.networks import BACKWARD, images, resnet18, settle

PRECISIONS = ("tf32", "float32", "bf16")

Call = Callable[[], object]

TIMES = 10
"""Calls that are timed together."""


@contextmanager
def computing(precision: str, device: str) -> Iterator[None]:
    """Inside, convolutions compute in `tf32` (torch's default), `float32` or, under autocast, `bf16`."""
    with ExitStack() as stack:
        if precision == "float32":
            stack.enter_context(full_precision())
        if precision == "bf16":
            stack.enter_context(torch.autocast(device, torch.bfloat16))
        yield


def inference(precision: str, batch: int = 32, steps: int = 4, device: str = "cuda") -> Iterator[Row]:
    """A captured forward pass against the plain one, its raw operations, plain and captured, and the peer."""
    with torch.no_grad(), computing(precision, device):
        x = images(batch).to(device)
        last = x.to(memory_format=torch.channels_last)
        spec = resnet18(steps)
        trained = bcgraph.compile(spec, device=device)
        settle(trained, x)
        plain, ours = (
            bcgraph.compile(spec, "unrolled", inference=True, device=device, graphs=graphs) for graphs in (False, True)
        )
        for each in (plain, ours):
            each.load_state_dict(trained.state_dict())
        raw = raw_calls(plain, last)
        captured = Graphed(lambda x: (raw(), x)[1:], list, CudaCapture(), "raw operations")
        sides: dict[str, tuple[Call, str]] = {
            "the plain call": (partial(plain, last), ""),
            "raw operations": (raw, "<= 1.15"),
            "raw operations, captured": (partial(captured, "", last), ""),
        }
        peer = peer_of(steps, device)
        if peer is not None:
            settle(peer, x)
            sides["SpikingJelly"] = (partial(peer, x), "")
        yield from compared(f"inference, {precision}, batch {batch}, T = {steps}", partial(ours, last), sides, device)


def training(
    precision: str, batch: int = 32, steps: int = 4, feedback: bool = True, device: str = "cuda"
) -> Iterator[Row]:
    """A captured training step against the plain one and the peer in its fastest form."""
    x = images(batch).to(device)
    spec = resnet18(steps, BACKWARD if feedback else ())
    build = partial(bcgraph.compile, spec, device=device)
    sides: dict[str, tuple[Call, str]] = {"the plain step": (stepper(build(), x, precision, False), "")}
    peers: dict[str, nn.Module | None] = {"SpikingJelly": peer_of(steps, device) if feedback else None}
    if not feedback:
        peers = {f"SpikingJelly, {kind}": multi_step_peer(steps, kind, device) for kind in ("torch", "cupy", "triton")}
    goal = (">= 3 x" if batch <= 32 else ">= 2 x") if feedback else ">= 1.2 x"
    for name, peer in peers.items():
        if peer is not None:
            sides[name] = (stepper(peer, x, precision, False), goal)
    what = f"training, {precision}, batch {batch}, T = {steps}, {'two connections' if feedback else 'no connection'}"
    yield from compared(what, stepper(build(), x, precision, True), sides, device, faster=True)


def stepper(model: nn.Module, x: Tensor, precision: str, captured: bool) -> Call:
    """Forward pass, mean cross-entropy over time, backward pass and update, captured or not."""
    device = x.device.type
    y = torch.arange(len(x), device=x.device) % 10
    update = optimizer(model.train(), SGD(lr=1e-3, momentum=0.9, weight_decay=0.0), captured=captured)

    def run(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        with computing(precision, device):
            update.zero_grad(set_to_none=True)
            outputs = model(x)
            loss = nn.functional.cross_entropy(outputs.flatten(0, 1).float(), y.repeat(len(outputs)))
            loss.backward()
            update.step()
            return (loss.detach(),)

    def state() -> Iterator[Tensor]:
        yield from model.parameters()
        yield from model.buffers()
        for kept in update.state.values():
            yield from (value for value in kept.values() if isinstance(value, Tensor))

    graphed = Graphed(run, state, CudaCapture(), "a training step")
    return partial(graphed, "", x, y) if captured else partial(run, x, y)


def compared(
    what: str, ours: Call, sides: dict[str, tuple[Call, str]], device: str, faster: bool = False
) -> Iterator[Row]:
    """A row for each side, time and memory; with `faster` the ratio says how many times faster ours is."""
    found = timed(device, ours, *(call for call, _ in sides.values()))
    for (name, (_, goal)), seconds in zip(sides.items(), found[1:], strict=True):
        ratio = f"{seconds / found[0]:.2f} x" if faster else f"{found[0] / seconds:.2f}"
        yield Row(f"{what} / {name}", f"{found[0] * 1000:.2f} ms", f"{seconds * 1000:.2f} ms", ratio, goal)
    if device == "cuda":
        mine, *others = (peak(call) for call in (ours, *(call for call, _ in sides.values())))
        for name, size in zip(sides, others, strict=True):
            ratio = f"{mine / size:.2f}" if size else "-"
            yield Row(
                f"{what}, memory / {name}", f"{mine:.0f} MB", f"{size:.0f} MB", ratio, "<= 0.40" if faster else ""
            )


def timed(device: str, *calls: Call) -> list[float]:
    """Seconds of each call, the median of rounds in turns."""

    def often(call: Call) -> Call:
        def run() -> None:
            for _ in range(TIMES if device == "cuda" else 1):
                call()
            if device == "cuda":
                torch.cuda.synchronize()

        return run

    count = TIMES if device == "cuda" else 1
    return [seconds / count for seconds in medians(*map(often, calls), repeats=5, timed=elapsed)]


def peak(call: Call) -> float:
    """Megabytes that a call holds at most above what is held before it. What a capture holds counts as held."""
    gc.collect()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def peer_of(steps: int, device: str) -> nn.Module | None:
    """The peer with two connections, in single-step mode, which feedback needs."""
    try:
        from benchmarks.peer import Peer
    except ImportError as error:
        print(f"without SpikingJelly: {error}")
        return None
    return Peer(steps, BACKWARD).to(device)


def multi_step_peer(steps: int, backend: str, device: str) -> nn.Module | None:
    """The peer without feedback; None where its backend does not run here."""
    try:
        from benchmarks.peer import MultiStepPeer

        peer = MultiStepPeer(steps, backend).to(device)
        peer(images(2).to(device))
    # A backend may fail in any way.
    except Exception as error:
        print(f"without SpikingJelly's backend {backend}: {str(error).strip().splitlines()[:1]}")
        return None
    return peer
