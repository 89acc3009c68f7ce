"""`bcgraph run`, and the runtime behind it."""

import io
import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from bcgraph import runtime
from bcgraph.errors import RunError
from tests.cli.conftest import Command

IMAGE = '{"kind": "image", "channels": 1, "height": 8, "width": 8}'


@pytest.fixture
def exported(bcgraph: Command, tiny: Path, tmp_path: Path) -> Path:
    assert bcgraph("compile", tiny, "-o", "net.onnx").code == 0
    return tmp_path / "net.onnx"


def foreign(path: Path, **metadata: str) -> Path:
    """A valid ONNX file that no export of ours has made: the identity."""
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 8, 8])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 1, 8, 8])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [value], [out])
    model = helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 18)])
    helper.set_model_props(model, {f"bcgraph.{k}": v for k, v in metadata.items()})
    onnx.save(model, path)
    return path


def test_accuracy_of_both_forms_is_that_of_torch(bcgraph: Command, trained: Path) -> None:
    expected = json.loads(bcgraph("eval", "run", "--json").out)["accuracy"]
    assert expected > 0.2
    for form in ("unrolled", "step", "scan"):
        assert bcgraph("compile", "run", "-o", "net.onnx", "--form", form).code == 0
        done = bcgraph("run", "net.onnx", "--data", "digits", "--json")
        found = json.loads(done.out)
        assert found["form"] == form
        assert found["samples"] == 597
        assert found["accuracy"] == pytest.approx(expected, abs=0.05)


def test_eval_says_what_weights_of_16_bits_do(bcgraph: Command, trained: Path) -> None:
    done = bcgraph("eval", "run", "--dtype", "int16")
    last = done.out.splitlines()[-1]
    assert last.startswith("accuracy with weights of 16 bits where they meet spikes: 0.")
    found = json.loads(bcgraph("eval", "run", "--dtype", "int16", "--json").out)
    assert found["accuracy_int16"] == pytest.approx(found["accuracy"], abs=0.02)
    assert found["int16"]["spikes"] < 0.01


def test_what_compile_says(bcgraph: Command, trained: Path, tmp_path: Path) -> None:
    done = bcgraph("compile", "run", "-o", "net.onnx", "--form", "scan", "--normalize")
    first, second, third = done.out.splitlines()
    assert first == f"net.onnx: scan, {(tmp_path / 'net.onnx').stat().st_size:,} bytes"
    assert re.fullmatch(
        r"onnxruntime against torch on 64 test samples of digits: "
        r"\d+\.\d\d% of predictions and \d+\.\d{4}% of spikes differ, logits by at most \d\.\de[-+]\d\d",
        second,
    )
    assert re.fullmatch(r"firing rates: lif1 0\.\d{3}(, layer\d\.0\.lif\d 0\.\d{3}){4}", third)
    found = json.loads(bcgraph("compile", "run", "-o", "net.onnx", "--json").out)
    assert found["proof"]["samples"] == 64
    assert found["proof"]["logit_difference"] < 1e-3


