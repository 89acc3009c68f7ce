"""What `torch.compile` makes of a neuron and of the whole network, and how long compiling and capturing take."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import bcgraph
from bcgraph.equations.neuron import SPIKES
from bcgraph.nn.graphs.graphed import COMPARED
from bcgraph.nn.neuron.neuron import Neuron
from benchmarks.gpu.measure import Call, compared, ratio, seconds, timed, told
from benchmarks.gpu.plan import Plan
from benchmarks.gpu.steps import stepper
from benchmarks.harness import Row
from benchmarks.networks import settle


def neurons(plan: Plan) -> Iterator[Row]:
    """One step of a LIF layer with two currents, first and last stage: the kernel against `torch.compile` of it."""
    equations = plan.spec().neuron.equations
    step = Neuron(equations.giving((SPIKES, *equations.states)), "lif")

    def plain(*values: Tensor) -> tuple[Tensor, ...]:
        return step(values[:2], values[2:], [])

    for stage, layout in ((1, torch.channels_last), (1, torch.contiguous_format), (8, torch.channels_last)):
        shape = (plan.batch, plan.width * stage, max(1, plan.size // stage), max(1, plan.size // stage))
        named = f"{'x'.join(map(str, shape))}{', channels-last' if layout == torch.channels_last else ''}"
        torch.compiler.reset()
        other = torch.compile(plain, backend=plan.compiler)
        values = [torch.randn(shape, device=plan.device).to(memory_format=layout) for _ in range(3)]
        with torch.no_grad():
            once = seconds(plan, partial(other, *values))
            mine, theirs = timed(plan, partial(plain, *values), partial(other, *values))
        yield ratio(f"a neuron, {named} / torch.compile ({told(once)})", mine, theirs, "<= 1", faster=False)
        for value in values:
            value.requires_grad_()
        once = seconds(plan, partial(_both_ways, other, values))
        mine, theirs = timed(plan, partial(_both_ways, plain, values), partial(_both_ways, other, values))
        what = f"a neuron forward and backward, {named} / torch.compile ({told(once)})"
        yield ratio(what, mine, theirs, "<= 1", faster=False)


def _both_ways(call: Any, values: list[Tensor]) -> None:
    given = call(*values)
    torch.autograd.grad(given, values, [torch.ones_like(each) for each in given])


def times(plan: Plan) -> Iterator[Row]:
    """How long it takes until a network runs: compiled, called once, captured."""
    x = plan.images()
    models: list[nn.Module] = []
    built = seconds(plan, lambda: models.append(bcgraph.compile(plan.spec(), device=plan.device)))
    call = stepper(models[0], x, "tf32", captured=True)
    first = seconds(plan, call)
    # The second call captures; it and the next are compared with plain ones.
    captured = seconds(plan, lambda: [call() for _ in range(COMPARED)])
    (usual,) = timed(plan, call)
    yield Row("compiling the network", told(built), "", "", "")
    yield Row("its first training step", told(first), "", "", "")
    yield Row("capturing and comparing the step", told(captured), told(usual), f"{captured / usual:.0f} steps", "")


def inference(plan: Plan) -> Iterator[Row]:
    """A captured forward pass against `torch.compile` of the whole network."""
    with torch.no_grad():
        x = plan.images().to(memory_format=torch.channels_last)
        ours = bcgraph.compile(plan.spec(), "unrolled", inference=True, device=plan.device, graphs=True)
        trained = bcgraph.compile(plan.spec(), device=plan.device)
        settle(trained, x)
        ours.load_state_dict(trained.state_dict())
        other = _compiled(plan, trained.eval())
        yield from _against(plan, "inference", partial(ours, x), partial(other, x))


def training(plan: Plan) -> Iterator[Row]:
    """A captured training step against one of the network that `torch.compile` has compiled."""
    x = plan.images()
    ours, other = (bcgraph.compile(plan.spec(), "unrolled", device=plan.device) for _ in range(2))
    theirs = stepper(_compiled(plan, other), x, "tf32", captured=False)
    yield from _against(plan, "a training step", stepper(ours, x, "tf32", captured=True), theirs)


def _compiled(plan: Plan, model: nn.Module) -> Any:
    torch.compiler.reset()
    return torch.compile(model, backend=plan.compiler)


def _against(plan: Plan, what: str, ours: Call, other: Call) -> Iterator[Row]:
    once = seconds(plan, other)
    yield Row(f"{what}: torch.compile, the first call", "", told(once), "", "")
    yield from compared(plan, f"{what}, batch {plan.batch}", ours, {"torch.compile": (other, "")}, faster=True)
