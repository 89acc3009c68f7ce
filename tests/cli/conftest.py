"""The command line as its users meet it: its exit code and what it prints."""

from __future__ import annotations

import io
import os
import re
import shutil
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from bcgraph.cli.main import main
from tests import forked

TINY = """bcg 1

network tiny_net {
  input    = image(1, 8, 8)
  steps    = 2
  backbone = tiny(width=4, classes=10)

  backward @4 -> @1
}

data = digits(batch=64)
train { epochs = 4 }
"""


_TIMED = re.compile(r"^(?:scoring the pool|evolution|auditing the scores): \d+/\d+.*\n", re.MULTILINE)

OWN = "note: the connection of the file takes no part in the search; `fixed` in a `space` would keep it\n"
"""What a search of that network says of the connection that stands in it."""


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """Standard error without the lines that come every ten seconds, of which a busy machine prints more."""
        return _TIMED.sub("", self.err)

    def fault(self, code: str) -> str:
        """The message of a command that ended because its input is at fault, with the diagnostic `code`."""
        assert self.code == 1, f"exit code {self.code}\n{self.out}\n{self.err}"
        assert "Traceback" not in self.err
        assert f"error[{code}]" in self.err, self.err
        return self.err


Command = Callable[..., Result]


@pytest.fixture
def process(tmp_path: Path) -> Command:
    """Runs `bcgraph` with arguments in `tmp_path`, as a process of its own (a fork, `tests.forked`)."""

    def run(
        *arguments: str | Path, stdin: bytes = b"", limit_file_size: int | None = None, timeout: float = 300
    ) -> Result:
        done = forked.run(
            [sys.executable, "-m", "bcgraph", *arguments],
            cwd=tmp_path,
            stdin=stdin,
            env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
            timeout=timeout,
            limit_file_size=limit_file_size,
        )
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode())

    return run


@pytest.fixture
def bcgraph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs `bcgraph` in `tmp_path` inside this interpreter, which has paid for torch already.

    What is no `BcgraphError` leaves it as the exception that it is.
    """

    def run(*arguments: str | Path) -> Result:
        out, err = io.StringIO(), io.StringIO()
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["bcgraph", *map(str, arguments)])
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as end:
            main()
        code = end.value.code or 0
        assert isinstance(code, int)
        return Result(code, out.getvalue(), err.getvalue())

    return run


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A small network in a file."""
    path = tmp_path / "net.bcg"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def _trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from bcgraph import parse
    from bcgraph.training import train

    folder = tmp_path_factory.mktemp("trained") / "run"
    train(parse(TINY), out=folder)
    return folder


@pytest.fixture
def trained(tmp_path: Path, _trained: Path) -> Path:
    """The directory of a training of `tiny`, called `run`."""
    return Path(shutil.copytree(_trained, tmp_path / "run"))


def snapshot(directory: Path) -> dict[str, bytes]:
    """Every file under `directory` with its content."""
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}
