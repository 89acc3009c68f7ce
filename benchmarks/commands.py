"""Processor seconds of every command on a small network, here and in another checkout, in turns.

    python -m benchmarks.commands /path/to/other/.venv/bin/python

The other interpreter runs the bcgraph that is installed there. Commands that one of them lacks are left out. The last
rows are what no command can save, and what none that needs torch can: a command of typer that does nothing (typer
checks its arguments by pydantic, and loads it), and the import of torch.
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

NETWORK = """bcg 1

network small {
  input    = image(1, 8, 8)
  steps    = 2
  backbone = tiny(width=4, classes=10)

  backward @3 -> @3
}

data = digits(batch=64)
train { epochs = 1 }
search {
  init     { pool = 4; keep = 2 }
  supernet { epochs = 1 }
  evolve   { iterations = 1; top = 2; population = 2; offspring = 1 }
}
"""

BARE = {
    "an empty command of typer": """\
import typer
app = typer.Typer(add_completion=False)
@app.command()
def empty(files: list[str] = (), as_json: bool = False) -> None: ...
app()
""",
    "python -c 'import torch'": "import torch",
}

COMMANDS = (
    "--help",
    "plugins",
    "schema",
    "fmt --check net.bcg",
    "check net.bcg",
    "show net.bcg",
    "draw net.bcg -o net.svg",
    "data",
    "explain E061",
    "score net.bcg",
    "profile net.bcg",
    "compile net.bcg -o net.onnx",
    "run net.onnx --data digits",
    "train net.bcg --out run",
    "eval run",
    "search net.bcg --out found",
    "report found",
)


def spent(python: str, arguments: Sequence[str], folder: Path) -> float | None:
    """Processor seconds of a process and its children; None where it fails."""
    # Users have compiled modules; where none may be written, each command would compile all of them again.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [python, *arguments],
        cwd=folder,
        env={**environment, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        return None
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def measured(python: str, line: str, folder: Path) -> float | None:
    """The seconds of a command; what a resumable one left before is removed."""
    for run in ("run", "found"):
        if line.endswith(f"--out {run}"):
            shutil.rmtree(folder / run, ignore_errors=True)
    return spent(python, ["-m", "bcgraph", *line.split()], folder)


def main(other: str, rounds: int = 5) -> None:
    pythons = {"here": sys.executable, "other": other}
    print(f"{'command':32s} {'here':>8s} {'other':>8s} {'ratio':>7s}")
    with tempfile.TemporaryDirectory() as root:
        folders = {name: Path(root) / name for name in pythons}
        for folder in folders.values():
            folder.mkdir()
            (folder / "net.bcg").write_text(NETWORK)
        for line in COMMANDS:
            found: dict[str, list[float]] = {name: [] for name in pythons}
            for _ in range(rounds):
                for name, python in pythons.items():
                    seconds = measured(python, line, folders[name])
                    found[name] += [] if seconds is None else [seconds]
            _show(line, found)
        for line, program in BARE.items():
            bare: dict[str, list[float]] = {name: [] for name in pythons}
            for _ in range(rounds):
                for name, python in pythons.items():
                    seconds = spent(python, ["-c", program], Path(root))
                    bare[name] += [] if seconds is None else [seconds]
            _show(line, bare)


def _show(line: str, found: dict[str, list[float]]) -> None:
    here, other = (statistics.median(found[name]) if found[name] else None for name in ("here", "other"))
    shown = [f"{v:8.2f}" if v is not None else f"{'-':>8s}" for v in (here, other)]
    ratio = f"{here / other:7.2f}" if here is not None and other is not None else ""
    print(f"{line:32s} {' '.join(shown)} {ratio}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
