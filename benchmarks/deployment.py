"""Exported ResNet-18 in onnxruntime against torch eager, in float32 and in int8, and what a file weighs by T."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp

import torch

import bcgraph
from bcgraph import runtime
from bcgraph.schema import NetworkSpec
from benchmarks.harness import Row, pair
from benchmarks.networks import images, resnet18, settle

BATCH = 32
STEPS = (1, 2, 4, 8, 16)


def weights(spec: NetworkSpec, x: torch.Tensor) -> dict[str, torch.Tensor]:
    model = bcgraph.compile(spec)
    settle(model, x)
    return dict(model.state_dict())


def contender(name: str) -> Callable[[], object]:
    """A pass over all steps: torch eager (`torch`), or an exported file in onnxruntime, in the form named first."""
    torch.set_grad_enabled(False)
    spec, x = resnet18(), images(BATCH)
    state = weights(spec, x)
    if name == "torch":
        model = bcgraph.compile(spec, inference=True)
        model.load_state_dict(state)
        last = x.to(memory_format=torch.channels_last)
        return lambda: model(last)
    form, _, precision = name.partition(" ")
    path = Path(mkdtemp()) / "net.onnx"
    bcgraph.export(spec, path, state_dict=state, form=form, inputs=x[:2])
    if precision:
        from bcgraph.compiler.targets import onnx_int8

        onnx_int8.quantize(path, path.with_name("int8.onnx"), x[:8].numpy())
        path = path.with_name("int8.onnx")
    network = runtime.Network(path, threads=torch.get_num_threads())
    values = x.numpy()
    return lambda: network(values)


def sizes() -> list[tuple[int, dict[str, int]]]:
    """Bytes of the file by T and form, with the weights that all of them hold under `weights`."""
    folder = Path(mkdtemp())
    found = []
    for steps in STEPS:
        spec = resnet18(steps)
        made = {f: bcgraph.export(spec, folder / f"{f}.onnx", form=f, inputs=images(1)).size for f in FORMS}
        found.append((steps, made))
    return found


FORMS = ("unrolled", "step", "scan")


def run() -> list[Row]:
    rows = []
    for name, goal in (
        ("unrolled", "<= 1.00"),
        ("step", "<= 1.00"),
        ("scan", ""),
        ("unrolled int8", ""),
        ("step int8", ""),
    ):
        mine, theirs = pair("deployment", name, "torch")
        rows.append(Row(f"{name} / torch", f"{mine:.3f} s", f"{theirs:.3f} s", f"{mine / theirs:.2f}", goal))
    return rows
