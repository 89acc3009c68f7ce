"""The global generators of Python, numpy and torch, for what draws from them: set by a key, and given back."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from bcgraph.process import GENERATORS


def seed(key: int) -> None:
    """Seed the generators that transforms draw from."""
    random.seed(key)
    np.random.seed(key % 2**32)
    torch.default_generator.manual_seed(key % 2**63)


@contextmanager
def restored() -> Iterator[None]:
    """Restores the generators on exit; other threads that draw within such a block wait."""
    with GENERATORS, torch.random.fork_rng(devices=[]):
        states = random.getstate(), np.random.get_state()
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