def test_no_torch_is_loaded(exported: Path) -> None:
    from tests.test_public import imported

    code = f"""
import sys
from bcgraph.cli.main import main
sys.argv = ["bcgraph", "run", {str(exported)!r}, "--data", "digits"]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""
    assert not imported(code) & {"torch", "onnx", "matplotlib", "lark"}


def test_files_that_cannot_be_run(bcgraph: Command, exported: Path, tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("this is no network")
    (tmp_path / "empty.onnx").write_bytes(b"")
    (tmp_path / "cut.onnx").write_bytes(exported.read_bytes()[:2000])
    for name in ("missing.onnx", "text.onnx", "empty.onnx", "cut.onnx", "."):
        assert name in bcgraph("run", name, "--data", "digits").fault("E087")


def test_unknown_data(bcgraph: Command, exported: Path) -> None:
    done = bcgraph("run", exported, "--data", "digit")
    assert "did you mean `digits`?" in done.fault("E080")
    assert bcgraph("run", exported, "--data", "digits_rows").fault("E081")


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({}, "was not written by bcgraph"),
        ({"form": "unrolled"}, "damaged metadata"),
        ({"form": "unrolled", "steps": "two", "readout": "mean", "input": IMAGE}, "damaged metadata"),
        ({"form": "unrolled", "steps": "2", "readout": "mean", "input": "{"}, "damaged metadata"),
        ({"form": "rolled", "steps": "2", "readout": "mean", "input": IMAGE}, "of a kind"),
        ({"form": "unrolled", "steps": "2", "readout": "sum", "input": IMAGE}, "of a kind"),
        (
            {
                "form": "step",
                "steps": "2",
                "readout": "mean",
                "input": IMAGE,
                "states": '[{"input": "v", "output": "w", "shape": [4]}]',
            },
            "do not describe",
        ),
    ],
)
def test_foreign_files(tmp_path: Path, metadata: dict[str, str], reason: str) -> None:
    with pytest.raises(RunError, match=reason) as caught:
        runtime.Network(foreign(tmp_path / "foreign.onnx", **metadata))
    assert caught.value.code == "E087"


def test_inputs_of_another_shape(exported: Path) -> None:
    network = runtime.Network(exported)
    with pytest.raises(RunError, match=r"takes \[N, 1, 8, 8\], but the input is \[3, 8, 8\]"):
        network(np.zeros((3, 8, 8)))
    assert network(np.zeros((3, 1, 8, 8))).shape == (2, 3, 10)


def test_a_stream_of_frames(bcgraph: Command, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bcgraph("compile", tiny, "-o", "step.onnx", "--form", "step").code == 0
    network = runtime.Network(tmp_path / "step.onnx")
    x = np.random.default_rng(0).normal(size=(3, 1, 8, 8)).astype(np.float32)
    lines = [" ".join(map(str, frame.ravel())) for frame in x]
    # Two steps of each image, as the network is used otherwise, and a new sequence for each.
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n{line}\n\n" for line in lines)))
    done = bcgraph("run", "step.onnx", "--stream")
    assert done.code == 0
    assert [int(line) for line in done.out.splitlines()[1::2]] == network.predict(x).tolist()
    assert "6 frames" in done.err
    monkeypatch.setattr("sys.stdin", io.StringIO(lines[0] + "\n1 2 3\n"))
    assert "line 2: a frame has 64 (1x8x8) numbers, but this line has 3" in bcgraph(
        "run", "step.onnx", "--stream"
    ).fault("E090")
    monkeypatch.setattr("sys.stdin", io.StringIO("one two\n"))
    assert "line 1" in bcgraph("run", "step.onnx", "--stream").fault("E090")
    monkeypatch.setattr("sys.stdin", io.StringIO(lines[0]))
    monkeypatch.setattr(runtime.Stream, "push", lambda self, frame: np.array([0.0, np.nan]))
    assert "are nan, so there is nothing to predict" in bcgraph("run", "step.onnx", "--stream").fault("E087")


def test_the_states_of_a_stream_are_kept(bcgraph: Command, tiny: Path, tmp_path: Path) -> None:
    assert bcgraph("compile", tiny, "-o", "step.onnx", "--form", "step").code == 0
    network = runtime.Network(tmp_path / "step.onnx")
    frame = np.random.default_rng(1).normal(size=(1, 8, 8)).astype(np.float32)
    expected = network(frame[None])[:, 0]
    stream = network.stream()
    for _ in range(2):
        for t in range(2):
            np.testing.assert_allclose(stream.push(frame), expected[: t + 1].mean(axis=0), atol=1e-6)
        stream.reset()
    with pytest.raises(RunError, match=r"a frame is \[1, 8, 8\]"):
        stream.push(frame[0])
    with pytest.raises(RunError, match="of numbers"):
        stream.push(np.full((1, 8, 8), "a"))


def test_states_of_another_shape(bcgraph: Command, tiny: Path, tmp_path: Path) -> None:
    assert bcgraph("compile", tiny, "-o", "step.onnx", "--form", "step").code == 0
    network = runtime.Network(tmp_path / "step.onnx")
    frame, states = np.zeros((2, 1, 8, 8), np.float32), network.zeros(2)
    network.step(frame, states)
    with pytest.raises(RunError, match=r"the state `lif1.v@-1` is \[2, 4, 8, 8\] .* given is \[3, 4, 8, 8\]") as caught:
        network.step(frame, states | {"lif1.v@-1": np.zeros((3, 4, 8, 8), np.float32)})
    assert caught.value.code == "E090"
    with pytest.raises(RunError, match=r"`lif1.v@-1` .* given is missing"):
        network.step(frame, {n: s for n, s in states.items() if n != "lif1.v@-1"})


def test_what_cannot_be_streamed(bcgraph: Command, exported: Path) -> None:
    assert "--form step" in bcgraph("run", exported, "--stream").fault("E087")
    assert bcgraph("run", exported).code == 2
    assert bcgraph("run", exported, "--stream", "--data", "digits").code == 2


def test_a_file_of_the_future(tmp_path: Path) -> None:
    model = onnx.load(foreign(tmp_path / "new.onnx", form="unrolled"))
    model.opset_import[0].version = 999
    onnx.save(model, tmp_path / "new.onnx")
    with pytest.raises(RunError, match="newer ONNX version"):
        runtime.Network(tmp_path / "new.onnx")


def test_inputs_that_are_no_numbers(exported: Path) -> None:
    with pytest.raises(RunError, match="takes numbers"):
        runtime.Network(exported)(np.full((1, 1, 8, 8), "a"))


def test_normalization_inside_changes_no_accuracy(bcgraph: Command, trained: Path) -> None:
    found = []
    for options in ((), ("--normalize",)):
        assert bcgraph("compile", "run", "-o", "net.onnx", *options).code == 0
        found.append(json.loads(bcgraph("run", "net.onnx", "--data", "digits", "--json").out)["accuracy"])
    assert found[0] == pytest.approx(found[1], abs=0.01)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_values_that_are_not_finite_are_refused(bcgraph: Command, tiny: Path, tmp_path: Path, value: float) -> None:
    """1e39 is finite in float64 and infinite in float32, in which the file computes."""
    for form in ("unrolled", "step"):
        assert bcgraph("compile", tiny, "-o", f"{form}.onnx", "--form", form).code == 0
    images = np.zeros((2, 1, 8, 8))
    images[1, 0, 3, 3] = value
    with pytest.raises(RunError, match="not finite") as caught:
        runtime.Network(tmp_path / "unrolled.onnx")(images)
    assert caught.value.code == "E090"
    stream = runtime.Network(tmp_path / "step.onnx").stream()
    clean = stream.push(images[0])
    with pytest.raises(RunError, match="not finite"):
        stream.push(images[1])
    # The stream is as it was and can continue.
    assert stream.frames == 1
    assert np.isfinite(stream.push(images[0])).all()
    assert np.isfinite(clean).all()
