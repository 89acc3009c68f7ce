"""ONNX files in other runtimes: the same numbers as in onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

import bcgraph
from bcgraph.errors import CompileError
from tests import needs
from tests.targets.test_onnx import agreeing, inputs, lively, network, run

SPEC = network("tiny(width=4)").with_backward([(4, 0, 2), (2, 2)])
STATE = lively(SPEC)
X = inputs(SPEC, 16)


def in_reference(path: Path, x: np.ndarray) -> np.ndarray:
    found: np.ndarray = ReferenceEvaluator(onnx.load(path)).run(None, {"x": x})[0]
    return found


def in_openvino(path: Path, x: np.ndarray) -> np.ndarray:
    openvino = needs.optional_package("openvino")
    core = openvino.Core()
    # Its default on some processors is bfloat16.
    compiled = core.compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.asarray(compiled([x])[0])


RUNTIMES: Mapping[str, Callable[[Path, np.ndarray], np.ndarray]] = {"onnx": in_reference, "openvino": in_openvino}


@pytest.mark.parametrize(("runtime", "inline"), [("onnx", False), ("onnx", True), ("openvino", True)])
def test_all_steps_give_what_onnxruntime_gives(runtime: str, inline: bool, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    bcgraph.export(SPEC, path, state_dict=STATE, inputs=X, inline=inline)
    assert bool(onnx.load(path).functions) != inline
    expected = run(path, X.numpy())[0]
    assert agreeing(RUNTIMES[runtime](path, X.numpy()), expected) >= 0.9


@pytest.mark.parametrize("form", ["step", "scan"])
def test_inlined_forms_are_proved(form: str, tmp_path: Path) -> None:
    proof = bcgraph.export(SPEC, tmp_path / "net.onnx", state_dict=STATE, inputs=X, form=form, inline=True).proof
    assert proof.differing_spikes < 1e-3


def test_only_onnx_has_functions(tmp_path: Path) -> None:
    with pytest.raises(CompileError) as caught:
        bcgraph.export(SPEC, tmp_path / "net.py", inline=True)
    assert caught.value.code == "E072"
