"""Compiling and running a C file with the system's compiler."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bcgraph.compiler.targets.c import text
from bcgraph.errors import CompileError

COMPILERS = ("cc", "gcc", "clang")
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")
# A product and a sum as one operation would round differently than torch.
EXACT = ("-O2", "-ffp-contract=off")
MINUTES = 10


def compiler() -> str | None:
    """The C compiler of this machine: what `CC` names, or the first of `COMPILERS`."""
    named = os.environ.get("CC")
    return next((found for name in ([named] if named else COMPILERS) if (found := shutil.which(name))), None)


@dataclass(frozen=True, slots=True)
class Ran:
    """What a network gave: `outputs` `[samples, steps, classes]`, `spikes` `[samples, steps, all ports]`."""

    outputs: NDArray[np.float32]
    spikes: NDArray[np.float32]


def run(
    cc: str,
    folder: Path,
    source: Path,
    prefix: str,
    frames: NDArray[np.float32],
    *,
    flags: Sequence[str] = (*STRICT, *EXACT),
) -> Ran:
    """Compile `source`, whose header lies beside it, in `folder` and run it on `frames` `[samples, steps, C, H, W]`.

    Raises CompileError (E075) where it does not compile or does not end well.
    """
    runner, program = folder / "runner.c", folder / "runner"
    runner.write_bytes(os.fsencode(text.RUNNER.format(source=source.resolve(), prefix=prefix, guard=prefix.upper())))
    call([cc, *flags, str(runner), "-o", str(program), "-lm"], "it does not compile", folder)
    paths = [folder / name for name in ("frames", "outputs", "spikes")]
    np.ascontiguousarray(frames, dtype=np.float32).tofile(paths[0])
    samples, steps = frames.shape[:2]
    call([str(program), *map(str, paths), str(samples), str(steps)], "it does not run", folder)
    outputs, spikes = (np.fromfile(path, dtype=np.float32).reshape(samples, steps, -1) for path in paths[1:])
    return Ran(outputs, spikes)


def code_size(cc: str, folder: Path, source: Path) -> int | None:
    """The bytes of code of `source`, compiled for size on this machine; None where nothing here can tell."""
    tool = shutil.which("size")
    if tool is None:
        return None
    made = folder / "sized.o"
    call([cc, "-std=c99", "-Os", "-c", str(source), "-o", str(made)], "it does not compile", folder)
    asked = [tool, "-A", str(made)]
    found = subprocess.run(asked, capture_output=True, text=True, errors="replace", check=False).stdout
    rows = [line.split() for line in found.splitlines() if line.startswith(".text")]
    return sum(int(row[1]) for row in rows) if rows else None


def call(command: Sequence[str], what: str, folder: Path) -> None:
    """Run a program to its end, whose temporary files lie in `folder`: it is killed when this process is interrupted.

    Raises CompileError (E075) when it fails, and OSError or MemoryError where that is the machine's fault.
    """
    environment = os.environ | dict.fromkeys(("TMPDIR", "TMP", "TEMP"), str(folder))
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=60 * MINUTES,
            check=False,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        raise CompileError("E075", f"the C file cannot be proved: `{command[0]}` ran for {MINUTES} minutes") from None
    if done.returncode:
        _check_machine(done.stderr)
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise CompileError(
            "E075",
            f"the C file cannot be proved: {what}",
            notes=tuple(lines[:3]),
            hint="`CC` names another compiler; this is a fault of the exporter if that one refuses the file too",
        )


def _check_machine(said: str) -> None:
    """Raise OSError or MemoryError where a compiler says that the disk is full, or that memory has run out."""
    for number in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
        if os.strerror(number) in said:
            raise OSError(number, os.strerror(number))
    if any(words in said for words in (os.strerror(errno.ENOMEM), "out of memory", "virtual memory exhausted")):
        raise MemoryError
