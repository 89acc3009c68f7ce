"""Telling what the machine refuses from faults of a network, of a file, or of ours.

A full disk, too many open files or no room for a process say nothing about the network that met them: on another day
the same call succeeds. So they are never recorded as a result, and a command ends with a message that says so.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from bcgraph.errors import RunError, chain
from bcgraph.memory import exhausted, ran_out

# What a full or broken disk answers to who writes.
_UNWRITABLE = frozenset({errno.ENOSPC, errno.EFBIG, errno.EROFS, errno.EIO, getattr(errno, "EDQUOT", errno.ENOSPC)})

# The limits of a user and of the system.
_LIMITS = frozenset({errno.EMFILE, errno.ENFILE, errno.EAGAIN})

# What errors of ours say of the machine, and of what is installed on it.
_CODES = frozenset({"E084", "E092", "E094", "E097"})

# `tempfile`, where none of the usual folders can be written.
_NO_FOLDER = "No usable temporary directory"


def refuses(error: BaseException) -> bool:
    """Whether `error`, or what it was raised because of, is something that the machine refuses."""
    return any(_is_refusal(one) for one in chain(error))


def _is_refusal(error: BaseException) -> bool:
    if ran_out(error) or (isinstance(error, OSError) and _refuses(error)):
        return True
    return isinstance(error, RunError) and error.diagnostics[0].code in _CODES


def refusal(error: BaseException) -> RunError | None:
    """What the machine refuses with `error`, as a message: E094, E084, E097 or, for a path, E001. Else None."""
    if ran_out(error):
        return exhausted(error)
    if not isinstance(error, OSError) or error.errno is None:
        return None
    said = os.strerror(error.errno).lower()
    if error.errno in _UNWRITABLE - {errno.EIO} and error.filename is not None:
        from bcgraph.files import cannot_write  # which a command that ends well may not need

        return cannot_write(os.fsdecode(error.filename), error)
    if error.filename is not None:
        return RunError("E001", f"cannot read {os.fsdecode(error.filename)}: {os.strerror(error.errno)}")
    if error.errno in _UNWRITABLE:
        return RunError("E084", f"a file cannot be written: {said}", hint="free space, and run the same command again")
    if _no_folder(error):
        return RunError(
            "E084", "there is no folder for temporary files that can be written", hint="`TMPDIR` names another"
        )
    if _no_place(error):
        return RunError("E097", "the working directory is gone", hint="change to one that is there")
    if error.errno in _LIMITS:
        return RunError("E097", f"the system refuses more: {said}", hint="`ulimit -a` shows the limits")
    return None


def _refuses(error: OSError) -> bool:
    return error.errno in _UNWRITABLE | _LIMITS or _no_folder(error) or _no_place(error)


def _no_place(error: OSError) -> bool:
    """Whether the working directory was removed, and a path without a root has no meaning."""
    if error.errno != errno.ENOENT or error.filename is not None:
        return False
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False


def _no_folder(error: OSError) -> bool:
    return error.errno == errno.ENOENT and _NO_FOLDER in str(error)
