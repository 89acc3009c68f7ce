"""A file of another run in the place of a run's own is named, or written again; it is never used."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bcgraph import tensorfiles
from tests.cli.conftest import Command

SPEC = """bcg 1
network net { input = image(1, 8, 8); steps = 2; backbone = tiny(width=2, classes=10); backward @4 -> @3 }
data = digits(batch=256)
train { epochs = 2 }
search {
  init { pool = 0; keep = 2 }
  supernet { epochs = 1 }
  evolve { iterations = 1; top = 2; population = 2; offspring = 1 }
}
"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    (tmp_path / "net.bcg").write_text(SPEC)
    return tmp_path / "net.bcg"


def test_weights_of_another_training_run(bcgraph: Command, net: Path, tmp_path: Path) -> None:
    for name, more in (("run", ()), ("seed", ("--seed", "1")), ("rate", ("--set", "train.label_smoothing=0.1"))):
        assert bcgraph("train", net, "--out", name, *more).code == 0
    last = tmp_path / "run/last.safetensors"
    own = last.read_bytes()
    for name, says in (("seed", "seed 1, where 0 is right"), ("rate", "same seed, other settings or data")):
        shutil.copy(tmp_path / name / "last.safetensors", last)
        for command in (("eval", "run"), ("compile", "run", "-o", "net.onnx"), ("draw", "run", "-o", "net.svg")):
            assert f"`run/last.safetensors` is of another run: {says}" in bcgraph(*command).fault("E085")
        assert bcgraph("eval", "run", "--weights", last).code == 0
        best = (tmp_path / "run/best.safetensors").read_bytes()
        shutil.copy(tmp_path / name / "best.safetensors", tmp_path / "run")
        assert says in bcgraph("train", net, "--out", "run").fault("E085")
        (tmp_path / "run/best.safetensors").write_bytes(best)
    assert bcgraph("train", net, "--out", "run").code == 0
    assert last.read_bytes() == own
    assert bcgraph("eval", "run").code == 0


def test_files_of_another_search(bcgraph: Command, net: Path, tmp_path: Path) -> None:
    for name, seed in (("found", "0"), ("other", "1")):
        assert bcgraph("search", net, "--out", name, "--seed", seed, "--audit", "0").code == 0
    found, other = tmp_path / "found", tmp_path / "other"
    kept = {path.name: path.read_bytes() for path in found.iterdir() if path.is_file()}

    def swapped(name: str) -> None:
        assert kept[name] != (other / name).read_bytes()
        shutil.copy(other / name, found)

    again = ("search", net, "--out", "found", "--seed", "0", "--audit", "0")
    for name, command in (
        ("best.onnx", ("run", "found/best.onnx", "--data", "digits")),
        ("best.onnx", ("show", "found/best.onnx")),
        ("best.safetensors", ("eval", "found")),
    ):
        swapped(name)
        assert f"`found/{name}` is of another run: seed 1, where 0 is right" in bcgraph(*command).fault("E085")
    assert "is of another run" in bcgraph("report", "found").err
    (found / "spec.bcg").write_text(SPEC.replace("width=2", "width=3"))
    assert "is another network than that of the search" in bcgraph("report", "found").fault("E085")
    swapped("supernet.safetensors")
    assert bcgraph(*again).code == 0
    for name in ("best.safetensors", "best.onnx", "spec.bcg"):
        assert (found / name).read_bytes() == kept[name]
    (found / "best.bcg").write_text((found / "best.bcg").read_text().replace("steps    = 2", "steps    = 3"))
    assert "is another network than `best.safetensors`" in bcgraph("draw", "found", "-o", "net.svg").fault("E085")
    swapped("supernet-state.safetensors")
    assert "holds the supernet of something else" in bcgraph(*again).fault("E085")


def test_metadata_alone_are_read(bcgraph: Command, net: Path, tmp_path: Path) -> None:
    assert bcgraph("train", net, "--out", "run", "--epochs", "1").code == 0
    path = tmp_path / "run/last.safetensors"
    whole = tensorfiles.read(path)[1]
    assert tensorfiles.described(path) == whole
    content = path.read_bytes()
    path.write_bytes(content[: 8 + int.from_bytes(content[:8], "little")])
    assert tensorfiles.described(path) == whole
