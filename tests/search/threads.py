"""A number of threads for a test, and for the processes that it starts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bcgraph.nn import defaults


@contextmanager
def threads(number: int) -> Iterator[None]:
    """So many for torch within the block."""
    with defaults.threads(number), pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", str(number))
        yield
