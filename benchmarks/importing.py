"""`python -m benchmarks.importing PAGE`: import networks of four packages as they stand, and fill the page's table.

It takes some minutes. `pip install timm snntorch spikingjelly` brings the packages; rows of one that is missing stay.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import bcgraph
from bcgraph import files

_TABLE = re.compile(r"<!-- networks that were tried -->\n.*?<!-- end -->\n", re.DOTALL)

TORCHVISION = {
    "alexnet": 224,
    "convnext_tiny": 64,
    "densenet121": 64,
    "efficientnet_b0": 64,
    "googlenet": 64,
    "inception_v3": 96,
    "mnasnet1_0": 64,
    "mobilenet_v2": 64,
    "mobilenet_v3_small": 64,
    "regnet_y_400mf": 64,
    "resnet18": 64,
    "resnet50": 64,
    "resnext50_32x4d": 64,
    "shufflenet_v2_x1_0": 64,
    "squeezenet1_1": 64,
    "swin_t": 64,
    "vgg11_bn": 224,
    "vit_b_16": 224,
}
TIMM = {
    "convnext_atto": 64,
    "dla34": 64,
    "efficientnet_lite0": 64,
    "ghostnet_050": 64,
    "mixer_s16_224": 224,
    "mobilenetv3_small_050": 64,
    "regnetx_002": 64,
    "repvgg_a0": 64,
    "resnet26d": 64,
    "resnext26ts": 64,
    "tf_efficientnet_lite0": 64,
    "vit_tiny_patch16_224": 224,
}


@dataclass(frozen=True, slots=True)
class Tried:
    """One network: where it comes from, what makes it, and an example."""

    package: str
    name: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    largest: float = 1.0


def tried() -> Iterator[Tried]:
    """All networks of the packages that are installed."""
    for name, size in TORCHVISION.items():
        yield Tried("torchvision", name, lambda name=name: _torchvision(name), (1, 3, size, size))
    if find_spec("timm"):
        for name, size in TIMM.items():
            yield Tried("timm", name, lambda name=name: _timm(name), (1, 3, size, size))
    if find_spec("spikingjelly"):
        yield from _spikingjelly()
    if find_spec("snntorch"):
        yield Tried("snnTorch", "tutorial 5: fully connected, a loop over steps", _tutorial_5, (1, 784))
        yield Tried("snnTorch", "tutorial 6: convolutional, one step", _tutorial_6, (1, 1, 28, 28), 3.0)


def _torchvision(name: str) -> nn.Module:
    from torchvision import models

    more = {"init_weights": False, "aux_logits": False} if name in ("googlenet", "inception_v3") else {}
    made: nn.Module = getattr(models, name)(num_classes=10, **more)
    return made


def _timm(name: str) -> nn.Module:
    import timm

    made: nn.Module = timm.create_model(name, num_classes=10)
    return made


def _spikingjelly() -> Iterator[Tried]:
    from spikingjelly.activation_based import neuron
    from spikingjelly.activation_based.model import (
        ms_resnet,
        parametric_lif_net,
        sew_resnet,
        spikformer,
        spiking_resnet,
        spiking_vgg,
    )

    small = (1, 3, 64, 64)
    lif, plif = {"spiking_neuron": neuron.LIFNode}, {"spiking_neuron": neuron.ParametricLIFNode}
    rows: list[tuple[str, Callable[..., Any], dict[str, Any], tuple[int, ...]]] = [
        ("spiking_resnet18, IF", spiking_resnet.spiking_resnet18, {"spiking_neuron": neuron.IFNode}, small),
        ("sew_resnet18 (ADD), LIF", sew_resnet.sew_resnet18, {**lif, "cnf": "ADD"}, small),
        ("sew_resnet18 (AND), LIF", sew_resnet.sew_resnet18, {**lif, "cnf": "AND"}, small),
        ("sew_resnet34 (IAND), LIF", sew_resnet.sew_resnet34, {**lif, "cnf": "IAND"}, small),
        ("spiking_vgg11_bn, parametric LIF", spiking_vgg.spiking_vgg11_bn, plif, (1, 3, 224, 224)),
    ]
    for name, make, settings, shape in rows:
        yield Tried(
            "SpikingJelly", name, lambda make=make, settings=settings: make(num_classes=10, **settings), shape, 2.0
        )
    net = parametric_lif_net.CIFAR10Net
    yield Tried("SpikingJelly", "CIFAR10Net", lambda: net(spiking_neuron=neuron.LIFNode), (1, 3, 32, 32), 2.0)
    yield Tried("SpikingJelly", "ms_resnet18", lambda: ms_resnet.ms_resnet18(num_classes=10), small, 2.0)
    yield Tried("SpikingJelly", "spikformer_ti", lambda: spikformer.spikformer_ti(num_classes=10), (1, 3, 224, 224))


def _tutorial_5() -> nn.Module:
    import snntorch as snn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.lif1 = nn.Linear(784, 1000), snn.Leaky(beta=0.95)
            self.fc2, self.lif2 = nn.Linear(1000, 10), snn.Leaky(beta=0.95)

        def forward(self, x: Tensor) -> Tensor:
            mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
            record = []
            for _ in range(25):
                spk1, mem1 = self.lif1(self.fc1(x), mem1)
                spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
                record.append(spk2)
            return torch.stack(record, dim=0)

    return Net()


def _tutorial_6() -> nn.Module:
    import snntorch as snn

    return nn.Sequential(
        nn.Conv2d(1, 12, 5), nn.MaxPool2d(2), snn.Leaky(beta=0.5, init_hidden=True),
        nn.Conv2d(12, 64, 5), nn.MaxPool2d(2), snn.Leaky(beta=0.5, init_hidden=True), nn.Flatten(),
        nn.Linear(64 * 4 * 4, 10), snn.Leaky(beta=0.5, init_hidden=True, output=True),
    )  # fmt: skip


def row(each: Tried) -> str:
    """The line of a network: ports and difference, or the first reason of its refusal."""
    torch.manual_seed(0)
    module = each.make()
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.uniform_(-0.1, 0.1)
            norm.running_var.uniform_(0.8, 1.2)
    try:
        found = bcgraph.from_torch(module, torch.rand(each.shape) * each.largest, name="net")
    except bcgraph.BcgraphError as error:
        first, more = error.diagnostics[0], len(error.diagnostics) - 1
        rest = f", and {more} more" if more else ""
        return f"| {each.package} | {each.name} | refused | {first.code}: {first.message}{rest} |"
    return f"| {each.package} | {each.name} | {len(found.spec.ports)} ports | {found.error:.1g} |"


def main(page: Path) -> None:
    lines = ["| package | network | imported | difference, or the reason |", "|---|---|--:|---|"]
    for each in tried():
        lines.append(row(each))
        print(lines[-1], flush=True)
    table = "\n".join(["<!-- networks that were tried -->", *lines, "<!-- end -->", ""])
    text = page.read_text(encoding="utf-8")
    files.write_bytes(page, _TABLE.sub(lambda _: table, text).encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
