"""What `compile` costs on top of drawing the initial weights."""

from __future__ import annotations

import re
from pathlib import Path

import bcgraph
from bcgraph.compiler import lower
from bcgraph.compiler.targets.fx.module import parameters
from benchmarks.harness import Row, best_of_each

STEPS = 6


def run() -> list[Row]:
    text = Path("specs/resnet18_cifar10.bcg").read_text()
    spec = bcgraph.parse(re.sub(r"steps( *)= 4", rf"steps\1= {STEPS}", text))
    assert spec.steps == STEPS
    whole, weights = best_of_each(lambda: bcgraph.compile(spec), lambda: parameters(lower(spec), 0), repeats=3)
    beyond = f"{whole - weights:.2f} s"
    return [Row(f"ResNet-18, T = {STEPS}, unrolled", beyond, f"{weights:.2f} s (weights)", "", "<= 0.5 s")]
