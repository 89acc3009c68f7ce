"""`bcgraph train` and `search` with several processes: where one of them cannot go on, all end, with one message."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from bcgraph import files, keys
from tests.cli.conftest import OWN, TINY, Command, Result
from tests.cli.test_interrupt import interrupt
from tests.cli.test_search import ONESHOT

TWO = ("--devices", "2", "--epochs", "1")
pytestmark = pytest.mark.slow


def refused(done: Result, code: str) -> str:
    """The one message; that the command has ended means that no process is left, since each holds its output open."""
    message = done.fault(code)
    assert message.count("error[") == 1
    assert "terminat" not in message
    assert done.out == ""
    return message


def test_a_directory_that_is_in_use(process: Command, tiny: Path, tmp_path: Path) -> None:
    with files.locked(tmp_path / "run"):
        refused(process("train", tiny, "--out", "run", *TWO), "E086")


def test_a_full_disk_at_the_end_of_an_epoch(process: Command, tiny: Path, tmp_path: Path) -> None:
    done = process("train", tiny, "--out", "run", *TWO, limit_file_size=2000)
    assert "best.safetensors" in refused(done, "E084")
    assert not (tmp_path / "run" / "state.safetensors").exists()


def test_an_image_that_only_the_second_process_reads(process: Command, tiny: Path, tmp_path: Path) -> None:
    order = list(range(8))
    keys.rng(keys.derive(0, "train", 0), "order").shuffle(order)
    for part in ("train", "test"):
        for number in range(8):
            path = tmp_path / "data" / part / f"class{number // 4}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), 20 * number).save(path)
            if part == "train" and number == order[-1]:
                path.write_bytes(b"no image")
    text = tiny.read_text().replace("classes=10", "classes=2").replace("digits(batch=64)", "folder(batch=8)")
    tiny.write_text(text)
    assert f"{order[-1]}.png` cannot be read" in refused(process("train", tiny, "--out", "run", *TWO), "E081")


def test_standard_input_is_read_once(process: Command, tiny: Path) -> None:
    done = process("train", "-", "--out", "run", *TWO, stdin=tiny.read_bytes())
    assert done.code == 2
    assert "standard input" in done.err


SEARCH = ("search", "net.bcg", "--audit", "0", "--out", "found", "--devices", "2")


def test_a_supernet_of_two_processes(process: Command, bcgraph: Command, tiny: Path, tmp_path: Path) -> None:
    tiny.write_text(TINY + ONESHOT)
    done = process(*SEARCH)
    assert (done.code, done.said) == (0, f"{OWN}training the supernet: epoch 1/1\n")
    assert done.out.startswith("found/best.bcg: ")
    assert (tmp_path / "found" / "supernet.safetensors").exists()
    assert bcgraph(*SEARCH).out == done.out
    assert "options.devices: 2 there, 1 here" in bcgraph(*SEARCH[:-2]).fault("E085")


def test_a_supernet_that_diverges(process: Command, tiny: Path) -> None:
    tiny.write_text(TINY.replace("epochs = 4", "optimizer = adamw(lr=1e12)") + ONESHOT)
    assert "the loss of the supernet became" in refused(process(*SEARCH), "E088")


def test_an_interrupted_supernet(bcgraph: Command, tiny: Path, tmp_path: Path) -> None:
    tiny.write_text(TINY + ONESHOT.replace("epochs = 1", "epochs = 200"))
    code, err = interrupt([*SEARCH], tmp_path, Path("found/supernet-state.safetensors"))
    assert code == 130
    # Off a terminal a stage prints its epochs, at most one in some seconds.
    first, *epochs, last = err.splitlines(keepends=True)
    assert (first, last) == (OWN, f"interrupted; resume with: bcgraph {' '.join(SEARCH)}\n")
    assert all(line.startswith("training the supernet: epoch ") for line in epochs)
    assert not (tmp_path / "found" / "supernet.safetensors").exists()
