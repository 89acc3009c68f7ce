"""The command line in the world: streams, names, files and libraries as they come, not as they should be."""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import stat
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from bcgraph import dsl
from bcgraph.cli.guard import adopt, guarded
from bcgraph.cli.main import prepare_libraries
from bcgraph.cli.streams import printable
from tests import forked
from tests.cli.conftest import TINY, Command, Result

FULL = Path("/dev/full")
Shell = Callable[..., Result]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """Runs a line of the shell in which `bcgraph` is the command."""
    place = tmp_path / "bin"
    place.mkdir()
    (place / "bcgraph").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m bcgraph "$@"\n')
    (place / "bcgraph").chmod(0o755)
    return _shell(tmp_path, {"PATH": f"{place}:{os.environ['PATH']}"})


@pytest.fixture
def forks(tmp_path: Path) -> Shell:
    """As `shell`, for lines whose commands need no interpreter of their own (`tests.forked`)."""
    place = tmp_path / "bin"
    place.mkdir()
    return _shell(tmp_path, forked.program(place))


def _shell(folder: Path, variables: Mapping[str, str]) -> Shell:
    def run(line: str, **environment: str) -> Result:
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=folder,
            env={**os.environ, **variables, "COLUMNS": "200", "NO_COLOR": "1", **environment},
            capture_output=True,
            timeout=120,
            check=False,
        )
        out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        assert "Traceback" not in out + err
        assert "Exception ignored" not in err
        return Result(done.returncode, out, err)

    return run


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("bcgraph check net.bcg >&-", 1, "E084"),
        ("bcgraph check - <&-", 1, "E001"),
        ("bcgraph check missing.bcg 2>&-", 1, ""),
        ("bcgraph check net.bcg <&- >&- 2>&-", 1, ""),
        ("bcgraph fmt - <net.bcg >&-", 1, "E084"),
        ("bcgraph run net.onnx --stream <&-", 1, "E087"),
    ],
)
def test_closed_streams(shell: Shell, tiny: Path, line: str, code: int, says: str) -> None:
    done = shell(line)
    assert done.code == code
    assert says in done.out + done.err


@pytest.mark.skipif(not FULL.exists(), reason="a device that is always full")
@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("bcgraph --help >/dev/full", 1),
        ("bcgraph check --help >/dev/full", 1),
        ("bcgraph --version >/dev/full", 1),
        ("bcgraph schema >/dev/full", 1),
        ("bcgraph check net.bcg >/dev/full", 1),
        ("bcgraph fmt --stdout net.bcg >/dev/full", 1),
        ("bcgraph check missing.bcg 2>/dev/full", 1),
        ("bcgraph nonsense 2>/dev/full", 2),
        ("bcgraph check net.bcg >/dev/full 2>/dev/full", 1),
    ],
)
def test_full_streams(shell: Shell, tiny: Path, line: str, code: int) -> None:
    done = shell(line)
    assert done.code == code
    if "2>" not in line:
        assert "No space left on device" in done.err


def test_pipes_that_are_closed_early(shell: Shell, tiny: Path) -> None:
    assert shell("bcgraph schema | head -1; exit ${PIPESTATUS[0]}").code in (0, 141)
    assert shell("bcgraph --help | true; exit ${PIPESTATUS[0]}").code == 0


@pytest.mark.parametrize("blocking", [True, False])
def test_sockets_as_editors_hand_them_over(tiny: Path, blocking: bool) -> None:
    (ours, theirs), (results, out) = socket.socketpair(), socket.socketpair()
    theirs.setblocking(blocking)
    out.setblocking(blocking)
    text = TINY + "".join(f"# {i}\n" for i in range(20_000))
    with ours, results:
        done = subprocess.Popen([sys.executable, "-m", "bcgraph", "fmt", "-"], stdin=theirs, stdout=out, stderr=-1)
        theirs.close()
        out.close()
        ours.sendall(text.encode())
        ours.shutdown(socket.SHUT_WR)
        found = b"".join(iter(lambda: results.recv(65536), b""))
        _, err = done.communicate(timeout=60)
    assert (done.returncode, err) == (0, b"")
    assert found.decode() == dsl.format_text(text)


def test_what_is_no_file_is_refused_at_once(forks: Shell, tiny: Path, tmp_path: Path) -> None:
    for name in ("net2.bcg", "net.onnx", "net.nir", "w.safetensors"):
        os.mkfifo(tmp_path / name)
    (tmp_path / "found").mkdir()
    os.mkfifo(tmp_path / "found/run.json")
    assert "not a regular file" in forks("bcgraph check net2.bcg").fault("E001")
    assert "not a regular file" in forks("bcgraph fmt net2.bcg").fault("E001")
    assert "not a regular file" in forks("bcgraph run net.onnx --data digits").fault("E087")
    assert "not a regular file" in forks("bcgraph eval net.bcg --weights w.safetensors").fault("E082")
    assert "not a regular file" in forks("bcgraph report found").fault("E085")
    assert "not a regular file" in forks("bcgraph check /dev/zero").fault("E001")


