"""`python -m benchmarks.page [NAME...]`: measure compiler and search, write docs/performance.md and its plot.

With names, only those sections are measured anew and the others stay as they are. Run it on an idle machine; the whole
page takes some minutes. docs/performance.notes.md explains the figures.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import torch
from matplotlib import pyplot as plt

import bcgraph
from bcgraph import files
from bcgraph.compiler.analysis.memory import kept
from bcgraph.compiler.analysis.precision import divergence
from benchmarks import (
    compiling,
    inference,
    many_connections,
    memory,
    operators,
    recurrent,
    scaling,
    scoring,
    start,
    supernet,
    training,
)
from benchmarks.harness import Row, machine
from benchmarks.networks import images, resnet18, settle
from benchmarks.scaling import Point

DOCS = Path(__file__).resolve().parent.parent / "docs"

INTRO = """# Performance

This page compares bcgraph with SpikingJelly, with plain PyTorch, and with the raw operations of its own networks, on a
CPU. [What limits the speed](performance.notes.md) explains the figures, and [gpu.md](gpu.md) has those of a GPU.

The network is ResNet-18 of width 64 on 3x32x32 images, T = 4, batch 32, with the backward connections 16 -> 0 and
8 -> 2, unless a section says otherwise. SpikingJelly stands for a network of the same shape built of its layers in
single-step mode, with its connections wired by hand. *Raw operations* are the convolutions and linear layers of our own
network alone, on the same operands.

Each ratio is one of two medians, measured in turns with two threads on an otherwise idle machine. Compare ratios, not
times; some ratios depend on the processor, which each section names. `python -m benchmarks.page` makes this page.
"""

MEMORY = """Megabytes that autograd holds for the backward pass, by step and by operation, each storage once.
`lif` keeps the membrane before the reset, `BatchNorm` its input, `Conv` its input spikes, as bits.

"""

PRECISION = """Shares that differ from float32, in eval mode, with batch norms settled on the inputs and untrained
weights. This is the worst case: a membrane within rounding of the threshold flips, and the flip grows from port to
port.

"""


def main(names: list[str]) -> None:
    unknown = [name for name in names if name not in SECTIONS]
    if unknown:
        sys.exit(f"unknown: {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    found = {name: f"Measured on {machine()}.\n\n{SECTIONS[name][1]()}" for name in names or SECTIONS}
    page = DOCS / "performance.md"
    before = {part.partition("\n")[0]: part for part in page.read_text().split("\n## ")} if page.exists() else {}
    parts = [INTRO]
    for name, (title, _) in SECTIONS.items():
        if name in found:
            parts.append(f"{title}\n\n{found[name]}")
        elif title in before:
            parts.append(before[title])
    measured = "\n\n## ".join(part.strip("\n") for part in parts)
    files.write_text(page, f"{measured}\n")


def growth() -> str:
    points = scaling.points()
    plot(points, DOCS / "performance.svg")
    picture = "![seconds of a forward pass by steps, connections and distance](performance.svg)"
    return f"{picture}\n\n{markdown(scaling.rows(points))}"


def kept_by_step() -> str:
    spec = resnet18()
    found = kept(bcgraph.compile(spec), images(training.BATCH))
    kinds = sorted({kind for _, kind in found}, key=lambda k: -sum(v for (_, kind), v in found.items() if kind == k))
    steps = [None, *range(spec.steps)]
    lines = ["| step | " + " | ".join(f"`{k}`" for k in kinds) + " |", "|---|" + "--:|" * len(kinds)]
    for step in steps:
        cells = " | ".join(f"{found.get((step, k), 0) / 2**20:.1f}" for k in kinds)
        lines.append(f"| {'all' if step is None else step} | {cells} |")
    return MEMORY + "\n".join(lines)


def precision() -> str:
    spec, x = resnet18(), images(training.BATCH)
    settled = bcgraph.compile(spec)
    settle(settled, x)
    found = divergence(spec, x, torch.bfloat16, state_dict=settled.state_dict())
    lines = ["| port | differing spikes |", "|---|--:|"]
    lines += [f"| @{port} | {share:.2%} |" for port, share in enumerate(found.ports)]
    lines += [f"| all | {found.spikes:.2%} |", f"| predictions | {found.predictions:.2%} |"]
    return PRECISION + "\n".join(lines)


def markdown(rows: list[Row]) -> str:
    lines = ["| what | bcgraph | against | ratio | goal |", "|---|--:|--:|--:|--:|"]
    lines += [f"| {r.what} | {r.ours} | {r.against} | {r.ratio} | {r.goal} |" for r in rows]
    return "\n".join(lines)


def plot(points: list[Point], path: Path) -> None:
    axes = ("steps", "connections", "distance")
    figure, frames = plt.subplots(1, len(axes), figsize=(10, 3), sharex=False)
    for frame, axis in zip(frames, axes, strict=True):
        chosen = [p for p in points if p.axis == axis]
        frame.plot([p.value for p in chosen], [p.ours for p in chosen], "o-", label="bcgraph, folded")
        frame.plot([p.value for p in chosen], [p.peer for p in chosen], "s--", label="SpikingJelly")
        frame.set_xlabel({"steps": "steps T", "connections": "connections", "distance": "source port of d -> 0"}[axis])
        frame.set_ylim(bottom=0)
    frames[0].set_ylabel("seconds")
    frames[0].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


SECTIONS: dict[str, tuple[str, Callable[[], str]]] = {
    "inference": ("Inference", lambda: markdown(inference.run())),
    "training": ("One training step", lambda: markdown(training.run())),
    "many_connections": (
        "All 153 backward connections, T = 4, batch 4",
        lambda: markdown(many_connections.run()),
    ),
    "recurrent": (
        "Small nets with feedback, batch 64, one thread: 700-128-128-20, T = 100, and `tiny`, T = 4",
        lambda: markdown(recurrent.run()),
    ),
    "memory": ("Memory of a forward pass, unrolled", lambda: markdown(memory.run())),
    "compiling": ("Compiling", lambda: markdown(compiling.run())),
    "start": ("`bcgraph check` against `import torch`", lambda: markdown(start.run())),
    "scoring": ("Scoring a candidate, batch 64", lambda: markdown(scoring.run())),
    "supernet": ("Accuracies on a supernet", lambda: markdown(supernet.run())),
    "operators": ("Search operators", lambda: markdown(operators.run())),
    "kept": ("What a training step keeps", kept_by_step),
    "precision": ("What bfloat16 changes", precision),
    "growth": ("How the cost grows", growth),
}


if __name__ == "__main__":
    main(sys.argv[1:])
