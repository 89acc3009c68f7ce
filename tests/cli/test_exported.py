"""An exported file in the place of a specification, and the other way round."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

import bcgraph
from bcgraph import exported
from bcgraph.errors import BcgraphWarning, RunError
from tests.cli.conftest import TINY, Command

TEXT = TINY.replace("@4 -> @1", "@3 -> @3")  # which every target can carry
ENDINGS = (".onnx", ".nir", ".pt2", ".py")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny network in a file of each target."""
    folder = tmp_path_factory.mktemp("exported")
    for ending in ENDINGS:
        bcgraph.export(bcgraph.parse(TEXT), folder / f"net{ending}")
    return folder


def test_every_target_has_a_reader() -> None:
    assert tuple(exported.READERS) == ENDINGS


@pytest.mark.parametrize("ending", ENDINGS)
def test_show_prints_the_specification(bcgraph: Command, files: Path, ending: str) -> None:
    from bcgraph.dsl import format_spec, parse

    done = bcgraph("show", files / f"net{ending}")
    assert (done.code, done.err) == (0, "")
    head = ["# weights: drawn", "# seed: 0"] if ending != ".py" else []  # which is there to be read
    lines = done.out.splitlines(keepends=True)
    about = [line for line in lines if line.startswith("#")]
    assert "".join(lines[len(about) :]) == format_spec(parse(TEXT))
    assert [line.strip() for line in about if "written by" not in line] == head
    assert parse(done.out) == parse(TEXT)
    assert '"name": "tiny_net"' in bcgraph("show", "--json", files / f"net{ending}").out


@pytest.mark.parametrize("ending", ENDINGS)
def test_files_that_hold_none(bcgraph: Command, tmp_path: Path, ending: str) -> None:
    for content in (b"", b"nothing", b"\x08\x07" * 50, b"PK\x05\x06" + bytes(18)):
        (tmp_path / f"net{ending}").write_bytes(content)
        bcgraph("show", f"net{ending}").fault("E087")
    bcgraph("show", f"missing{ending}").fault("E087")


def test_a_damaged_file_is_noticed(files: Path, tmp_path: Path) -> None:
    content = bytearray((files / "net.onnx").read_bytes())
    content[-20] ^= 1
    (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(RunError, match="its content is not what was written"):
        exported.specification(tmp_path / "net.onnx")


def test_a_file_that_a_tool_has_rewritten_is_read(files: Path, tmp_path: Path) -> None:
    import onnx

    model = onnx.load(files / "net.onnx")
    model.doc_string = "changed"
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.warns(BcgraphWarning, match="a tool has changed it"):
        text = exported.specification(tmp_path / "net.onnx")
    assert bcgraph.parse(text) == bcgraph.parse(TEXT)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert exported.specification(files / "net.onnx") == text


@pytest.mark.parametrize("command", ["check", "draw", "train", "score"])
def test_an_exported_file_where_a_specification_is_needed(bcgraph: Command, files: Path, command: str) -> None:
    more = ["--out", "out.svg"] if command in ("draw", "train") else []
    said = bcgraph(command, files / "net.onnx", *more).fault("E001")
    assert "is an exported network, not a specification" in said
    assert f"hint: `bcgraph show {files / 'net.onnx'}` prints the specification that it was made of" in said


def test_a_specification_where_an_exported_file_is_needed(bcgraph: Command, tiny: Path, tmp_path: Path) -> None:
    for arguments in (["--data", "digits"], []):
        said = bcgraph("run", "net.bcg", *arguments).fault("E087")
        assert "`net.bcg` is a specification, not an exported network" in said
        assert "hint: export it with `bcgraph compile net.bcg -o net.onnx`, then run net.onnx" in said
    (tmp_path / "run").mkdir()
    assert "is the directory of a run, not an exported" in bcgraph("run", "run", "--data", "digits").fault("E087")
