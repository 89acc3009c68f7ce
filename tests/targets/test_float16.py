"""ONNX files converted to float16 by onnxruntime's own tool compute what they did, to the precision of float16."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
import onnxruntime
import pytest

import bcgraph
from bcgraph import dsl, runtime
from bcgraph.errors import BcgraphWarning, RunError

TEXT = """bcg 1
network net {
  input = sequence(1, 8, 8); steps = 3; neuron = lif(reset=RESET); norm = bn(scales=SCALES)
  backbone = tiny(width=4, classes=10)
  backward @4 -> @1; backward @2 -> @2 { delay = 2 }
}
"""


def convert(source: Path, target: Path, keep: bool) -> None:
    float16 = pytest.importorskip("onnxruntime.transformers.float16")
    onnx.save(float16.convert_float_to_float16(onnx.load(source), keep_io_types=keep), target)


def fed(session: onnxruntime.InferenceSession) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    found = {}
    for value in session.get_inputs():
        shape = [{"N": 4, "T": 3}.get(d, d) for d in value.shape]
        kind = np.float16 if value.type == "tensor(float16)" else np.float32
        found[value.name] = rng.normal(size=shape).astype(np.float32).astype(kind)
    return found


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("form", ["unrolled", "step", "scan"])
@pytest.mark.parametrize(("reset", "scales"), [("hard", "shared"), ("soft", "per_step")])
def test_a_converted_file_computes_the_same(tmp_path: Path, reset: str, scales: str, form: str, keep: bool) -> None:
    spec = dsl.parse(TEXT.replace("RESET", reset).replace("SCALES", scales))
    bcgraph.export(spec, tmp_path / "net.onnx", form=form)
    convert(tmp_path / "net.onnx", tmp_path / "half.onnx", keep)
    results = []
    for name in ("net.onnx", "half.onnx"):
        session = onnxruntime.InferenceSession(str(tmp_path / name))
        results.append(session.run(None, fed(session))[0].astype(np.float32))
    assert np.abs(results[0]).max() > 0.1
    # A membrane within rounding of the threshold may fire otherwise, in some of the samples.
    assert np.median(np.abs(results[0] - results[1])) < 5e-3


BOUNDED = """neuron bounded(surrogate=sigmoid()) {
  state v = 0
  u = v + clamp(I, -1.5, 2) + min(I, 1.2) + max(0.1, I)
  s = spike(u - 1, surrogate)
  v = u * (1 - s)
}
"""


@pytest.mark.parametrize("form", ["unrolled", "step", "scan"])
@pytest.mark.parametrize("neuron", ["ilif()", "bounded()"])
def test_a_file_without_functions_is_converted_too(tmp_path: Path, neuron: str, form: str) -> None:
    text = TEXT.replace("lif(reset=RESET)", neuron).replace("SCALES", "shared")
    spec = dsl.parse(text.replace("network", f"{BOUNDED}network", 1))
    bcgraph.export(spec, tmp_path / "net.onnx", form=form)
    onnx.save(onnx.inliner.inline_local_functions(onnx.load(tmp_path / "net.onnx")), tmp_path / "inlined.onnx")
    convert(tmp_path / "inlined.onnx", tmp_path / "half.onnx", True)
    whole, half = (onnxruntime.InferenceSession(str(tmp_path / name)) for name in ("net.onnx", "half.onnx"))
    expected = whole.run(None, fed(whole))[0]
    assert np.abs(expected).max() > 0.1
    assert np.median(np.abs(expected - half.run(None, fed(half))[0])) < 5e-3


def test_a_file_that_a_tool_has_written_runs_with_a_note(tmp_path: Path) -> None:
    bcgraph.export(dsl.parse(TEXT.replace("RESET", "hard").replace("SCALES", "shared")), tmp_path / "net.onnx")
    convert(tmp_path / "net.onnx", tmp_path / "half.onnx", True)
    x = np.random.default_rng(0).normal(size=(3, 5, 1, 8, 8)).astype(np.float32)
    with pytest.warns(BcgraphWarning, match="a tool has changed it"):
        network = runtime.Network(tmp_path / "half.onnx")
    assert np.median(np.abs(network(x) - runtime.Network(tmp_path / "net.onnx")(x))) < 5e-3
    # A file of the same size whose bits differ is a damaged one.
    content = bytearray((tmp_path / "net.onnx").read_bytes())
    content[len(content) // 2] ^= 4
    (tmp_path / "net.onnx").write_bytes(bytes(content))
    with pytest.raises(RunError, match="is damaged: its content is not what was written"):
        runtime.Network(tmp_path / "net.onnx")
