"""The networks that benchmarks measure, with statistics under which they fire."""

from __future__ import annotations

import torch
from torch import Tensor

import bcgraph
from bcgraph.schema import NetworkSpec

BACKWARD = ((16, 0), (8, 2))


def resnet18(steps: int = 4, backward: tuple[tuple[int, int], ...] = BACKWARD) -> NetworkSpec:
    text = f"""bcg 1
    network resnet18 {{
      input = image(3, 32, 32)
      steps = {steps}
      backbone = resnet18(width=64, classes=10)
    }}"""
    return bcgraph.parse(text).with_backward(backward)


def images(samples: int) -> Tensor:
    return torch.randn((samples, 3, 32, 32), generator=torch.Generator().manual_seed(0))


def settle(module: torch.nn.Module, x: Tensor) -> None:
    """Let batch norms take the statistics of `x`, so that the network fires in eval mode as a trained one does."""
    module.train()
    for norm in module.modules():
        if isinstance(norm, torch.nn.modules.batchnorm._BatchNorm):
            norm.momentum = 0.5
    with torch.no_grad():
        for _ in range(3):
            module(x)
    module.eval()
