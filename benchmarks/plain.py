"""The backbone `tiny` with backward connections and its training, in plain PyTorch as one writes it by hand.

It shares no code with the library: its own layers, first weights, order of batches and loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Fire(torch.autograd.Function):
    """A spike above 1; backward, a triangle of width 1."""

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        ctx.save_for_backward(u)
        return (u > 1.0).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        (u,) = ctx.saved_tensors
        return gradient * (1.0 - (u - 1.0).abs()).clamp(min=0.0)


class Lif(nn.Module):
    """Half the membrane stays; a spike resets it to zero."""

    v: Tensor | float = 0.0

    def forward(self, current: Tensor) -> Tensor:
        u = 0.5 * self.v + current
        s = Fire.apply(u)
        self.v = u * (1.0 - s)
        return s


def reset(lif: Any) -> None:
    """A layer of `Lif` at the beginning of its time."""
    lif.v = 0.0


class Block(nn.Module):
    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.downsample = nn.Sequential()
        if stride != 1 or before != after:
            self.downsample = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))


class Tiny(nn.Module):
    """`tiny(width, classes)` on inputs of one channel; `backward` are pairs (source, target) with a delay of 1.

    `neuron` makes a layer of neurons with a state of its own, which `reset` sets to its beginning.
    """

    def __init__(
        self,
        backward: Sequence[tuple[int, int]],
        steps: int,
        width: int = 16,
        classes: int = 10,
        neuron: Callable[[], nn.Module] = Lif,
        reset: Callable[[nn.Module], None] = reset,
    ) -> None:
        super().__init__()
        self.reset = reset
        self.steps = steps
        self.conv1 = nn.Conv2d(1, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = nn.Sequential(Block(width, width, 1))
        self.layer2 = nn.Sequential(Block(width, 2 * width, 2))
        self.fc = nn.Linear(2 * width, classes)
        self.lifs = nn.ModuleList(neuron() for _ in range(5))
        ports = [width, width, width, 2 * width, 2 * width]
        self.pairs = list(backward)
        self.projections = nn.ModuleList(
            nn.Sequential(nn.Conv2d(ports[j], ports[i], 1, bias=False), nn.BatchNorm2d(ports[i])) for j, i in backward
        )

    def forward(self, x: Tensor, *, sequence: bool) -> Tensor:
        """`[N, 1, H, W]`, or of a sequence `[T, N, 1, H, W]`, to `[T, N, classes]`."""
        for lif in self.lifs:
            self.reset(lif)
        spikes: dict[int, Tensor] = {}
        outputs = []
        for t in range(self.steps):
            before, spikes = spikes, {}

            def fire(port: int, current: Tensor, before: dict[int, Tensor] = before, now: Any = spikes) -> Tensor:
                for (source, target), projection in zip(self.pairs, self.projections, strict=True):
                    if target == port and before:
                        size = current.shape[2:]
                        current = current + projection(F.interpolate(before[source], size, mode="nearest"))
                now[port] = self.lifs[port](current)
                return now[port]

            s = fire(0, self.bn1(self.conv1(x[t] if sequence else x)))
            for port, block in ((1, self.layer1[0]), (3, self.layer2[0])):
                inner = fire(port, block.bn1(block.conv1(s)))
                s = fire(port + 1, block.bn2(block.conv2(inner)) + block.downsample(s))
            outputs.append(self.fc(s.mean((2, 3))))
        return torch.stack(outputs)


def shuffled(count: int, size: int, draw: torch.Generator) -> Iterator[Tensor]:
    """All indices in random batches."""
    yield from torch.randperm(count, generator=draw).split(size)


def train(
    model: Tiny,
    train_set: tuple[Tensor, Tensor],
    test_set: tuple[Tensor, Tensor],
    *,
    sequence: bool,
    last: bool,
    epochs: int,
    batch: int,
    lr: float,
    weight_decay: float,
    seed: int,
) -> float:
    """The accuracy on the test set after the last epoch; it is measured after each, as the library does."""
    x, y = train_set
    draw = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay)
    updates = epochs * -(-len(y) // batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    accuracy = 0.0
    for _ in range(epochs):
        model.train()
        for chosen in shuffled(len(y), batch, draw):
            outputs = model(x[:, chosen] if sequence else x[chosen], sequence=sequence)
            labels = y[chosen]
            if last:
                loss = F.cross_entropy(outputs[-1], labels)
            else:
                loss = torch.stack([F.cross_entropy(o, labels) for o in outputs]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        model.eval()
        with torch.no_grad():
            outputs = model(test_set[0], sequence=sequence)
        predicted = (outputs[-1] if last else outputs.mean(0)).argmax(1)
        accuracy = float((predicted == test_set[1]).double().mean())
    return accuracy
