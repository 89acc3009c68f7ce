"""A plain training of a small spiking network, written from the equations; it shares no code with the library.

It takes the library's first weights and the library's order of batches and nothing else; with weights and an order of
its own (`initial`, `shuffled`) it takes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Fire(torch.autograd.Function):
    """A spike above threshold 1 with the triangle of width 1 as its derivative."""

    @staticmethod
    def forward(ctx, u):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(u)
        return (u > 1).to(u)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        (u,) = ctx.saved_tensors
        return gradient * (1 - (u - 1).abs()).clamp(min=0)


def normalize(state: dict[str, Tensor], name: str, x: Tensor, training: bool) -> Tensor:
    return F.batch_norm(
        x,
        state[f"{name}.running_mean"],
        state[f"{name}.running_var"],
        state[f"{name}.weight"],
        state[f"{name}.bias"],
        training=training,
        momentum=0.1,
    )


def outputs(state: dict[str, Tensor], frames: Tensor, training: bool = True) -> Tensor:
    """The network of `tests.training.nets.plain` with the backward connection 1 -> 0, `[T, N, classes]`."""
    v1 = v2 = feedback = torch.zeros(())
    made = []
    for t, x in enumerate(frames):
        current = normalize(state, "bn1", F.conv2d(x, state["conv1.weight"], padding=1), training)
        u1 = v1 / 2 + current + feedback
        s1 = Fire.apply(u1)
        v1 = u1 * (1 - s1)
        u2 = v2 / 2 + normalize(state, "bn2", F.conv2d(s1, state["conv2.weight"], padding=1), training) + s1
        s2 = Fire.apply(u2)
        v2 = u2 * (1 - s2)
        if t + 1 < len(frames):
            projected = F.conv2d(s2, state["backward.1_0.conv.weight"])
            feedback = normalize(state, "backward.1_0.bn", projected, training)
        made.append(F.linear(s2.mean((2, 3)), state["fc.weight"], state["fc.bias"]))
    return torch.stack(made)


def train(
    state: dict[str, Tensor], batches: Iterator[tuple[Tensor, Tensor]], *, total: int, steps: int, sequence: bool
) -> dict[str, Tensor]:
    """AdamW (rate 0.01, decay 0.02) with cosine decay over `total` updates, on the cross-entropy of every step."""
    state = {name: value.detach().clone() for name, value in state.items()}
    trained = [v.requires_grad_() for n, v in state.items() if v.is_floating_point() and "running" not in n]
    moments = [(torch.zeros_like(v), torch.zeros_like(v)) for v in trained]
    for update, (x, y) in enumerate(batches):
        frames = x.double() if sequence else x.double().expand(steps, *x.shape)
        losses = [F.cross_entropy(o, y) for o in outputs(state, frames)]
        gradients = torch.autograd.grad(sum(losses) / len(losses), trained)  # type: ignore[arg-type]
        lr = 0.01 * 0.5 * (1 + math.cos(math.pi * update / total))
        with torch.no_grad():
            for value, gradient, (first, second) in zip(trained, gradients, moments, strict=True):
                value *= 1 - lr * 0.02
                first += 0.1 * (gradient - first)
                second += 0.001 * (gradient**2 - second)
                size = (second / (1 - 0.999 ** (update + 1))).sqrt() + 1e-8
                value -= lr * first / (1 - 0.9 ** (update + 1)) / size
    return state


def initial(width: int, seed: int) -> dict[str, Tensor]:
    """First weights as torch's own layers draw them."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = {
            "conv1": nn.Conv2d(1, width, 3, bias=False),
            "bn1": nn.BatchNorm2d(width),
            "conv2": nn.Conv2d(width, width, 3, bias=False),
            "bn2": nn.BatchNorm2d(width),
            "backward.1_0.conv": nn.Conv2d(width, width, 1, bias=False),
            "backward.1_0.bn": nn.BatchNorm2d(width),
            "fc": nn.Linear(width, 10),
        }
    state = {f"{name}.{key}": v for name, layer in layers.items() for key, v in layer.state_dict().items()}
    return {name: value.double() if value.is_floating_point() else value for name, value in state.items()}


def shuffled(
    x: Tensor, y: Tensor, *, sequence: bool, batch: int, epochs: int, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """All samples in random batches, epoch after epoch."""
    draw = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for chosen in torch.randperm(len(y), generator=draw).split(batch):
            yield x[:, chosen] if sequence else x[chosen], y[chosen]


@torch.no_grad()
def accuracy(state: dict[str, Tensor], x: Tensor, y: Tensor, *, steps: int, sequence: bool) -> float:
    """With running statistics; the mean output decides."""
    frames = x.double() if sequence else x.double().expand(steps, *x.shape)
    return (outputs(state, frames, training=False).mean(0).argmax(1) == y).double().mean().item()
