"""What the machine refuses is no fault of a candidate, and never a traceback."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

import bcgraph
from bcgraph.cli import main
from bcgraph.cli.guard import guarded
from bcgraph.errors import CompileError, RunError, SpecError
from bcgraph.machine import refusal, refuses
from bcgraph.search.metrics.latency import Latencies
from bcgraph.search.records.failures import reason_of
from tests.cli.conftest import TINY


class LibraryError(Exception):
    """As one of onnxruntime's, which have no class in common."""


LibraryError.__module__ = "onnxruntime.capi.onnxruntime_pybind11_state"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MemoryError(), "E094"),
        (
            LibraryError("[ONNXRuntimeError] : 1 : FAIL : Failed to allocate memory"),
            "E094",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), "E084"),
        (OSError(errno.EFBIG, "File too large", "kept.npy"), "E084"),
        (OSError(errno.EMFILE, "Too many open files"), "E097"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "E097"),
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"), "E084"),
    ],
    ids=str,
)
def test_what_the_machine_refuses_is_told_from_faults(
    error: Exception, code: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    assert refuses(error)
    made = CompileError("E075", "the file cannot be run")
    made.__context__ = error
    with pytest.raises(CompileError):
        reason_of(made)
    with pytest.raises(BaseException) as ended:
        guarded(fails)()
    assert getattr(ended.value, "exit_code", None) == 1
    # Before a command begins, too.
    monkeypatch.setattr(main, "_loaded", fails)
    with pytest.raises(SystemExit):
        main._run(["check"])
    assert capsys.readouterr().err.count(f"error[{code}]") == 2


@pytest.mark.parametrize("error", [OSError(errno.EBADF, "Bad file"), LibraryError("Node"), SpecError("E056", "")])
def test_faults_stay_faults(error: Exception) -> None:
    assert refusal(error) is None
    assert reason_of(error).startswith("failed: ")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EMFILE])
def test_a_candidate_is_not_measured_on_a_full_disk(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "write_bytes", fails)
    with pytest.raises(RunError, match=os.strerror(number)[1:]) as found:
        list(Latencies(0)([bcgraph.parse(TINY)]))
    assert found.value.diagnostics[0].code == "E084"


def test_a_working_directory_that_is_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "gone"
    place.mkdir()
    with monkeypatch.context() as here:
        here.chdir(place)
        place.rmdir()
        with pytest.raises(BaseException) as ended:
            guarded(Path("net.bcg").resolve)()
    assert getattr(ended.value, "exit_code", None) == 1
    assert "error[E097]: the working directory is gone" in capsys.readouterr().err


def test_no_folder_for_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> Callable[[], str]:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/gone']")

    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", list)
    monkeypatch.setattr(tempfile, "tempdir", None)
    with pytest.raises(FileNotFoundError) as found:
        list(Latencies(0)([bcgraph.parse(TINY)]))
    assert refuses(found.value)
