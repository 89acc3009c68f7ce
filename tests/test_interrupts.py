"""Ctrl-C is never lost, and never taken for a fault of a library, whichever code it meets."""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from bcgraph import files, interrupts
from bcgraph.cli.guard import guarded
from bcgraph.errors import RunError
from bcgraph.interrupts import apart, heeded, interrupted
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


def _library(done: list[str]) -> str:
    """Takes a while, and would be broken by what is raised in it."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
    time.sleep(0.2)
    done.append("whole")
    return "found"


def test_no_interrupt_meets_a_library_that_is_called_apart(capsys: pytest.CaptureFixture[str]) -> None:
    done: list[str] = []

    def work() -> None:
        with apart() as call:
            assert call(lambda: "found") == "found"
            with pytest.raises(ZeroDivisionError):
                call(lambda: 1 // 0)
            # One thread for all calls: what some libraries start ends with the thread that has started it.
            assert call(threading.get_ident) == call(threading.get_ident) != threading.get_ident()
            try:
                call(partial(_library, done))
            finally:
                done.append(call(lambda: "ended"))

    with pytest.raises(BaseException) as ended:
        guarded(work)()
    assert getattr(ended.value, "exit_code", None) == 143
    assert done == ["whole", "ended"]
    assert capsys.readouterr().err.startswith("terminated; ")


def test_signals_that_a_library_takes_for_itself_are_given_back_at_once() -> None:
    libc = ctypes.CDLL(None)

    def take() -> bool:
        libc.signal(signal.SIGTERM, None)  # by default a process ends
        time.sleep(0.2)
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        return True

    with heeded(), apart() as call:
        own = signal.getsignal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            call(take)
        assert signal.getsignal(signal.SIGTERM) is own


def test_a_library_that_does_not_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "_PATIENCE", 0.1)
    ends = threading.Event()

    def hangs() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        ends.wait(20)

    began = time.monotonic()
    with heeded(), apart() as call, pytest.raises(KeyboardInterrupt):
        call(hangs)
    assert time.monotonic() - began < 10
    ends.set()


def test_in_another_thread_a_library_is_called_there() -> None:
    found: list[bool] = []

    def work() -> None:
        with apart() as call:
            found.append(call(threading.get_ident) == threading.get_ident())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [True]


MODULE = """
import os, signal, time
import {folder}
try:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.3)
    {folder}.loaded.append("whole")
except KeyboardInterrupt:
    {folder}.loaded.append("broken")
    raise
"""


@pytest.mark.parametrize(("patience", "seen"), [(10.0, ["whole"]), (0.0, ["broken"])])
def test_a_signal_waits_until_modules_are_loaded(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    patience: float,
    seen: list[str],
) -> None:
    (tmp_path / "half_loaded").mkdir()
    (tmp_path / "half_loaded" / "__init__.py").write_text("loaded = []\n")
    (tmp_path / "half_loaded" / "slow.py").write_text(MODULE.format(folder="half_loaded"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(interrupts, "LOADING", patience)
    monkeypatch.setattr(sys, "argv", ["bcgraph", "train", "net.bcg"])
    package = importlib.import_module("half_loaded")

    def work() -> None:
        importlib.import_module("half_loaded.slow")
        time.sleep(5)

    with pytest.raises(BaseException) as ended:
        guarded(work)()
    for name in ("half_loaded", "half_loaded.slow"):
        sys.modules.pop(name, None)
    assert getattr(ended.value, "exit_code", None) == 143
    assert package.loaded == seen
    assert capsys.readouterr().err == "terminated; resume with: bcgraph train net.bcg\n"


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
