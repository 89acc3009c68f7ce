"""Memory of a forward pass of the unrolled network, by the number of steps: it must not grow beyond the outputs."""

from __future__ import annotations

import json
import subprocess
import sys

import torch

import bcgraph
from bcgraph.compiler.analysis.memory import peak
from benchmarks.harness import Row, highest
from benchmarks.networks import images, resnet18

BATCH = 32
STEPS = (1, 2, 3, 4, 8, 16)
# The fewest steps with one between the first and the last, which reads and is read by others.
BASE = 3


def living(steps: int) -> int:
    """The most bytes of tensors that are alive at once, parameters and input aside."""
    module = bcgraph.compile(resnet18(steps), inference=True)
    return peak(module, images(BATCH).to(memory_format=torch.channels_last))


def resident(steps: int) -> float:
    """Megabytes by which a process of its own grows in a forward pass of the whole batch."""
    code = "import sys; from benchmarks.memory import measure; measure(int(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, str(steps)], capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


@torch.no_grad()
def measure(steps: int) -> None:
    """Print the growth of this process's largest resident size, in megabytes."""
    module = bcgraph.compile(resnet18(steps), inference=True)
    x = images(BATCH).to(memory_format=torch.channels_last)
    # Code and the kernels' own memory do not count.
    module(x[:1])
    before = highest()
    module(x)
    print(json.dumps((highest() - before) / 1024))


def run() -> list[Row]:
    """Against three steps: with fewer, none has both a step before it and one behind."""
    alive = {steps: living(steps) for steps in STEPS}
    grown = {steps: resident(steps) for steps in STEPS}
    rows = []
    for steps in STEPS:
        goal = "" if steps <= BASE else f"<= {(alive[BASE] + _outputs(steps) - _outputs(BASE)) / alive[BASE]:.4f}"
        figures = (
            f"{alive[steps] / 2**20:.1f} MB",
            f"{alive[BASE] / 2**20:.1f} MB",
            f"{alive[steps] / alive[BASE]:.4f}",
        )
        rows.append(Row(f"T = {steps}, tensors alive", *figures, goal))
    for steps in STEPS:
        figures = (f"{grown[steps]:.0f} MB", f"{grown[BASE]:.0f} MB", f"{grown[steps] / grown[BASE]:.2f}")
        rows.append(Row(f"T = {steps}, resident", *figures, ""))
    return rows


def _outputs(steps: int) -> int:
    """Bytes of O `[T, N, classes]`, which are there as parts and, at the end, together."""
    return 2 * steps * BATCH * 10 * 4
