"""Inference and training on a GPU: captured, plain, raw operations and the peer, by precision, batch and steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial

import torch
from torch import Tensor, nn

import bcgraph
from bcgraph.nn.determinism import reproducible
from bcgraph.nn.graphs.graphed import Graphed
from bcgraph.nn.graphs.recordings import cuda
from bcgraph.schema import SGD
from bcgraph.training.optimizers import optimizer
from benchmarks.gpu.measure import Call, compared, computing
from benchmarks.gpu.plan import Plan
from benchmarks.harness import Row
from benchmarks.inference import raw_calls
from benchmarks.networks import settle

SMALL = 32
"""Up to this batch starting kernels takes most of the peer's time, so the goal is higher."""


def inference(plan: Plan, precision: str, batch: int, steps: int) -> Iterator[Row]:
    """A captured forward pass against the plain one, its raw operations, plain and captured, and the peer."""
    with torch.no_grad(), computing(precision, plan.device):
        x = plan.images(batch)
        last = x.to(memory_format=torch.channels_last)
        spec = plan.spec(steps)
        trained = bcgraph.compile(spec, device=plan.device)
        settle(trained, x)
        plain, ours = (
            bcgraph.compile(spec, "unrolled", inference=True, device=plan.device, graphs=graphs)
            for graphs in (False, True)
        )
        for each in (plain, ours):
            each.load_state_dict(trained.state_dict())
        raw = raw_calls(plain, last)
        captured = Graphed(lambda x: (raw(), x)[1:], list, cuda(), "raw operations")
        without = partial(plain, last)
        sides: dict[str, tuple[Call, str]] = {
            "the plain call": (without, ""),
            "raw operations": (raw, "<= 1.15"),
            "raw operations, captured": (partial(captured, "", last), ""),
        }
        peer = plan.peer(steps)
        if peer is not None:
            settle(peer, x)
            sides["SpikingJelly"] = (partial(peer, x), "")
        what = f"inference, {precision}, batch {batch}, T = {steps}"
        yield from compared(plan, what, partial(ours, last), sides, plain=without)


def training(plan: Plan, precision: str, batch: int, steps: int, feedback: bool = True) -> Iterator[Row]:
    """A captured training step against the plain one and the peer in its fastest form."""
    x = plan.images(batch)
    build = partial(bcgraph.compile, plan.spec(steps, feedback=feedback), device=plan.device)
    without = stepper(build(), x, precision, captured=False)
    sides: dict[str, tuple[Call, str]] = {"the plain step": (without, "")}
    peers: dict[str, nn.Module | None] = {"SpikingJelly": plan.peer(steps) if feedback else None}
    if not feedback:
        kinds = ("torch", "cupy", "triton")
        peers = {f"SpikingJelly, {kind}, all steps at once": plan.multi_step_peer(kind) for kind in kinds}
    goal = (">= 3 x" if batch <= SMALL else ">= 2 x") if feedback else ">= 1.2 x"
    for name, peer in peers.items():
        if peer is not None:
            sides[name] = (stepper(peer, x, precision, captured=False), goal)
    # `train` gives the same bits again, so it takes no kernels that add in any order.
    sides["sums in one order, as in train, captured"] = (
        stepper(build(), x, precision, captured=True, in_order=True),
        "",
    )
    what = f"training, {precision}, batch {batch}, T = {steps}, {'two connections' if feedback else 'no connection'}"
    ours = stepper(build(), x, precision, captured=True)
    yield from compared(plan, what, ours, sides, plain=without, faster=True)


def stepper(model: nn.Module, x: Tensor, precision: str, *, captured: bool, in_order: bool = False) -> Call:
    """Forward pass, mean cross-entropy over time, backward pass and update, captured or not.

    With `in_order` all kernels add in one order.
    """
    device = x.device.type
    y = torch.arange(len(x), device=x.device) % 10
    update = optimizer(model.train(), SGD(lr=1e-3, momentum=0.9, weight_decay=0.0), captured=captured)

    def run(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        with computing(precision, device), reproducible() if in_order else nullcontext():
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

    graphed = Graphed(run, state, cuda(), "a training step")
    return partial(graphed, "", x, y) if captured else partial(run, x, y)
