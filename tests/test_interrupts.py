"""Ctrl-C is never lost, and never taken for a fault of a library, whichever code it meets."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from bcgraph import files
from bcgraph.cli.guard import guarded
from bcgraph.errors import RunError
from bcgraph.interrupts import heeded, interrupted, kept
from bcgraph.search.records import storage
from bcgraph.search.records.failures import reason_of


@pytest.fixture(autouse=True)
def _python_raises_it(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where tests run in the background, SIGINT is ignored; tests that trained on several devices leave a rank."""
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(5)


class Finalized:
    """Interrupted where Python ignores whatever is raised."""

    def __del__(self) -> None:
        ctrl_c()


def in_a_finalizer() -> None:
    found = Finalized()
    del found
    for _ in range(100):
        time.sleep(0.1)


def in_a_driver() -> None:
    try:
        ctrl_c()
    except KeyboardInterrupt as error:
        raise OperationalError("SELECT 1", None, error) from error


def while_it_closes() -> None:
    try:
        ctrl_c()
    finally:
        raise AssertionError


def in_a_storage() -> None:
    with storage.reachable("postgresql://me:secret@host/db"):
        in_a_driver()


@pytest.mark.parametrize("work", [ctrl_c, in_a_finalizer, in_a_driver, while_it_closes, in_a_storage])
def test_a_command_ends_as_interrupted(
    work: Callable[[], None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["bcgraph", "train", "net.bcg"])
    began = time.monotonic()
    with pytest.raises(BaseException) as ended:
        guarded(work)()
    assert getattr(ended.value, "exit_code", None) == 130
    assert time.monotonic() - began < 5
    assert capsys.readouterr().err == "interrupted; resume with: bcgraph train net.bcg\n"


@pytest.mark.parametrize(
    ("number", "says", "code"), [(signal.SIGTERM, "terminated", 143), (signal.SIGHUP, "the terminal is gone", 129)]
)
def test_other_signals_end_a_command_as_ctrl_c_does(
    number: int,
    says: str,
    code: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def work() -> None:
        with files.writing(tmp_path / "net.onnx"):
            assert len(list(tmp_path.iterdir())) == 1
            # Unhandled, it would end the process of the tests.
            assert signal.getsignal(number) is not signal.SIG_DFL
            os.kill(os.getpid(), number)
            time.sleep(5)

    monkeypatch.setattr(sys, "argv", ["bcgraph", "compile", "net.bcg"])
    with pytest.raises(BaseException) as ended:
        guarded(work)()
    assert getattr(ended.value, "exit_code", None) == code
    assert capsys.readouterr().err == f"{says}; start again with: bcgraph compile net.bcg\n"
    assert not list(tmp_path.iterdir())
    assert signal.getsignal(number) is signal.SIG_DFL


def test_a_second_signal_does_not_end_what_the_first_began(capsys: pytest.CaptureFixture[str]) -> None:
    removed = []

    def work() -> None:
        try:
            ctrl_c()
        finally:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                os.kill(os.getpid(), number)
                time.sleep(0.02)
                removed.append(number)

    with pytest.raises(BaseException) as ended:
        guarded(work)()
    assert getattr(ended.value, "exit_code", None) == 130
    assert len(removed) == 3
    assert capsys.readouterr().err.startswith("interrupted; ")


def test_a_signal_that_a_library_has_taken(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        own = signal.getsignal(signal.SIGTERM)
        with kept():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        assert signal.getsignal(signal.SIGTERM) is own
        with pytest.raises(SystemExit), kept():
            sys.exit("of its own")
        with kept():
            signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)

    with pytest.raises(BaseException) as ended:
        guarded(work)()
    assert getattr(ended.value, "exit_code", None) == 143
    assert capsys.readouterr().err.startswith("terminated; ")


PROGRAM = """
import atexit, os, signal, sys
from importlib import abc
from bcgraph import __main__ as program

class Slow(abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == {interrupted!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Slow())
if not {interrupted!r}:
    atexit.register(os.kill, os.getpid(), signal.SIGINT)
sys.argv = ["bcgraph", "--version"]
program.main()
"""


@pytest.mark.parametrize(("interrupted", "code"), [("bcgraph.cli.guard", 130), (None, -signal.SIGINT)])
def test_an_interrupt_before_or_after_a_command_is_quiet(interrupted: str | None, code: int) -> None:
    program = PROGRAM.format(interrupted=interrupted)
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (code, "")


def test_other_errors_stay_what_they_are() -> None:
    def work() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        guarded(work)()
    with pytest.raises(RunError, match="refused"), storage.reachable(None):
        raise OSError("refused")


def test_no_failure_of_a_candidate() -> None:
    with pytest.raises(AssertionError) as ended:
        while_it_closes()
    assert interrupted(ended.value)
    with pytest.raises(KeyboardInterrupt):
        reason_of(ended.value)
    assert reason_of(ArithmeticError("not finite")) == "failed: ArithmeticError: not finite"


def test_a_ring_of_causes_ends() -> None:
    first, second = ValueError(), ValueError()
    first.__cause__, second.__context__ = second, first
    assert not interrupted(first)


def test_what_else_is_ignored_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __del__(self) -> None:
            raise ZeroDivisionError

    seen: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda found: seen.append(found.exc_type))
    with heeded():
        Broken()
        gc.collect()
    assert seen == [ZeroDivisionError]
