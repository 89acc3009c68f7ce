"""A network as a user writes one: branches, reuse of activations, functional calls, a gate, a row of equal blocks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvUnit(nn.Module):
    def __init__(self, c_in: int, c_out: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))


class Gate(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, channels: int, less: int) -> None:
        super().__init__()
        self.down = nn.Linear(channels, less)
        self.up = nn.Linear(less, channels)

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.mean(dim=(2, 3))
        weights = torch.sigmoid(self.up(torch.tanh(self.down(pooled))))
        return x * weights[:, :, None, None]


class Asymmetric(nn.Module):
    """A wide and a high kernel in place of a square one."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.wide = nn.Conv2d(channels, channels, (1, 5), padding=(0, 2))
        self.high = nn.Conv2d(channels, channels, (5, 1), padding=(2, 0))

    def forward(self, x: Tensor) -> Tensor:
        return self.high(self.wide(x))


class Residual(nn.Module):
    def __init__(self, c_in: int, c_out: int, stride: int = 1) -> None:
        super().__init__()
        self.one = ConvUnit(c_in, c_out, stride=stride)
        self.two = nn.Conv2d(c_out, c_out, 3, padding=1, groups=2)
        self.act = nn.LeakyReLU(0.1, inplace=True)
        self.skip = nn.Identity() if (c_in, stride) == (c_out, 1) else nn.Conv2d(c_in, c_out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.two(self.one(x)))
        y += self.skip(x)
        return self.act(y)


class Mixed(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.left = ConvUnit(channels, channels // 2, kernel=1)
        self.right = nn.Sequential(Asymmetric(channels), nn.GroupNorm(2, channels), nn.Hardswish())
        self.gamma = nn.Parameter(torch.full((channels, 1, 1), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, dim=1)
        return torch.cat([self.left(x), self.right(x) * self.gamma, a, 1 - b], dim=1)


class Net(nn.Module):
    def __init__(self, classes: int = 5, width: int = 8) -> None:
        super().__init__()
        self.stem = ConvUnit(3, width, 5, 2)
        self.stages = nn.ModuleList()
        for stage in range(2):
            c = width * 2**stage
            blocks = [Residual(c, c * 2, 2), *(Residual(c * 2, c * 2) for _ in range(3))]
            self.stages.append(nn.Sequential(*blocks))
        self.mixed = Mixed(4 * width)
        self.reduce = nn.Conv2d(4 * width * 5 // 2, 2 * width, 1)
        self.up = nn.ConvTranspose2d(2 * width, width, 3, 2, 1, 1)
        self.gate = Gate(width, 4)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.stem(x), 3, 2, 1)
        for stage in self.stages:
            x = stage(x)
        x = F.interpolate(self.reduce(self.mixed(x)), scale_factor=2)
        x = F.silu(self.up(x) / 2)
        x = self.gate(x)
        x = F.adaptive_avg_pool2d(x, (2, 2))
        return F.log_softmax(self.head(self.drop(torch.flatten(x, 1))), dim=1)
