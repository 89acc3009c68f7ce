"""Failures that concern one candidate: the search records the reason and continues with the next candidate."""

from __future__ import annotations

from bcgraph.errors import BcgraphError

CANDIDATE_FAILURES = (BcgraphError, RuntimeError, ArithmeticError, MemoryError)
"""Errors that a single candidate may cause. Any other error is a bug of ours and ends the search."""


def reason_of(error: BaseException) -> str:
    """Why a candidate failed, in one line."""
    lines = str(error).strip().splitlines()
    return f"failed: {type(error).__name__}: {lines[0] if lines else 'no message'}"
