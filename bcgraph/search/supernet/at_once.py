"""How many candidates run at once, side by side along the batch axis, and what happens when that fails."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import torch

from bcgraph import interrupts
from bcgraph.errors import BcgraphWarning
from bcgraph.memory import ran_out
from bcgraph.schema import NetworkSpec
from bcgraph.search.records.failures import CANDIDATE_FAILURES, reason_of
from bcgraph.search.supernet.lowered import Lowered

T = TypeVar("T")
R = TypeVar("R")
S = TypeVar("S")

MOST = 32
"""More candidates at once fill no device better."""

SHARE = 0.8
"""The part of the free memory that candidates may take."""


def fitting(spec: NetworkSpec, element: int = 4) -> int:
    """How many candidates of `spec` the free memory of the GPU takes at once: a power of two, at least 1.

    Scoring takes the most: `init.batch` samples for each candidate, of which gradients keep all values twice, those of
    the backbone and those of the candidate. `element` are the bytes of a number. On the CPU it is 1.
    """
    if not torch.cuda.is_available():
        return 1
    program = Lowered.of(spec.with_connections()).program
    each = 2 * element * spec.search.init.batch * sum(math.prod(v.shape) for v in program.values().values())
    free, _ = torch.cuda.mem_get_info()
    return power_of_two(int(SHARE * free) // max(1, each))


def power_of_two(most: int) -> int:
    """The largest power of two up to `most` and `MOST`, at least 1."""
    return 1 << min(max(1, most), MOST).bit_length() - 1


def lowered_of(
    specs: Sequence[NetworkSpec], lower: Callable[[NetworkSpec], Lowered]
) -> tuple[dict[int, Lowered], dict[int, str]]:
    """By its place in `specs` each network as `lower` gives it, or the reason why it cannot run."""
    lowered: dict[int, Lowered] = {}
    failed: dict[int, str] = {}
    for place, spec in enumerate(specs):
        try:
            lowered[place] = lower(spec)
        except CANDIDATE_FAILURES as error:
            failed[place] = reason_of(error)
    return lowered, failed


Finish: TypeAlias = Callable[[], Sequence[R]]
"""Waits for the device, and gives the results of a group."""

Start: TypeAlias = Callable[[], Finish[R]]
"""Starts the work of a group on the device."""

Prepare: TypeAlias = Callable[[Sequence[T]], Start[R]]
"""Does all for a group of candidates that needs no device, as to compile them."""


def joined(parts: Sequence[Start[R]], join: Callable[[list[Sequence[R]]], Sequence[S]]) -> Start[S]:
    """What starts all `parts`, and makes one result of what they finish with."""

    def start() -> Finish[S]:
        ends = [begin() for begin in parts]
        return lambda: join([end() for end in ends])

    return start


@dataclass(eq=False)
class AtOnce:
    """Runs up to `number` candidates at once. Where memory runs out, half as many from then on, and a warning says so.

    A group that fails in another way runs one by one, so that a failure is that of its candidate alone.
    """

    number: int

    def __call__(self, items: Sequence[T], prepare: Prepare[T, R], one: Callable[[T], R]) -> Iterator[R]:
        """A result for each of `items`, in order and as soon as it is there; `one` takes those that run alone.

        While the device runs one group, the next one is prepared.
        """
        place = 0
        ahead: Start[R] | None = None
        while place < len(items):
            part = items[place : place + self.number]
            if len(part) > 1:
                try:
                    finish = (ahead or prepare(part))()
                    ahead = _prepared(items[place + len(part) :][: self.number], prepare)
                    found = finish()
                except Exception as error:  # a score may raise anything
                    ahead = None
                    if ran_out(error):
                        self._halve()
                        continue
                    _failed(len(part), error)
                else:
                    yield from found
                    place += len(part)
                    continue
            for item in part:
                yield one(item)
            place += len(part)

    def together(
        self,
        items: Sequence[T],
        grouped: Callable[[Sequence[Sequence[T]]], Sequence[R]],
        alone: Callable[[Sequence[T]], Sequence[R]],
    ) -> Sequence[R]:
        """The results of all `items`, in order, by `grouped`, which takes them in groups, or else by `alone`."""
        while self.number > 1 and len(items) > 1:
            try:
                return grouped([items[i : i + self.number] for i in range(0, len(items), self.number)])
            except Exception as error:  # as above
                if not ran_out(error):
                    _failed(len(items), error)
                    break
                self._halve()
        return alone(items)

    def _halve(self) -> None:
        before, self.number = self.number, self.number // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        _warn(f"there is no memory for {before} candidates at once: {self.number} from here on")


def _prepared(part: Sequence[T], prepare: Prepare[T, R]) -> Start[R] | None:
    """What starts the work of a group; None where it cannot be prepared, which is found out again in its turn."""
    if len(part) <= 1:
        return None
    try:
        return prepare(part)
    except Exception as error:
        interrupts.check(error)
        return None


def _failed(number: int, error: Exception) -> None:
    interrupts.check(error)
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    _warn(f"{number} candidates at once failed, and run one by one: {reason}")


def _warn(text: str) -> None:
    warnings.warn(BcgraphWarning(text), stacklevel=3)
