"""Normalization inside the file, and what the file says about it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

import bcgraph
from bcgraph.errors import CompileError
from bcgraph.normalization import Normalization
from tests.targets.test_onnx import agreeing, chained, inputs, lively, network, run

NORMAL = Normalization((0.4, -0.1), (0.3, 2.0), inside=True)


@pytest.mark.parametrize("sequence", [False, True], ids=["image", "sequence"])
@pytest.mark.parametrize("form", ["unrolled", "step", "scan"])
def test_the_file_takes_samples_as_they_are(form: str, sequence: bool, tmp_path: Path) -> None:
    spec = network("tiny(width=4)", sequence=sequence).with_backward([(4, 0, 2), (2, 2)])
    state, x = lively(spec), inputs(spec)
    results = []
    for normalization, given in ((None, x), (NORMAL, NORMAL.raw(x))):
        path = tmp_path / "net.onnx"
        bcgraph.export(spec, path, state_dict=state, form=form, inputs=x, normalization=normalization)
        results.append(chained(path, spec, given) if form == "step" else run(path, given.numpy())[0])
    assert agreeing(*results) >= 0.95
    assert not np.allclose(results[0], results[0][0, 0])


@pytest.mark.parametrize("inside", [False, True])
def test_the_file_says_how_its_input_is_normalized(inside: bool, tmp_path: Path) -> None:
    spec = network("tiny(width=4)")
    normalization = Normalization((0.4, -0.1), (0.3, 2.0), inside)
    bcgraph.export(spec, tmp_path / "net.onnx", normalization=normalization, classes=("a", "b"))
    model = onnx.load(tmp_path / "net.onnx")
    facts = {p.key: p.value for p in model.metadata_props}
    assert json.loads(facts["bcgraph.normalization"]) == {"mean": [0.4, -0.1], "std": [0.3, 2.0], "inside": inside}
    assert json.loads(facts["bcgraph.classes"]) == ["a", "b"]
    assert ("normalization.mean" in {i.name for i in model.graph.initializer}) == inside


@pytest.mark.parametrize("normalization", [Normalization((0.0,), (1.0,)), Normalization((0.0, 0.0), (1.0, 0.0))])
def test_a_normalization_that_does_not_fit(normalization: Normalization, tmp_path: Path) -> None:
    with pytest.raises(CompileError) as caught:
        bcgraph.export(network("tiny(width=4)"), tmp_path / "net.onnx", normalization=normalization)
    assert caught.value.code == "E090"
    assert list(tmp_path.iterdir()) == []
