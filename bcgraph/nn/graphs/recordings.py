"""The captures of a process: few at a time, whatever programs they are of, with memory from one pool."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Hashable
from functools import cache
from typing import Any

from bcgraph.nn.graphs.capture import Capture, CudaCapture
from bcgraph.process import GENERATORS

LIMIT = 16
"""Captures that are kept. Whole and last batches of training and of evaluation are four."""


class Recordings:
    """Captured calls, by the program that they are of and what tells its calls apart.

    Where there are more than `limit`, the one that was not used for longest is dropped. A program takes its own with it
    when nothing holds it any more. Programs may be called from several threads; `lock` is held during a call.
    """

    def __init__(self, capture: Capture, limit: int = LIMIT) -> None:
        self.capture = capture
        self.limit = limit
        # A capture draws from the global generators and puts them back.
        self.lock = GENERATORS
        self._found: OrderedDict[tuple[int, Hashable], Any] = OrderedDict()

    def register(self, program: object) -> int:
        """A number for a program, under which its calls are kept."""
        number = id(program)
        weakref.finalize(program, self.drop, number)
        return number

    def get(self, program: int, key: Hashable) -> Any:
        """What is kept of a call, as the most recently used; None where there is nothing."""
        found = self._found.get((program, key))
        if found is not None:
            self._found.move_to_end((program, key))
        return found

    def make_room(self) -> None:
        """Drop what one more would be too many for. Before a capture, so that it can have the memory."""
        while len(self._found) >= self.limit:
            self._found.popitem(last=False)

    def keep(self, program: int, key: Hashable, recorded: Any) -> None:
        """Keep what `get` is to give."""
        self._found[program, key] = recorded

    def of(self, program: int) -> list[Hashable]:
        """The keys of a program's calls, the most recently used last."""
        return [key for number, key in list(self._found) if number == program]

    def __len__(self) -> int:
        return len(self._found)

    def drop(self, program: int) -> list[Any]:
        """Drop all that is kept of a program, and give it back."""
        return [self._found.pop((program, key), None) for key in self.of(program)]


@cache
def cuda() -> Recordings:
    """Those of this process's GPUs."""
    return Recordings(CudaCapture())
