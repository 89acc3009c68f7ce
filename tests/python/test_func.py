"""`torch.func`, forward-mode differentiation and second derivatives: right as the reference, or a clear error."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacrev, jvp, vmap

import bcgraph
from bcgraph import schema
from bcgraph.errors import CompileError
from tests import neurons
from tests.equivalence.support import batch, build, small, state
from tests.reference import Reference

CASES: dict[str, dict[str, Any]] = {
    "unrolled": {"schedule": "unrolled"},
    "folded": {"schedule": "folded"},
    "single operations": {"schedule": "folded", "optimize": ()},
    "inference": {"schedule": "unrolled", "inference": True},
    "folded inference": {"schedule": "folded", "inference": True},
    "recompute": {"schedule": "unrolled", "recompute": True},
}
MODES = [(case, training) for case in CASES for training in (False, True) if not (training and "inference" in case)]
PER_STEP = schema.Norm(statistics="per_step")


def network(norm: schema.Norm | None = None) -> schema.NetworkSpec:
    neuron = neurons.lif(tau=0.7, threshold=0.9, reset="soft", width=1.5)
    return small(backward=((3, 0), (2, 2), (1, 0, 2)), steps=3, neuron=neuron, norm=norm)


class Setting:
    """A compiled network, its reference, and what both compute of a batch."""

    def __init__(self, case: str, training: bool, norm: schema.Norm | None = None) -> None:
        self.spec = network(norm)
        values = state(self.spec)
        model = build(self.spec, values=values, **CASES[case])
        self.model = model if "inference" in case else model.train(training)
        self.x = batch(self.spec, 4)
        self.reference, self.training = Reference(self.spec, values), training
        theirs = self.x.clone().requires_grad_()
        self.output = self.reference(theirs, training=training).output
        self.weights = torch.randn(self.output.shape, dtype=torch.float64)
        loss = (self.output * self.weights).sum()
        (self.to_x,) = torch.autograd.grad(loss, theirs, retain_graph=True)
        loss.backward()
        self.parameters = {name: p.detach() for name, p in self.model.named_parameters()}

    @property
    def buffers(self) -> dict[str, Tensor]:
        return {name: b.clone() for name, b in self.model.named_buffers()}

    def loss(self, x: Tensor, tensors: dict[str, Tensor]) -> Tensor:
        output: Tensor = functional_call(self.model, tensors, (x,))
        return (output * self.weights).sum()


def close(ours: Tensor, theirs: Tensor) -> None:
    assert float(theirs.abs().sum()) > 0
    torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-6)


def refuses(act: Callable[[], object], hint: str) -> None:
    with pytest.raises(CompileError) as caught:
        act()
    assert caught.value.code == "E074"
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize(("case", "training"), MODES)
@pytest.mark.parametrize("norm", [None, PER_STEP], ids=["shared", "per step"])
def test_gradients_by_transform(case: str, training: bool, norm: schema.Norm | None) -> None:
    if norm is not None and "inference" in case:
        return
    given = Setting(case, training, norm)
    buffers = given.buffers
    close(grad(given.loss)(given.x, given.parameters | buffers), given.to_x)
    if training:
        for name, value in given.reference.buffers.items():
            close(buffers[name].double(), value.double())
    found = grad(lambda p: given.loss(given.x, p | given.buffers))(given.parameters)
    for name, value in given.reference.gradients().items():
        torch.testing.assert_close(found[name], value, atol=1e-9, rtol=1e-6, msg=name)


@pytest.mark.parametrize(("case", "training"), MODES)
def test_a_functional_call(case: str, training: bool) -> None:
    given = Setting(case, training)
    zeros = {name: torch.zeros_like(p) for name, p in given.model.state_dict().items()}
    ours = {name: p.clone().requires_grad_() for name, p in given.parameters.items()}
    values = given.buffers
    given.model.load_state_dict(zeros)
    loss = given.loss(given.x, ours | values)
    torch.testing.assert_close(loss, (given.output * given.weights).sum(), atol=1e-9, rtol=1e-9)
    if case == "recompute":
        # It would recompute with the zeros of the module itself.
        refuses(loss.backward, "compile without `recompute`")
        return
    loss.backward()
    for name, value in given.reference.gradients().items():
        torch.testing.assert_close(ours[name].grad, value, atol=1e-9, rtol=1e-6, msg=name)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("gradients", [False, True])
def test_vmap(case: str, gradients: bool) -> None:
    given = Setting(case, False)
    xs = torch.stack([given.x, batch(given.spec, 4, 1), batch(given.spec, 4, 2)])
    with torch.set_grad_enabled(gradients):
        found = vmap(given.model, in_dims=0, out_dims=1)(xs)
        late = vmap(given.model, in_dims=4, out_dims=1)(xs.movedim(0, 4))
    theirs = torch.stack([given.reference(x).output for x in xs], 1)
    torch.testing.assert_close(found, theirs, atol=1e-9, rtol=0)
    torch.testing.assert_close(late, theirs, atol=1e-9, rtol=0)
    if gradients:
        per_batch = vmap(grad(lambda x: given.loss(x, {})))(xs)
        close(per_batch[0], given.to_x)


@pytest.mark.parametrize(("case", "training"), MODES)
def test_forward_mode(case: str, training: bool) -> None:
    given = Setting(case, training)
    tangent = torch.randn_like(given.x)
    for gradients in (False, True):
        with torch.set_grad_enabled(gradients):
            loss, found = jvp(lambda x: given.loss(x, given.buffers), (given.x,), (tangent,))
            torch.testing.assert_close(loss, (given.output * given.weights).sum(), atol=1e-9, rtol=1e-9)
            close(found, (given.to_x * tangent).sum())
    given.model.load_state_dict(given.parameters | given.buffers)
    with torch.no_grad(), forward_ad.dual_level():
        output = given.model(forward_ad.make_dual(given.x, tangent))
        derived = forward_ad.unpack_dual(output).tangent
    close((derived * given.weights).sum(), (given.to_x * tangent).sum())


@pytest.mark.parametrize("case", ["unrolled", "folded", "recompute"])
def test_statistics_that_a_transform_does_not_know(case: str) -> None:
    given = Setting(case, True)
    before = {name: value.clone() for name, value in given.model.state_dict().items()}
    for act in (
        lambda: grad(lambda x: given.model(x).sum())(given.x),
        lambda: vmap(given.model)(torch.stack([given.x, given.x])),
        lambda: jvp(given.model, (given.x,), (given.x,)),
    ):
        refuses(act, "model.eval()")
    torch.testing.assert_close(dict(given.model.state_dict()), before, atol=0, rtol=0)


@pytest.mark.parametrize(("case", "training"), MODES)
def test_second_derivatives_are_refused(case: str, training: bool) -> None:
    given = Setting(case, training)

    def twice(to: str) -> None:
        x = given.x.clone().requires_grad_()
        (first,) = torch.autograd.grad((given.model(x) * given.weights).sum(), x, create_graph=True)
        last = x if to == "x" else given.model.get_parameter(to)
        torch.autograd.grad(first.square().sum(), last)

    refuses(lambda: twice("x"), "create_graph")
    refuses(lambda: twice("conv1.weight"), "create_graph")

    def nested(x: Tensor) -> Tensor:
        return grad(given.loss)(x, given.parameters | given.buffers).square().sum()

    refuses(lambda: grad(nested)(given.x), "nest")
    refuses(lambda: hessian(given.loss)(given.x, given.parameters | given.buffers), "nest")


def test_a_second_derivative_that_meets_no_spike() -> None:
    given = Setting("single operations", False)
    weight = given.model.get_parameter("fc2.weight")
    output = given.model(given.x)
    (first,) = torch.autograd.grad(output.square().sum(), weight, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), weight)
    theirs = given.reference.parameters["fc2.weight"]
    (one,) = torch.autograd.grad(given.reference(given.x).output.square().sum(), theirs, create_graph=True)
    (two,) = torch.autograd.grad(one.sum(), theirs)
    close(second, two)


def test_jacobians() -> None:
    given = Setting("folded", False)
    found = jacrev(given.model)(given.x[:2])
    theirs = torch.autograd.functional.jacobian(lambda x: given.reference(x).output, given.x[:2])
    close(found, theirs)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("schedule", ["unrolled", "folded"])
def test_an_ensemble_under_vmap(schedule: str, training: bool) -> None:
    text = "bcg 1\nnetwork n { input = image(1, 8, 8); steps = 2; backbone = tiny(width=32); backward @4 -> @0 }"
    spec = bcgraph.parse(text)
    models = [bcgraph.compile(spec, schedule, seed=k).train(training) for k in range(3)]
    x = torch.randn(4, 1, 8, 8)
    values = [model.state_dict() for model in models]
    stacked = {name: torch.stack([v[name] for v in values]) for name in values[0]}
    base = copy.deepcopy(models[0]).to("meta")
    found = vmap(lambda state: functional_call(base, state, (x,)))(stacked)
    with torch.no_grad():
        for k, model in enumerate(models):
            # Rounding may flip a spike: only most samples have to agree in float32.
            same = (found[k] - model(x)).abs().amax((0, 2)) < 1e-3
            assert float(same.float().mean()) >= 0.75