def test_what_the_shell_gives_in_the_place_of_a_file_is_one(shell: Shell, tiny: Path) -> None:
    assert shell("bcgraph check <(cat net.bcg)").code == 0
    assert shell("cat net.bcg | bcgraph check /dev/stdin").code == 0


@pytest.mark.parametrize(
    "content", [b"root:$6$s3cret:19000::::::\n", b"# s3cret\nroot:s3cret\n", b"s3cret\xff\n", b"s3cret\0"]
)
def test_an_import_shows_nothing_of_a_foreign_file(forks: Shell, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "shadow").write_bytes(content)
    (tmp_path / "net.bcg").write_text(TINY.replace("bcg 1\n", f'bcg 1\nimport "{tmp_path}/shadow"\n', 1))
    for more in ("", " --json"):
        done = forks(f"bcgraph check net.bcg{more}")
        assert done.code == 1
        assert "s3cret" not in done.out + done.err
    assert 'import "' in forks("bcgraph check net.bcg").err


def test_fmt_counts_what_it_has_written_and_keeps_the_owner(bcgraph: Command, tiny: Path, tmp_path: Path) -> None:
    ugly = TINY.replace("steps    =", "steps=")
    tiny.write_text(ugly)
    before = tiny.stat()
    if os.getuid() == 0:
        os.chown(tiny, 12345, 23456)
    tiny.chmod(0o640)
    assert "1 file changed" in bcgraph("fmt", tiny).err
    after = tiny.stat()
    assert stat.S_IMODE(after.st_mode) == 0o640
    assert (after.st_uid, after.st_gid) == ((12345, 23456) if os.getuid() == 0 else (before.st_uid, before.st_gid))


