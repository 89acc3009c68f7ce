"""Telling that memory has run out from every other failure.

An allocation that fails says nothing about the network that asked for it: with more memory the same call succeeds. So
it is never recorded as a result, and a command ends with a message (E094) that says so.
"""

from __future__ import annotations

import errno

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
        if isinstance(seen, FAILURES) and any(words in str(seen).lower() for words in _WORDS):
            return True
        # Ray wraps what a worker raises.
        seen = getattr(seen, "cause", None) or seen.__cause__
    return False


def exhausted(error: BaseException) -> RunError:
    """The error for `error`, a failed allocation (E094)."""
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return RunError(
        "E094",
        f"memory has run out: {first[:160]}",
        hint="a smaller batch needs less; a search or a training run resumes with the same command",
    )
