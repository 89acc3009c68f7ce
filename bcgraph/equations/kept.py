"""What a forward pass keeps for its backward pass: the fewest values from which those that it reads can be computed.

That is a minimum cut of the flat code, between current and states on one side and what the backward pass reads on the
other, where each value costs one tensor.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection

from bcgraph.equations.flat import Flat, Line

# In equal numbers, current and states are kept rather than what would have to be written beside them.
_INPUT, _COMPUTED = 100, 101
_ENDLESS = 1_000_000


def kept(forward: Flat, wanted: Collection[str]) -> tuple[str, ...]:
    """The values to keep, so that every one of `wanted` follows from them, in the order of the code."""
    free = set(forward.uniform)
    lines = {line.name: line for line in forward.lines}
    capacity: dict[tuple[str, str], int] = {}
    following: dict[str, set[str]] = defaultdict(set)

    def edge(start: str, end: str, size: int) -> None:
        capacity[start, end] = capacity.get((start, end), 0) + size
        capacity.setdefault((end, start), 0)
        following[start].add(end)
        following[end].add(start)

    for key in (*forward.inputs, *lines):
        edge(f"in {key}", f"out {key}", _INPUT if key in forward.inputs else _COMPUTED)
    for key in forward.inputs:
        edge("source", f"in {key}", _ENDLESS)
    for name, line in lines.items():
        for read in line.reads:
            if read not in free:
                edge(f"out {read}", f"in {name}", _ENDLESS)
    for key in wanted:
        if key not in free:
            edge(f"out {key}", "sink", _ENDLESS)
    while (path := _path(capacity, following)) is not None:
        room = min(capacity[step] for step in path)
        for start, end in path:
            capacity[start, end] -= room
            capacity[end, start] += room
    reached = _reached(capacity, following)
    order = (*forward.inputs, *lines)
    return tuple(key for key in order if f"in {key}" in reached and f"out {key}" not in reached)


def recomputed(forward: Flat, held: Collection[str], wanted: Collection[str]) -> tuple[Line, ...]:
    """The lines that compute `wanted` from the values in `held`, uniform values left out."""
    needed = set(wanted)
    found: list[Line] = []
    for line in reversed(forward.lines):
        if line.name in needed and line.name not in held:
            found.append(line)
            needed.update(line.reads)
    return tuple(reversed(found))


def _path(capacity: dict[tuple[str, str], int], following: dict[str, set[str]]) -> list[tuple[str, str]] | None:
    """A shortest way from source to sink with room left on every edge."""
    before: dict[str, str] = {"source": ""}
    waiting = deque(["source"])
    while waiting:
        here = waiting.popleft()
        if here == "sink":
            path = []
            while before[here]:
                path.append((before[here], here))
                here = before[here]
            return path[::-1]
        for there in sorted(following[here]):
            if there not in before and capacity[here, there] > 0:
                before[there] = here
                waiting.append(there)
    return None


def _reached(capacity: dict[tuple[str, str], int], following: dict[str, set[str]]) -> set[str]:
    found = {"source"}
    waiting = ["source"]
    while waiting:
        here = waiting.pop()
        for there in following[here]:
            if there not in found and capacity[here, there] > 0:
                found.add(there)
                waiting.append(there)
    return found
