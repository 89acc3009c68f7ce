"""Ctrl-C: exit code 130, the line that resumes, and a run that ends as if nothing had happened."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Command


def interrupt(arguments: list[str], cwd: Path, after: Path) -> tuple[int, str]:
    """Send SIGINT once the file `after` is there; the exit code and standard error."""
    # Where the tests run in the background, SIGINT is ignored, and a process would inherit that.
    process = subprocess.Popen(
        [sys.executable, "-m", "bcgraph", *arguments],
        cwd=cwd,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        return _interrupted(process, cwd / after)
    finally:
        process.kill()


def _interrupted(process: subprocess.Popen[bytes], after: Path) -> tuple[int, str]:
    limit = time.monotonic() + 120
    while not after.exists() and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.02)
    assert process.poll() is None, "it ended too early"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    return process.returncode, err.decode()


@pytest.mark.slow
def test_training_goes_on_to_the_same_weights(process: Command, tiny: Path, tmp_path: Path) -> None:
    arguments = ["train", "net.bcg", "--out", "run", "--epochs", "4"]
    code, err = interrupt(arguments, tmp_path, Path("run/state.safetensors"))
    assert code == 130
    assert err.endswith("interrupted; resume with: bcgraph train net.bcg --out run --epochs 4\n")
    # Each in a process of its own, as a user has it: this one has run other tests.
    assert process(*arguments).code == 0
    assert process("train", "net.bcg", "--out", "whole", "--epochs", "4").code == 0
    assert (tmp_path / "run/last.safetensors").read_bytes() == (tmp_path / "whole/last.safetensors").read_bytes()


MODULE = """
import sys
from bcgraph.cli import main
from bcgraph.cli.commands import check

def interrupted(asked=None):
    exec("raise KeyboardInterrupt")

%s = interrupted
sys.argv = ["bcgraph", "check"]
main.main()
"""


@pytest.mark.parametrize("where", ["check.check_command", "main.build"])
def test_an_interrupt_in_code_made_from_a_string_has_the_same_exit_code(where: str, tmp_path: Path) -> None:
    """As when an import is making a dataclass: CPython would end a module by the signal, caught or not."""
    (tmp_path / "interrupted.py").write_text(MODULE % where)
    ended = subprocess.run([sys.executable, "-m", "interrupted"], cwd=tmp_path, capture_output=True, check=False)
    assert ended.returncode == 130
