"""Failures that follow from a candidate: the search records the reason and continues with the next candidate.

Everything else that goes wrong while a candidate is evaluated (memory, files, libraries, signals) says nothing about
it. It ends the search, which has recorded every evaluation before it, so that the same command resumes.
"""

from __future__ import annotations

from bcgraph import interrupts
from bcgraph.errors import CompileError, SpecError
from bcgraph.machine import refuses

CANDIDATE_FAILURES = (CompileError, SpecError, ArithmeticError)
"""Errors that a single candidate causes, whatever the machine: its network cannot be compiled or scored."""


def reason_of(error: BaseException) -> str:
    """Why a candidate failed, in one line.

    Raises KeyboardInterrupt for what an interrupt became on its way, and `error` itself where the machine refuses.
    """
    interrupts.check(error)
    if refuses(error):
        raise error
    lines = str(error).strip().splitlines()
    return f"failed: {type(error).__name__}: {lines[0] if lines else 'no message'}"
