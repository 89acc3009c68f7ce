"""A number of threads for a test, and for the processes that it starts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch


@contextmanager
def threads(number: int) -> Iterator[None]:
    """So many for torch within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OMP_NUM_THREADS", str(number))
            yield
    finally:
        torch.set_num_threads(before)
