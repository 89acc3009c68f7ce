"""The rules of connections: ports exist, connections run the way they say, and no two are alike.

Each rule is decided here for the language and for specifications built in Python. A rule returns the error, or None
where it holds.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from bcgraph.errors import Span, SpecError, nearest
from bcgraph.names import BACKWARD, FORWARD

if TYPE_CHECKING:
    from bcgraph.schema.neuron import Neuron

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


def wrong_way(
    word: str, source: int, target: int, span: Span | None = None, written: tuple[str, str] | None = None
) -> SpecError | None:
    """E061 unless the ports are in the order that `word` says; `written` are both as the text names them."""
    if (source < target) == (word == FORWARD):
        return None
    ends = written or (f"@{source}", f"@{target}")
    if source == target:
        order, other = f"port @{source} cannot come before itself", f"write `{BACKWARD} {ends[0]} -> {ends[1]}`"
    else:
        place, runs = ("before", FORWARD) if source < target else ("after", BACKWARD)
        order = f"port @{source} comes {place} port @{target}: this runs {runs}"
        other = f"did you mean `{ends[1]} -> {ends[0]}`? Or write `{runs} {ends[0]} -> {ends[1]}`"
    return SpecError("E061", order, span=span, hint=other)


def repeated(
    word: str, source: int, target: int, delay: int, span: Span | None = None, first: Span | None = None
) -> SpecError:
    """E062 for ports that have a connection of that delay already, the one at `first`."""
    hint = "two connections between the same ports need different delays"
    return SpecError(
        "E062",
        f"the {word} connection @{source} -> @{target} is given twice with a delay of {delay}",
        span=span,
        hint=hint if first is None else f"{hint}; the first is at {first}",
    )


def unreadable(read: str, neuron: Neuron, span: Span | None = None) -> SpecError | None:
    """E065 unless `read` is what a port of that neuron sends, or another value that its equations name."""
    values = [name for name, _ in neuron.equations.body]
    if read in values:
        return None
    listed = ", ".join(f"`{name}`" for name in values)
    hint = nearest(read, values) or f"it has {listed}"
    return SpecError("E065", f"the neuron `{neuron.name}` of the source has no value `{read}`", span=span, hint=hint)
