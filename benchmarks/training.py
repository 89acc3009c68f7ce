"""One training step of ResNet-18 with two backward connections, time and peak memory, against the peer."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import torch
from torch import Tensor, nn

import bcgraph
from benchmarks.harness import Row, highest, pair
from benchmarks.networks import images, resnet18

BATCH = 32


def stepper(model: nn.Module, x: Tensor) -> Callable[[], None]:
    """Forward, mean cross-entropy over time, backward, update."""
    y = torch.arange(len(x), device=x.device) % 10
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        outputs = model(x)
        nn.functional.cross_entropy(outputs.flatten(0, 1), y.repeat(len(outputs))).backward()
        optimizer.step()

    return run


def build(name: str) -> nn.Module:
    spec = resnet18()
    if name == "SpikingJelly":
        from benchmarks.peer import Peer

        return Peer(spec.steps, tuple((bc.source, bc.target) for bc in spec.backward))
    return bcgraph.compile(spec, name)


def peak(name: str) -> float:
    """Megabytes that one training step needs above the idle model, measured in a process of its own."""
    code = "import sys; from benchmarks.training import measure; measure(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, name], capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def measure(name: str) -> None:
    """Print the growth of this process's largest resident size over one step, in megabytes."""
    model, x = build(name), images(BATCH)
    # A first, small step: code and the optimizer's and kernels' own memory do not count.
    stepper(model, x[:2])()
    before = highest()
    stepper(model, x)()
    print(json.dumps((highest() - before) / 1024))


def contender(name: str) -> Callable[[], object]:
    return stepper(build(name), images(BATCH))


def run() -> list[Row]:
    rows = []
    theirs = peak("SpikingJelly")
    for name in ("unrolled", "folded"):
        mine, peer = pair("training", name, "SpikingJelly")
        rows.append(Row(f"{name}, time", f"{mine:.2f} s", f"{peer:.2f} s", f"{mine / peer:.2f}", "<= 0.67"))
        size = peak(name)
        rows.append(Row(f"{name}, memory", f"{size:.0f} MB", f"{theirs:.0f} MB", f"{size / theirs:.2f}", "<= 0.40"))
    return rows
