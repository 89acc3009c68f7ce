"""One clear line, exit code 1, nothing half-written, nothing lost."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.numpy import load_file, save_file

from tests.cli.conftest import TINY, Command, snapshot


def test_unknown_data_set(bcgraph: Command, tiny: Path, tmp_path: Path) -> None:
    tiny.write_text(TINY.replace("digits(", "digit("))
    before = snapshot(tmp_path)
    for arguments in (["train", tiny, "--out", "run"], ["search", tiny, "--out", "run"], ["score", tiny]):
        assert "did you mean `digits`?" in bcgraph(*arguments).fault("E080")
    assert snapshot(tmp_path) == before


def test_missing_weights(bcgraph: Command, tiny: Path, tmp_path: Path) -> None:
    before = snapshot(tmp_path)
    assert "none.safetensors" in bcgraph("eval", tiny, "--weights", "none.safetensors").fault("E082")
    assert "none.safetensors" in bcgraph("compile", tiny, "--weights", "none.safetensors", "-o", "x.onnx").fault("E082")
    assert "--weights" in bcgraph("eval", tiny).fault("E082")
    assert snapshot(tmp_path) == before


def test_damaged_weights(bcgraph: Command, tiny: Path, trained: Path) -> None:
    good = (trained / "last.safetensors").read_bytes()
    for bad in (b"", b"no weights", good[:100], good[:-100], b"PK\x03\x04" + good):
        (trained / "last.safetensors").write_bytes(bad)
        assert bcgraph("eval", trained).fault("E082")


def test_weights_of_another_shape(bcgraph: Command, tiny: Path, trained: Path, tmp_path: Path) -> None:
    tensors = load_file(trained / "last.safetensors")
    tensors["conv1.weight"] = tensors["conv1.weight"][:2].copy()
    del tensors["fc.bias"]
    save_file(tensors, tmp_path / "wrong.safetensors")
    message = bcgraph("eval", tiny, "--weights", "wrong.safetensors").fault("E083")
    assert "conv1.weight" in message
    assert "fc.bias" in message


def test_checkpoint_of_another_spec(bcgraph: Command, tiny: Path, trained: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.bcg"
    other.write_text(TINY.replace("@4 -> @1", "@3 -> @3"))
    before = snapshot(tmp_path)
    message = bcgraph("eval", other, "--weights", trained / "last.safetensors").fault("E083")
    assert "@4 -> @1" in message
    assert "@3 -> @3" in message
    assert bcgraph("compile", other, "--weights", trained / "last.safetensors", "-o", "o.onnx").fault("E083")
    assert "run" in bcgraph("train", other, "--out", "run").fault("E085")
    assert snapshot(tmp_path) == before


def test_not_a_run(bcgraph: Command, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for command in (["eval", "empty"], ["compile", "empty", "-o", "x.onnx"], ["report", "empty"], ["show", "empty"]):
        assert "empty" in bcgraph(*command).fault("E085")


def test_options_that_are_refused_leave_no_directory(bcgraph: Command, tiny: Path, tmp_path: Path) -> None:
    before = snapshot(tmp_path)
    for option in ("--score-dtype", "--accuracy-dtype"):
        assert "cannot be computed in `float23`" in bcgraph("search", tiny, "--out", "run", option, "float23").fault(
            "E089"
        )
    assert "there is no directory `run`" in bcgraph("report", "run").fault("E085")
    assert bcgraph("show", tiny, "--inference").code == 2
    assert snapshot(tmp_path) == before


def test_a_search_without_a_result(bcgraph: Command, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "found").mkdir()
    (tmp_path / "found/spec.bcg").write_text(TINY)
    (tmp_path / "found/run.json").write_text("{}")
    assert "not finished" in bcgraph("compile", "found", "-o", "x.onnx").fault("E085")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folder(bcgraph: Command, tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o500)
    for command in (
        ["train", tiny, "--out", "folder"],
        ["search", tiny, "--out", "folder/run"],
        ["compile", tiny, "-o", "folder/x.onnx"],
        ["draw", tiny, "-o", "folder/x.svg"],
    ):
        assert "folder" in bcgraph(*command).fault("E084")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "command",
    [
        ["train", "net.bcg", "--out", "/proc/run"],
        ["search", "net.bcg", "--out", "/proc/run"],
        ["compile", "net.bcg", "-o", "/proc/x.onnx"],
        ["draw", "net.bcg", "-o", "/proc/x.svg"],
        ["compile", "net.bcg", "-o", "missing/x.onnx"],
        ["compile", "net.bcg", "-o", "/dev/full.onnx/x.onnx"],
        ["train", "net.bcg", "--out", "net.bcg"],
    ],
    ids=" ".join,
)
def test_folder_that_takes_nothing(bcgraph: Command, tiny: Path, tmp_path: Path, command: list[str]) -> None:
    before = snapshot(tmp_path)
    bcgraph(*command).fault("E084")
    assert snapshot(tmp_path) == before


@pytest.mark.slow
def test_full_disk(process: Command, tiny: Path, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_text("kept")
    before = snapshot(tmp_path)
    limit = 1000
    assert "net.onnx" in process("compile", trained, "-o", "net.onnx", limit_file_size=limit).fault("E084")
    assert process("draw", tiny, "-o", "net.svg", limit_file_size=limit).fault("E084")
    assert snapshot(tmp_path) == before
    tiny.write_text("# " + "x" * 2000 + "\n" + TINY.replace("steps    =", "steps ="))
    before = snapshot(tmp_path)
    assert "net.bcg" in process("fmt", tiny, limit_file_size=limit).fault("E084")
    assert snapshot(tmp_path) == before


@pytest.mark.slow
def test_full_disk_in_training_loses_nothing(process: Command, bcgraph: Command, tiny: Path, tmp_path: Path) -> None:
    arguments = ["train", tiny, "--out", "run"]
    process(*arguments, limit_file_size=1000).fault("E084")
    assert set(snapshot(tmp_path / "run")) <= {"spec.bcg", ".lock"}
    assert bcgraph(*arguments).code == 0


def test_unknown_forms_and_endings(bcgraph: Command, tiny: Path, tmp_path: Path) -> None:
    before = snapshot(tmp_path)
    assert ".onnx" in bcgraph("compile", tiny, "-o", "net.onx").fault("E072")
    assert "`step`" in bcgraph("compile", tiny, "-o", "net.onnx", "--form", "stepp").fault("E072")
    assert "unrolled" in bcgraph("train", tiny, "--out", "run", "--schedule", "unroled").fault("E072")
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    ("accelerator", "code", "says"),
    [("tpu", "E041", "one of cpu, cuda, mps, auto"), ("cuda", "E074", "--accelerator auto")],
)
@pytest.mark.parametrize("command", ["score", "eval", "search"])
def test_devices_that_cannot_be_had(
    bcgraph: Command, trained: Path, command: str, accelerator: str, code: str, says: str
) -> None:
    if accelerator == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    what = trained if command == "eval" else trained / "spec.bcg"
    more = ("--out", "found") if command == "search" else ()
    assert says in bcgraph(command, what, *more, "--accelerator", accelerator).fault(code)
    assert not (trained.parent / "found").exists()


def test_a_name_that_is_too_long_for_the_system(bcgraph: Command, tiny: Path) -> None:
    name = "a" * 300
    for arguments in (["show", name], ["train", tiny, "--out", name], ["report", name], ["train", name, "--out", "x"]):
        assert "too long" in bcgraph(*arguments).fault("E001")
