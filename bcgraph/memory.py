"""Telling that memory has run out from every other failure.

An allocation that fails says nothing about the network that asked for it: with more memory the same call succeeds. So
it is never recorded as a result, and a command ends with a message (E094) that says so.
"""

from __future__ import annotations

import errno
import mmap
import re
import subprocess
import sys
from pathlib import Path

from bcgraph.errors import RunError

# How torch, oneDNN, onnxruntime and the C++ library word it. Torch raises a plain RuntimeError on the CPU.
_WORDS = (
    "allocate memory",
    "not enough memory",
    "out of memory",
    "bad_alloc",
    "bad allocation",
    "could not create a memory",
    "failed to allocate",
    "thread creation failed",
    "can't start new thread",
    # What the loader says of a library for which there is no room.
    "failed to map segment",
)

# oneDNN, where there is no room for the code that it makes; of what it has no code for it says `descriptor` after this.
_NO_ROOM_FOR_CODE = re.compile(r"could not create a primitive(?! descriptor)")

# How Python says that code in C has failed and set no exception. Some does so for want of memory where that is limited;
# elsewhere it is a fault of that code.
_UNSAID = re.compile(r"without (?:an )?exception set|without setting an exception")

# How torch on the CPU, torch on a GPU and numpy say how much they wanted.
_WANTED = (
    re.compile(r"tried to allocate (?P<amount>\d+) (?P<unit>bytes)", re.IGNORECASE),
    re.compile(r"tried to allocate (?P<amount>[\d.]+) (?P<unit>[KMGT]iB)", re.IGNORECASE),
    re.compile(r"unable to allocate (?P<amount>[\d.]+) (?P<unit>[KMGTPE]iB|bytes)", re.IGNORECASE),
)

FAILURES = (MemoryError, RuntimeError, OSError, ImportError)
"""What a failed allocation may be raised as."""


def ran_out(error: BaseException) -> bool:
    """Whether `error`, or what it was raised from, is a failed allocation on the host or on a device."""
    seen: BaseException | None = error
    passed: set[int] = set()
    while seen is not None and id(seen) not in passed:
        passed.add(id(seen))
        if isinstance(seen, MemoryError) or type(seen).__name__ == "OutOfMemoryError":
            return True
        if isinstance(seen, OSError) and seen.errno == errno.ENOMEM:
            return True
        if _may_say_so(seen) and _says_so(str(seen).lower()):
            return True
        if isinstance(seen, SystemError) and _UNSAID.search(str(seen)) and _limited():
            return True
        # Ray wraps what a worker raises.
        seen = getattr(seen, "cause", None) or seen.__cause__
    return False


def _may_say_so(error: BaseException) -> bool:
    """Whether libraries raise such errors for want of memory. Those of onnxruntime have no class in common."""
    return isinstance(error, FAILURES) or type(error).__module__.startswith("onnxruntime.")


def _says_so(text: str) -> bool:
    return any(words in text for words in _WORDS) or _NO_ROOM_FOR_CODE.search(text) is not None


def room(size: int) -> None:
    """Raise MemoryError where `size` bytes cannot be allocated. For libraries that abort the process or hang then."""
    bytearray(size)


class TorchLoader:
    """A finder of modules that refuses torch (MemoryError) where loading it would end the process.

    Where the address space is limited, torch may abort while it is loaded, which no process survives. So another one
    tries first, with as much of the address space in use as here.
    """

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Finds nothing: torch is found by who comes after this one."""
        if name == "torch" and _limited() and not _loads("torch"):
            raise MemoryError("there is no room for torch")


def _limited() -> bool:
    try:
        import resource
    except ImportError:  # not a Unix
        return False
    return resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY


def _loads(module: str) -> bool:
    """Whether another process can load a module under the limits of this one."""
    try:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE
    except (OSError, ValueError):
        used = mmap.PAGESIZE
    program = f"import mmap; taken = mmap.mmap(-1, {used}); import {module}"
    try:
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    except OSError as error:
        return error.errno != errno.ENOMEM
    return done.returncode == 0 or b"No module named" in done.stderr


def exhausted(error: BaseException) -> RunError:
    """The error for `error`, a failed allocation (E094). It says how much was asked for, where the library said it."""
    wanted = _wanted(str(error))
    return RunError(
        "E094",
        "memory has run out" if wanted is None else f"memory has run out: there is no room for {wanted} more",
        hint="a smaller batch needs less; a search or a training run resumes with the same command",
    )


def _wanted(text: str) -> str | None:
    found = next(filter(None, (pattern.search(text) for pattern in _WANTED)), None)
    if found is None:
        return None
    amount, unit = float(found["amount"]), found["unit"]
    for power, name in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if unit == "bytes" and amount >= 2**power:
            amount, unit = amount / 2**power, name
    return f"{amount:,.3g} {unit}" if amount < 1000 else f"{amount:,.0f} {unit}"