def test_fmt_does_not_count_what_it_could_not_write(
    bcgraph: Command, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bcgraph import files

    def full(*_: object) -> None:
        raise files.cannot_write(tiny, OSError(28, "No space left on device"))

    tiny.write_text(TINY.replace("steps    =", "steps="))
    monkeypatch.setattr(files, "write_text", full)
    done = bcgraph("fmt", tiny)
    done.fault("E084")
    assert "changed" not in done.err.replace("nothing was changed", "")


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes there")
def test_names_that_are_no_text(forks: Shell, trained: Path, tmp_path: Path) -> None:
    odd = os.fsdecode(b"n\xff")
    trained.rename(tmp_path / odd)
    name = "$(printf 'n\\xff')"
    assert forks(f"bcgraph eval {name}").code == 0
    assert forks(f"bcgraph train {name}/spec.bcg --out {name}").code == 0
    assert forks(f"bcgraph compile {name} -o {name}.onnx").code == 0
    done = forks(f"bcgraph run {name}.onnx --data digits --json")
    assert json.loads(done.out)["accuracy"] > 0.05
    for suffix in ("c", "pt2", "py"):
        assert forks(f"bcgraph compile {name} -o {name}.{suffix}").code == 0
    assert b'#include "n\xff.h"' in (tmp_path / f"{odd}.c").read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes there")
def test_classes_whose_folders_are_no_text(bcgraph: Command, tmp_path: Path) -> None:
    for part in ("train", "test"):
        for label, name in enumerate((b"a", b"gr\xf6\xdfe")):
            place = tmp_path / "data" / part / os.fsdecode(name)
            place.mkdir(parents=True)
            for number in range(4):
                Image.fromarray(np.full((8, 8), 200 * label + number, np.uint8)).save(place / f"{number}.png")
    text = TINY.replace("digits(batch=64)", 'folder(root="data", batch=4)').replace("classes=10", "classes=2")
    (tmp_path / "net.bcg").write_text(text)
    assert bcgraph("train", "net.bcg", "--out", "run", "--epochs", "1").code == 0
    for name in ("net.onnx", "net.c", "net.pt2", "net.py"):
        assert bcgraph("compile", "run", "-o", name).code == 0
    assert bcgraph("compile", "run", "-o", "net.onnx", "--card").code == 0
    done = bcgraph("run", "net.onnx", "--images", "data/test", "--json")
    found = json.loads(done.out)
    assert {each["class"] for each in found["images"]} <= {"a", r"gr\udcf6\udcdfe"}
    assert found["accuracy"] is not None


def test_hidden_files_are_no_images(bcgraph: Command, tmp_path: Path) -> None:
    for part in ("train", "test"):
        for label in "ab":
            place = tmp_path / "data" / part / label
            place.mkdir(parents=True)
            for number in range(4):
                Image.fromarray(np.full((8, 8), 40 * number, np.uint8)).save(place / f"{number}.png")
                (place / f"._{number}.png").write_bytes(b"\x00\x05\x16\x07 Mac OS X")
    text = TINY.replace("digits(batch=64)", 'folder(root="data", batch=4)').replace("classes=10", "classes=2")
    (tmp_path / "net.bcg").write_text(text)
    assert bcgraph("train", "net.bcg", "--out", "run", "--epochs", "1").code == 0


def test_a_root_in_the_home(bcgraph: Command, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    text = TINY.replace("digits(batch=64)", 'cifar10(root="~/data", batch=4)').replace(
        "image(1, 8, 8)", "image(3, 32, 32)"
    )
    tiny.write_text(text)
    assert f"looked in `{tmp_path}/home/data" in bcgraph("train", tiny, "--out", "run").fault("E081")


ESCAPES = ["\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x9b2J", "left\u202eright", "bell\x07\b\b"]


def test_terminals_are_sent_no_escapes(bcgraph: Command, tiny: Path, tmp_path: Path) -> None:
    """Not even those in the class names of a file from elsewhere."""
    assert bcgraph("compile", tiny, "-o", "net.onnx").code == 0
    model = onnx.load(tmp_path / "net.onnx")
    for entry in list(model.metadata_props):
        if entry.key == "bcgraph.classes":
            entry.value = json.dumps([ESCAPES[i % len(ESCAPES)] for i in range(10)])
        if entry.key == "bcgraph.seal":
            model.metadata_props.remove(entry)
    onnx.save(model, tmp_path / "evil.onnx")
    (tmp_path / "images").mkdir()
    for number in range(6):
        Image.fromarray(np.full((8, 8), 40 * number, np.uint8)).save(tmp_path / "images" / f"{number}.png")
    for more in ((), ("--json",)):
        done = bcgraph("run", "evil.onnx", "--images", "images", *more)
        assert done.code == 0
        assert (done.out + done.err).translate({10: None, 9: None}).isprintable()
    assert json.loads(bcgraph("run", "evil.onnx", "--images", "images", "--json").out)["images"][0]["class"] in ESCAPES


@pytest.mark.parametrize("text", ESCAPES)
def test_what_is_printed(text: str) -> None:
    assert printable(text).isprintable()
    assert printable("plain \N{SNOWMAN}\tand\n") == "plain \N{SNOWMAN}\tand\n"


def test_a_mark_before_the_first_frame(forks: Shell, tiny: Path, tmp_path: Path) -> None:
    assert forks("bcgraph compile net.bcg -o step.onnx --form step").code == 0
    frame = " ".join(["0.5"] * 64).encode()
    (tmp_path / "frames.txt").write_bytes(b"\xef\xbb\xbf" + frame + b"\n" + frame + b"\n")
    assert len(forks("bcgraph run step.onnx --stream <frames.txt").out.splitlines()) == 2
    (tmp_path / "frames.txt").write_bytes(frame + b"\n\xff\xfe\n")
    assert "line 2" in forks("bcgraph run step.onnx --stream <frames.txt").fault("E090")


def test_libraries_print_nothing_raw(shell: Shell, tiny: Path) -> None:
    """Without a home to write to, matplotlib and onnxruntime have much to say."""
    nowhere = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR"), "/proc/nowhere")
    for line in ("bcgraph draw net.bcg -o net.png", "bcgraph compile net.bcg -o net.onnx"):
        done = shell(line, **nowhere)
        assert done.code == 0
        own = ("note: ", "warning: `", "warning: so the file was proved once more", "net.png: ")
        assert all(text.startswith(own) for text in done.err.splitlines()), done.err


def test_what_libraries_say_is_a_note_of_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("somelibrary.part")
    logging.getLogger("somelibrary").addHandler(logging.StreamHandler())

    def command() -> None:
        adopt("somelibrary")
        for _ in range(2):
            logger.warning("a first line\nand \x1b[31ma second")
            warnings.warn("one more\nthing", UserWarning, stacklevel=1)
            warnings.warn("of no use to anybody", DeprecationWarning, stacklevel=1)

    guarded(command)()
    assert capsys.readouterr().err == "note: somelibrary: a first line\nnote: one more\n"
    assert not logging.getLogger("somelibrary").handlers


@pytest.mark.parametrize("url", ["me:s3cret@host/db", "postgresql//me:s3cret@host/db", "postgresql://me:s3cret"])
def test_a_password_in_what_is_no_storage(forks: Shell, tiny: Path, tmp_path: Path, url: str) -> None:
    done = forks(f"bcgraph search net.bcg --out found --storage {url}")
    assert "s3cret" not in done.fault("E091")
    assert not (tmp_path / "found").exists()
    shutil.rmtree(tmp_path / "found", ignore_errors=True)


@pytest.mark.parametrize(
    ("given", "spins"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "passive"}, None)],
    ids=["nothing", "a number", "a policy"],
)
def test_threads_of_openmp_wait_briefly_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, given: Mapping[str, str], spins: str | None
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "environ", dict(given))
        prepare_libraries()
        assert os.environ.get("GOMP_SPINCOUNT") == spins
        assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
