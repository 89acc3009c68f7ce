"""The peer: a ResNet-18 of SpikingJelly's own layers in single-step mode, its backward connections wired by hand.

SpikingJelly is needed for benchmarks only: `pip install --no-deps spikingjelly` and `pip install loguru tqdm`.
"""

from __future__ import annotations

from typing import Any

import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn


def lif() -> neuron.LIFNode:
    """u = 0.5*v + I: SpikingJelly's LIF with tau = 2 and no decay of the input, hard reset to zero."""
    triangle = surrogate.PiecewiseQuadratic(alpha=1.0)
    return neuron.LIFNode(tau=2.0, decay_input=False, v_threshold=1.0, v_reset=0.0, surrogate_function=triangle)


class Block(nn.Module):
    def __init__(self, before: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = layer.Conv2d(before, channels, 3, stride, 1, bias=False)
        self.bn1 = layer.BatchNorm2d(channels)
        self.lif1 = lif()
        self.conv2 = layer.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = layer.BatchNorm2d(channels)
        self.lif2 = lif()
        same = stride == 1 and before == channels
        self.shortcut = (
            None
            if same
            else nn.Sequential(layer.Conv2d(before, channels, 1, stride, bias=False), layer.BatchNorm2d(channels))
        )


BLOCKS = ((1, 1), (1, 1), (2, 2), (2, 1), (4, 2), (4, 1), (8, 2), (8, 1))
"""The blocks of ResNet-18: channels as a multiple of the stem's, and stride."""


class Peer(nn.Module):
    """ResNet-18 with `BLOCKS`, CIFAR stem, `backward` as (source, target) pairs of port numbers."""

    def __init__(
        self,
        steps: int,
        backward: tuple[tuple[int, int], ...],
        width: int = 64,
        classes: int = 10,
        blocks: tuple[tuple[int, int], ...] = BLOCKS,
    ) -> None:
        super().__init__()
        self.steps = steps
        self.conv1 = layer.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = layer.BatchNorm2d(width)
        self.lif1 = lif()
        widths = [width * multiple for multiple, _ in blocks]
        strides = [stride for _, stride in blocks]
        self.blocks = nn.ModuleList(
            Block(before, after, stride)
            for before, after, stride in zip([width, *widths], widths, strides, strict=False)
        )
        self.fc = layer.Linear(widths[-1], classes)
        ports = [width, *(w for w in widths for _ in (0, 1))]
        self.backward_connections = backward
        self.projections = nn.ModuleList(
            nn.Sequential(layer.Conv2d(ports[j], ports[i], 1, bias=False), layer.BatchNorm2d(ports[i]))
            for j, i in backward
        )
        functional.set_step_mode(self, "s")

    def forward(self, x: Tensor) -> Tensor:
        functional.reset_net(self)
        outputs = []
        spikes: list[Tensor] = []
        for _ in range(self.steps):
            before, spikes = spikes, []
            y = self.fire(self.lif1, self.bn1(self.conv1(x)), spikes, before)
            for block in self.blocks:
                z = self.fire(block.lif1, block.bn1(block.conv1(y)), spikes, before)
                z = block.bn2(block.conv2(z)) + (y if block.shortcut is None else block.shortcut(y))
                y = self.fire(block.lif2, z, spikes, before)
            outputs.append(self.fc(nn.functional.adaptive_avg_pool2d(y, 1).flatten(1)))
        return torch.stack(outputs)

    def fire(self, node: nn.Module, current: Tensor, spikes: list[Tensor], before: list[Tensor]) -> Tensor:
        port = len(spikes)
        if before:
            for (source, target), project in zip(self.backward_connections, self.projections, strict=True):
                if target == port:
                    late = nn.functional.interpolate(before[source], size=current.shape[-2:], mode="nearest")
                    current = current + project(late)
        spikes.append(node(current))
        return spikes[-1]


class MultiStepPeer(Peer):
    """The same without feedback in multi-step mode, where each layer runs all steps at once.

    `backend` is that of its neurons: `torch`, `cupy` or `triton`.
    """

    def __init__(self, steps: int, backend: str = "torch", **shape: Any) -> None:
        super().__init__(steps, (), **shape)
        functional.set_step_mode(self, "m")
        for node in self.modules():
            if isinstance(node, neuron.LIFNode):
                node.backend = backend

    def forward(self, x: Tensor) -> Tensor:
        functional.reset_net(self)
        y = self.lif1(self.bn1(self.conv1(x.expand(self.steps, *x.shape))))
        for block in self.blocks:
            z = block.lif1(block.bn1(block.conv1(y)))
            z = block.bn2(block.conv2(z)) + (y if block.shortcut is None else block.shortcut(y))
            y = block.lif2(z)
        return self.fc(y.mean((-2, -1)))
