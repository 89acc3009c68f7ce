"""The form `scan`: one Scan node, whose size does not grow with the steps, over any number of frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import bcgraph
from bcgraph import runtime
from bcgraph.errors import RunError
from tests.targets.test_onnx import agreeing, inputs, lively, network, opened, run

CONNECTIONS = [(4, 0, 2), (2, 1), (3, 3, 3)]


def nodes(model: onnx.ModelProto) -> int:
    body = [a.g for n in model.graph.node for a in n.attribute if a.name == "body"]
    return len(model.graph.node) + sum(len(g.node) for g in body)


@pytest.mark.parametrize("sequence", [False, True], ids=["image", "sequence"])
def test_file_and_graph_do_not_grow_with_the_steps(sequence: bool, tmp_path: Path) -> None:
    sizes: dict[str, list[int]] = {"unrolled": [], "step": [], "scan": []}
    counts = []
    for steps in (2, 4, 9):
        spec = network("tiny(width=4)", sequence=sequence, steps=steps).with_backward([(4, 0)])
        for form, found in sizes.items():
            path = tmp_path / f"{form}{steps}.onnx"
            found.append(bcgraph.export(spec, path, form=form).size)
        counts.append(nodes(onnx.load(tmp_path / f"scan{steps}.onnx")))
    assert len(set(counts)) == 1
    # What differs is the fingerprint and the digits of `steps`, none of which changes in length here.
    assert len(set(sizes["scan"])) == 1
    assert sizes["unrolled"][0] < sizes["unrolled"][1] < sizes["unrolled"][2]
    assert sizes["unrolled"][2] > 1.5 * sizes["scan"][2]


def test_one_scan_holds_the_neurons_as_functions(tmp_path: Path) -> None:
    spec = network("tiny(width=4)").with_backward([(4, 0)])
    bcgraph.export(spec, tmp_path / "net.onnx", form="scan")
    model = onnx.load(tmp_path / "net.onnx")
    (scan,) = [n for n in model.graph.node if n.op_type == "Scan"]
    (body,) = [a.g for a in scan.attribute if a.name == "body"]
    assert [n.name for n in body.node if n.op_type == "Lif"] == list(spec.ports)
    assert [o.name for o in model.graph.output] == ["O"]
    # An image is convolved once, before the scan: it is the same at every step.
    assert [n.op_type for n in model.graph.node if n.name == "bn1"] == ["Conv"]
    # onnxruntime changes the layout of a convolution where its weights lie in the same graph.
    inside, outside = ({i.name for i in graph.initializer} for graph in (body, model.graph))
    assert {n.input[1] for n in body.node if n.op_type == "Conv"} <= inside
    assert not inside & outside


def test_convolutions_of_a_scan_have_the_layout_of_the_other_forms(tmp_path: Path) -> None:
    """Then a scan gives the numbers of the unrolled form to the last digit; in another layout it does not."""
    spec = network("tiny(width=16)").with_backward([(4, 4), (2, 1)])
    state, x = lively(spec), inputs(spec)
    found = []
    for form in ("unrolled", "scan"):
        bcgraph.export(spec, tmp_path / f"{form}.onnx", state_dict=state, form=form, inputs=x)
        found.append(runtime.Network(tmp_path / f"{form}.onnx", threads=1)(x.numpy()))
    assert np.array_equal(*found)


def test_a_sequence_may_have_any_length(tmp_path: Path) -> None:
    spec = network("tiny(width=4)", sequence=True, steps=3).with_backward(CONNECTIONS)
    state = lively(spec)
    path = tmp_path / "net.onnx"
    bcgraph.export(spec, path, state_dict=state, form="scan", inputs=inputs(spec))
    for steps in (1, 2, 8):
        other = network("tiny(width=4)", sequence=True, steps=steps).with_backward(CONNECTIONS)
        model = bcgraph.compile(other).eval()
        model.load_state_dict(state)
        x = inputs(other)
        with torch.no_grad():
            expected = model(x).numpy()
        (got,) = run(path, x.numpy())
        assert got.shape == (steps, 16, 10)
        assert agreeing(got, expected) >= 0.95
        assert np.array_equal(runtime.Network(path)(x.numpy()), got)
    with pytest.raises(RunError, match=r"takes \[T, N, 2, 8, 8\]"):
        runtime.Network(path)(np.zeros((3, 2, 8, 8), np.float32))


def test_the_steps_of_an_image_can_be_overridden(tmp_path: Path) -> None:
    spec = network("tiny(width=4)", steps=3).with_backward(CONNECTIONS)
    state, x = lively(spec), inputs(spec)
    path = tmp_path / "net.onnx"
    bcgraph.export(spec, path, state_dict=state, form="scan", inputs=x)
    session = opened(path)
    assert [i.name for i in session.get_inputs()] == ["x"]
    model = bcgraph.compile(network("tiny(width=4)", steps=7).with_backward(CONNECTIONS)).eval()
    model.load_state_dict(state)
    with torch.no_grad():
        expected = model(x).numpy()
    feed = {"x": x.numpy(), "steps": np.array(7, dtype=np.int64)}
    assert agreeing(session.run(None, feed)[0], expected) >= 0.95
    assert np.array_equal(session.run(None, {"x": x.numpy()})[0], session.run(None, feed)[0][:3])
