"""The rules of backward connections: ports exist, connections run backward, no pair of ports has two (design 1.3).

Each rule is decided here for the language and for specifications built in Python. A rule returns the error, or None
where it holds.
"""

from __future__ import annotations

from collections.abc import Collection

from bcgraph.errors import Span, SpecError, nearest

# Names beyond these are not searched for the nearest one.
_MAX_HINTED = 2_000


def unknown_number(number: int, ports: int, span: Span | None = None) -> SpecError | None:
    """E060 unless there is a port `number` among so many `ports`."""
    if 0 <= number < ports:
        return None
    hint = f"the ports are @0 to @{ports - 1}" if ports else None
    return SpecError("E060", f"there is no port @{number}", span=span, hint=hint)


def unknown_name(name: str, ports: Collection[str], shown: str, span: Span | None = None) -> SpecError | None:
    """E060 unless `name` is one of `ports`; `shown` is the name as the message has it. `ports` are in order."""
    if name in ports:
        return None
    known = list(ports)
    hint = nearest(name, known[:_MAX_HINTED]) if len(name) <= _MAX_HINTED else None
    if hint is None and known:
        hint = f"the ports are `{known[0]}` to `{known[-1]}`"
    return SpecError("E060", f"there is no port `{shown}`", span=span, hint=hint)


def runs_forward(
    source: int, target: int, span: Span | None = None, written: tuple[str, str] | None = None
) -> SpecError | None:
    """E061 unless the source does not come before the target; `written` are both as the text names them."""
    if source >= target:
        return None
    ends = written or (f"@{source}", f"@{target}")
    return SpecError(
        "E061",
        f"port @{source} comes before port @{target}: this runs forward",
        span=span,
        hint=f"did you mean `{ends[1]} -> {ends[0]}`?",
    )


def repeated(source: int, target: int, span: Span | None = None, first: Span | None = None) -> SpecError:
    """E062 for a pair of ports that has a connection already, the one at `first`."""
    hint = "a pair of ports carries at most one backward connection" if first is None else f"the first is at {first}"
    return SpecError("E062", f"the backward connection @{source} -> @{target} is given twice", span=span, hint=hint)
