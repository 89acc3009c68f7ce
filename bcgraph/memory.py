"""Telling that memory has run out from every other failure.

An allocation that fails says nothing about the network that asked for it: with more memory the same call succeeds. So
it is never recorded as a result, and a command ends with a message (E094) that says so.
"""

from __future__ import annotations

import errno
import re

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
    while seen is not None:
        if isinstance(seen, MemoryError) or type(seen).__name__ == "OutOfMemoryError":
            return True
        if isinstance(seen, OSError) and seen.errno == errno.ENOMEM:
            return True
        if isinstance(seen, FAILURES) and _says_so(str(seen).lower()):
            return True
        # Ray wraps what a worker raises.
        seen = getattr(seen, "cause", None) or seen.__cause__
    return False


def _says_so(text: str) -> bool:
    return any(words in text for words in _WORDS) or _NO_ROOM_FOR_CODE.search(text) is not None


def room(size: int) -> None:
    """Raise MemoryError where `size` bytes cannot be allocated. For libraries that abort the process or hang then."""
    bytearray(size)


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
