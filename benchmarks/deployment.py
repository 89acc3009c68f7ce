"""Exported ResNet-18 in onnxruntime against torch eager, int8 against float32, and what files weigh by T.

`python -m benchmarks.deployment [speed] [sizes] [int8]` measures these parts, or all, and writes them into
docs/deployment.md, each between its marks.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp

import torch

import bcgraph
from bcgraph import runtime
from benchmarks.harness import Row, machine, several
from benchmarks.networks import images, resnet18, settle

DOCS = Path(__file__).resolve().parent.parent / "docs" / "deployment.md"
BATCH = 32
FORMS = ("unrolled", "step", "scan")
STEPS = (1, 2, 4, 8, 16)
GOALS = {"unrolled": "<= 1.00", "step": "<= 1.00", "scan": "<= 1.30", "unrolled int8": "", "step int8": ""}
TORCH = ("torch, fused", "torch")

DIGITS = """bcg 1

network digits {
  input    = image(1, 8, 8)
  steps    = 4
  backbone = tiny(width=16, classes=10)

  backward @4 -> @4
  backward @2 -> @1
}

data  = digits(batch=64)
train { epochs = 12 }
"""


def contender(name: str) -> Callable[[], object]:
    """A pass over all steps: of `torch`, of `torch, fused`, or of an exported file by its form and precision."""
    torch.set_grad_enabled(False)
    spec, x = resnet18(), images(BATCH)
    trained = bcgraph.compile(spec)
    settle(trained, x)
    if name in TORCH:
        model = bcgraph.compile(spec, inference=name == "torch, fused").eval()
        model.load_state_dict(trained.state_dict())
        last = x.to(memory_format=torch.channels_last)
        return lambda: model(last)
    form, _, precision = name.partition(" ")
    path = Path(mkdtemp()) / "net.onnx"
    bcgraph.export(spec, path, state_dict=trained.state_dict(), form=form, inputs=x[:1])
    if precision:
        from bcgraph.compiler.targets.onnx import int8

        int8.quantize(path, path.with_name("int8.onnx"), x[:8].numpy())
        path = path.with_name("int8.onnx")
    network = runtime.Network(path, threads=torch.get_num_threads())
    values = x.numpy()
    return lambda: network(values)


def run() -> list[Row]:
    rows = []
    for name, goal in GOALS.items():
        mine, *others = several("deployment", name, *TORCH)
        for other, theirs in zip(TORCH, others, strict=True):
            rows.append(Row(f"{name} / {other}", f"{mine:.3f} s", f"{theirs:.3f} s", f"{mine / theirs:.2f}", goal))
    return rows


def speed() -> str:
    """The table of `run`."""
    threads = torch.get_num_threads()
    clock = "processor time of one thread" if threads == 1 else f"{threads} threads"
    lines = [
        f"Measured on {machine()}, {clock}: ResNet-18 of width 64, 3x32x32, T = 4, batch 32, two backward connections;"
    ]
    lines += [
        "all sides in turns, each in a process of its own. `torch` is what `bcgraph.compile(spec)` gives in eval mode,"
    ]
    lines += ["`torch, fused` that with `inference=True`.", ""]
    lines += ["| what | onnxruntime | torch | ratio | goal |", "|---|--:|--:|--:|--:|"]
    lines += [f"| {r.what} | {r.ours} | {r.against} | {r.ratio} | {r.goal} |" for r in run()]
    return "\n".join(lines)


def sizes() -> str:
    """Bytes of the same network's file, and nodes of its graph, by T and form."""
    import onnx

    path = Path(mkdtemp()) / "net.onnx"
    lines = ["Bytes of the file, and nodes in it, of the same network:", ""]
    lines += ["| T | " + " | ".join(FORMS) + " |", "|--:|" + "--:|" * len(FORMS)]
    for steps in STEPS:
        cells = []
        for form in FORMS:
            size = bcgraph.export(resnet18(steps), path, form=form, inputs=images(1)).size
            cells.append(f"{size:,} ({_nodes(onnx.load(path).graph)})")
        lines.append(f"| {steps} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _nodes(graph: object) -> int:
    inner = [a.g for n in graph.node for a in n.attribute if a.HasField("g")]  # type: ignore[attr-defined]
    return len(graph.node) + sum(map(_nodes, inner))  # type: ignore[attr-defined]


def int8() -> str:
    """What `bcgraph compile --int8` finds for a network trained on the digits, but for its times: see `run`."""
    from bcgraph import training, weights
    from bcgraph.compiler.targets.onnx import int8_comparison as eight

    folder = Path(mkdtemp())
    spec = bcgraph.parse(DIGITS)
    state = weights.load(training.train(spec, out=folder / "run").path, spec=spec)
    lines = ["| form | file | accuracy | predictions differ | spikes differ | bytes |", "|---|---|--:|--:|--:|--:|"]
    for form in ("unrolled", "step"):
        bcgraph.export(spec, folder / "float32.onnx", state_dict=state, form=form)
        found = eight.quantize(spec, folder / "float32.onnx", folder / "int8.onnx", inside=False)
        differ = (" | ", f"{found.predictions:.2%} | {found.spikes:.2%}")
        lines += [
            f"| {form} | {r.file} | {r.accuracy:.4f} | {d} | {r.size:,} |"
            for r, d in zip(found.rows, differ, strict=True)
        ]
    return "\n".join(lines)


PARTS = {"speed": speed, "sizes": sizes, "int8": int8}


def main(names: list[str]) -> None:
    for name in names or PARTS:
        text = PARTS[name]()
        print(text)
        mark = f"<!-- {name}, made by `python -m benchmarks.deployment {name}` -->\n"
        before, found, rest = DOCS.read_text().partition(mark)
        _, end, behind = rest.partition("<!-- end -->")
        assert found, f"{DOCS} has no place for {name}"
        assert end, f"{DOCS} does not say where {name} ends"
        DOCS.write_text(f"{before}{mark}\n{text}\n\n{end}{behind}")


if __name__ == "__main__":
    main(sys.argv[1:])
