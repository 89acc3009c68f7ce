"""The judge on trial: the reference against values worked out by hand, and against torch's own modules."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bcgraph import schema
from tests import neurons
from tests.equivalence import support
from tests.reference import Reference, fire, nearest


class Fire(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        ctx.save_for_backward(u)
        return torch.where(u > 1, 1.0, 0.0).to(u)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (u,) = ctx.saved_tensors
        return gradient * torch.relu(1 - torch.abs(u - 1))


class StatefulLif(nn.Module):
    def __init__(self, soft: bool) -> None:
        super().__init__()
        self.soft = soft
        self.v: Tensor | float = 0.0

    def forward(self, current: Tensor) -> Tensor:
        u = 0.5 * self.v + current
        s = Fire.apply(u)
        self.v = u - s if self.soft else torch.where(s.bool(), torch.zeros_like(u), u) + u * (s.detach() - s)
        return s


class ByHand(nn.Module):
    """`support.small` as a user would write it, with backward connections 2 -> 0 (delay 1) and 3 -> 2 (delay 2)."""

    def __init__(self, soft: bool) -> None:
        super().__init__()
        self.conv1, self.bn1, self.lif1 = nn.Conv2d(2, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4), StatefulLif(soft)
        block = nn.Module()
        block.conv1, block.bn1, block.lif1 = nn.Conv2d(4, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4), StatefulLif(soft)
        block.conv2, block.bn2 = nn.Conv2d(4, 6, 3, 2, 1, bias=False), nn.BatchNorm2d(6)
        block.downsample = nn.Sequential(nn.Conv2d(4, 6, 1, 2, bias=False), nn.BatchNorm2d(6))
        block.lif2 = StatefulLif(soft)
        self.block = block
        self.fc1, self.lif2, self.fc2 = nn.Linear(96, 12), StatefulLif(soft), nn.Linear(12, 4)
        self.backward_ = nn.ModuleDict({"2_0": _projection(6, 4), "3_2": _projection(12, 6)})

    def forward(self, x: Tensor, steps: int) -> Tensor:
        outputs: list[Tensor] = []
        deep: list[Tensor] = []
        vector: list[Tensor] = []
        for t in range(steps):
            current = self.bn1(self.conv1(x))
            if t >= 1:
                current = current + self.backward_["2_0"](F.interpolate(deep[t - 1], (7, 7)))
            first = self.lif1(current)
            inner = self.block.lif1(self.block.bn1(self.block.conv1(first)))
            current = self.block.bn2(self.block.conv2(inner)) + self.block.downsample(first)
            if t >= 2:
                wide = vector[t - 2][:, :, None, None].expand(-1, -1, 4, 4)
                current = current + self.backward_["3_2"](wide)
            deep.append(self.block.lif2(current))
            vector.append(self.lif2(self.fc1(deep[t].flatten(1))))
            outputs.append(self.fc2(vector[t]))
        return torch.stack(outputs)


def _projection(source: int, target: int) -> nn.Sequential:
    parts = {"conv": nn.Conv2d(source, target, 1, bias=False), "bn": nn.BatchNorm2d(target)}
    sequence = nn.Sequential()
    for name, part in parts.items():
        sequence.add_module(name, part)
    return sequence


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("soft", [False, True])
def test_agrees_with_a_network_written_by_hand(soft: bool, training: bool) -> None:
    neuron = neurons.lif(reset="soft" if soft else "hard")
    spec = support.small(neuron=neuron, steps=4, backward=[(2, 0), (3, 2, 2)])
    values = support.state(spec)
    model = ByHand(soft).double().train(training)
    model.load_state_dict({n.replace("backward.", "backward_."): v for n, v in values.items()})
    reference = Reference(spec, values)

    x = support.batch(spec)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    trace = reference(theirs, training=training)
    output = model(ours, spec.steps)
    support.assert_close(output, trace.output, "O")
    assert all(0.01 < rate < 0.99 for rate in trace.rates().values()), trace.rates()

    output.square().sum().backward()
    trace.output.square().sum().backward()
    assert torch.allclose(ours.grad, theirs.grad, rtol=1e-8, atol=1e-12)
    gradients = {n.replace("backward_.", "backward."): p.grad for n, p in model.named_parameters()}
    for name, gradient in reference.gradients().items():
        assert torch.allclose(gradients[name], gradient, rtol=1e-8, atol=1e-12), name
    buffers = {n.replace("backward_.", "backward."): b for n, b in model.named_buffers()}
    for name, buffer in reference.buffers.items():
        assert torch.allclose(buffers[name].double(), buffer.double(), rtol=0, atol=1e-12), name


def test_connection_counts_only_the_steps_that_are_read() -> None:
    spec = support.small(steps=4, backward=[(2, 0), (3, 2, 3), (1, 1, 5)])
    reference = Reference(spec, support.state(spec))
    reference(support.batch(spec), training=True)
    counted = {n: int(b) - 5 for n, b in reference.buffers.items() if n.endswith("num_batches_tracked")}
    assert counted["bn1.num_batches_tracked"] == 4
    assert counted["backward.2_0.bn.num_batches_tracked"] == 3
    assert counted["backward.3_2.bn.num_batches_tracked"] == 1
    assert counted["backward.1_1.bn.num_batches_tracked"] == 0


def test_per_step_statistics_equal_one_module_a_step() -> None:
    norm = schema.Norm(statistics="per_step")
    body = [support.bn("bn1", norm), support.lif("lif1"), support.flatten(), support.linear("fc", 2)]
    spec = support.network(body, shape=(2, 2, 2), sequence=True, steps=3, norm=norm, backward=[(0, 0)])
    values = support.state(spec)
    reference = Reference(spec, values)
    x = support.batch(spec, 5)
    reference(x, training=True)
    for t in range(3):
        single = nn.BatchNorm2d(2).double()
        single.running_mean = values["bn1.running_mean"][t].clone()
        single.running_var = values["bn1.running_var"][t].clone()
        single(x[t])
        assert torch.allclose(reference.buffers["bn1.running_mean"][t], single.running_mean)
        assert torch.allclose(reference.buffers["bn1.running_var"][t], single.running_var)
    assert reference.buffers["bn1.num_batches_tracked"].tolist() == [6, 6, 6]
    assert reference.buffers["backward.0_0.bn.num_batches_tracked"].tolist() == [6, 6, 5]
    assert torch.equal(reference.buffers["backward.0_0.bn.running_mean"][2], values["backward.0_0.bn.running_mean"][2])


def test_fires_above_the_threshold_and_not_at_it() -> None:
    u = torch.tensor([1.0 - 2**-53, 1.0, 1.0 + 2**-52, -3.0, 0.25, 2.5], dtype=torch.float64, requires_grad=True)
    spike = fire(u, 1.0, 1.0)
    assert spike.tolist() == [0, 0, 1, 0, 0, 1]
    spike.sum().backward()
    assert u.grad is not None
    assert u.grad.tolist() == [1 - 2**-53, 1.0, 1 - 2**-52, 0, 0.25, 0]


def test_width_of_the_surrogate() -> None:
    u = torch.tensor([0.0, 1.5, 3.0, 4.5], dtype=torch.float64, requires_grad=True)
    fire(u, 1.0, 2.0).sum().backward()
    assert u.grad is not None
    assert u.grad.tolist() == [0.25, 0.375, 0.0, 0.0]


def test_nearest_reads_the_row_above() -> None:
    rows = torch.arange(5.0, dtype=torch.float64).view(1, 1, 5, 1).expand(1, 1, 5, 5)
    assert nearest(rows, 3, 1)[0, 0, :, 0].tolist() == [0, 1, 3]
    assert nearest(rows, 8, 1)[0, 0, :, 0].tolist() == [0, 0, 1, 1, 2, 3, 3, 4]
    assert nearest(rows.mT, 1, 3)[0, 0, 0].tolist() == [0, 1, 3]
