"""The members of a search space that a file describes, and the rules that such a space keeps.

A member is one possible connection. Everything here follows from the specification, without torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib import import_module
from itertools import product
from math import prod
from typing import Any, NamedTuple, TypeAlias, TypeVar

from bcgraph import connections, keys, names, projections, shapes
from bcgraph.errors import SpecError
from bcgraph.schema import (
    Backbone,
    BackwardConnection,
    Connection,
    ForwardConnection,
    InputSpec,
    NetworkSpec,
    NeuronLayer,
    Through,
    walk,
)
from bcgraph.schema.search import Rule, SpaceSpec

MAX_MEMBERS = 200_000
"""Members that a space may have: they are listed, sets of them are not."""

T = TypeVar("T")

Slot: TypeAlias = tuple[int, int, int]
"""Source, target and delay of a connection: a network has at most one connection of each."""


class Member(NamedTuple):
    """One possible connection, in plain values, so that logs can hold it.

    `through` is the call of its projection as it is written, "" for the network's `feedback`. It runs forward where the
    source comes before the target.
    """

    source: int
    target: int
    delay: int = 1
    through: str = ""
    join: str = "add"
    read: str = "s"

    @property
    def slot(self) -> Slot:
        """Members with the same slot cannot stand together."""
        return self[:3]

    @property
    def forward(self) -> bool:
        """Whether it runs forward."""
        return self.source < self.target

    @property
    def notes(self) -> str:
        """What it is made of beside its ports, where that is not the default: `delay 2, project(kernel=3)`."""
        found = [f"delay {self.delay}"] if self.delay != 1 else []
        return ", ".join([*found, *(v for v in self[3:] if v not in ("", "add", "s"))])

    def __str__(self) -> str:
        """As a file has it, by number."""
        given = zip(self._fields[2:], self[2:], strict=True)
        found = [f"{name} = {value}" for name, value in given if value != self._field_defaults[name]]
        settings = f" {{ {'; '.join(found)} }}" if found else ""
        return f"@{self.source} -> @{self.target}{settings}"


@dataclass(frozen=True, eq=False)
class Space:
    """The space of a file: its members, sorted, without those in the slot of a fixed one, and the fixed ones, sorted.

    `at_most` members may stand beside the fixed ones.
    """

    members: tuple[Member, ...]
    fixed: tuple[Member, ...]
    at_most: int

    @cached_property
    def names(self) -> Mapping[Member, str]:
        """The names of the members' projections where all stand side by side, as the weights of a supernet do.

        The first one of two ports has the name that it has alone, `backward.4_0`, the others are numbered.
        """
        found: dict[Member, str] = {}
        count: Counter[tuple[int, int]] = Counter()
        for each in sorted((*self.members, *self.fixed)):
            count[each[:2]] += 1
            found[each] = _name(each, count[each[:2]])
        return found


def space(spec: NetworkSpec) -> Space:
    """The space that the file of `spec` describes. Raises ValueError where it describes none."""
    if spec.search.space is None:
        raise ValueError("the search has no space of its own")
    return _listed(_Asked.of(spec))


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the members of a space follow from; `spec` is a network that has it."""

    space: SpaceSpec | None
    same_resolution: bool
    target: str
    backbone: Backbone
    fed: InputSpec
    feedback: Through
    spec: NetworkSpec = field(compare=False)

    @staticmethod
    def of(spec: NetworkSpec) -> _Asked:
        """The question for the space of `spec`."""
        search = spec.search
        asked = (search.space, search.same_resolution, search.target, spec.backbone, spec.input, spec.feedback)
        return _Asked(*asked, spec)


@lru_cache(maxsize=16)
def _listed(asked: _Asked) -> Space:
    spec = asked.spec
    return Space(_members(spec), _fixed(spec), _space(spec).at_most)


def _name(member: Member, number: int = 1) -> str:
    """The name of the projection that is the only one between its ports, or one of several with a number from 1."""
    word = names.FORWARD if member.forward else names.BACKWARD
    return names.projection(member.source, member.target, word=word, member=number)


def shared_names(spec: NetworkSpec) -> Mapping[str, str]:
    """For each connection of a network the name of its projection among those of all members of the space.

    In the paper's space both are the same. A connection that is no member has a name of its own.
    """
    prefixes = spec.prefixes()
    if spec.search.space is None:
        return {prefix: prefix for prefix in prefixes.values()}
    of = space(spec).names
    found = {}
    for each in spec.connections:
        key = member(each, spec)
        found[prefixes[each]] = of.get(key) or f"{_name(key)}_x{keys.derive(0, 'member', str(key)):x}"
    return found


def inherited(values: Mapping[str, T], spec: NetworkSpec) -> dict[str, T]:
    """Of the values of a supernet by name those of the network `spec`, by their standard names."""
    return names.of_network(values, {there: here for here, there in shared_names(spec).items()})


def _members(spec: NetworkSpec) -> tuple[Member, ...]:
    space = _space(spec)
    held = {member.slot for member in _fixed(spec)}
    found: set[Member] = set()
    forbidden = space.of("forbid")
    for family in space.of("backward", "forward"):
        found.update(
            m for m in _expand(family, spec) if m.slot not in held and not any(_matches(m, r, spec) for r in forbidden)
        )
    if spec.search.target != "any":
        reason = _limits(spec).reasons(spec)
        found = {each for each in found if reason(connection(each, spec)) is None}
    return tuple(sorted(found))


def _limits(spec: NetworkSpec) -> Any:
    """What the target that the search is for says of its limits: the module `limits` of its package."""
    return import_module(f"bcgraph.compiler.targets.{spec.search.target}.limits")


def _fixed(spec: NetworkSpec) -> tuple[Member, ...]:
    return tuple(sorted(member for rule in _space(spec).of("fixed") for member in _expand(rule, spec)))


def projections_of(spec: NetworkSpec) -> Mapping[str, Through | None]:
    """What `Member.through` stands for, by its text."""
    found: dict[str, Through | None] = {"": None}
    for rule in _space(spec).rules:
        found.update((_text(each, spec), each) for each in rule.through if _text(each, spec))
    return found


def wired(spec: NetworkSpec, chosen: Sequence[Member], gain: float | None = None) -> NetworkSpec:
    """The network with exactly these members as its connections, each with that gain where one is given.

    Raises KeyError for one of another space.
    """
    known = projections_of(spec)
    made: dict[bool, list[Any]] = {False: [], True: []}
    for each in chosen:
        made[each.forward].append(_connection(each, known, gain))
    return spec.with_connections(made[False], made[True])


def connection(member: Member, spec: NetworkSpec) -> Connection:
    """The connection that a member stands for. Raises KeyError for a member of another space."""
    return _connection(member, projections_of(spec))


def _connection(each: Member, known: Mapping[str, Through | None], gain: float | None = None) -> Connection:
    kind = ForwardConnection if each.forward else BackwardConnection
    literal: Any = each.join
    return kind(each.source, each.target, each.delay, gain, through=known[each.through], join=literal, read=each.read)


class Together(NetworkSpec):
    """A network in which members of its space stand side by side, also those that a network of the space has one of.

    Their projections have the names that they have among all members.
    """

    @staticmethod
    def of(spec: NetworkSpec) -> Together:
        """`spec` without connections."""
        return Together(**(dict(spec.__dict__) | {"backward": (), "forward": ()}))

    def _sole(self, connection: Connection) -> Hashable:
        return connection

    def prefixes(self) -> dict[Connection, str]:
        """For each connection the beginning of its parameters' names: `backward.4_0_m2`."""
        of = space(self).names
        return {each: of[member(each, self)] for each in self.in_order}


def member(connection: Connection, spec: NetworkSpec) -> Member:
    """The member that a connection of a network is, whatever its gain is."""
    through = "" if connection.through is None else _text(connection.through, spec)
    return Member(*connection.key, through, connection.join, connection.read)


def _space(spec: NetworkSpec) -> SpaceSpec:
    found = spec.search.space
    assert found is not None, "the search has no space of its own"
    return found


def _text(projection: Through, spec: NetworkSpec) -> str:
    """How a member's `through` names a projection."""
    return "" if projection == spec.feedback else str(projection)


def _expand(rule: Rule, spec: NetworkSpec) -> Iterator[Member]:
    """The members of a family, or the one that a `fixed` line names."""
    texts = [_text(each, spec) for each in rule.through] or [""]
    for source, target in _pairs(rule, spec):
        for delay, through, join, read in product(
            rule.delay or (1,), texts, rule.join or ("add",), rule.read or ("s",)
        ):
            yield Member(source, target, delay, through, join, read)


def _pairs(rule: Rule, spec: NetworkSpec) -> Iterator[tuple[int, int]]:
    """The pairs of ports of a rule, source and target."""
    sizes = shapes.in_common(spec)
    ports = range(len(spec.ports))
    for source in ports if rule.source == "any" else (rule.source,):
        for target in ports if isinstance(rule.target, str) else (rule.target,):
            if _runs(rule, source, target) and (rule.kind == "fixed" or sizes[source] == sizes[target]):
                yield source, target


def _runs(rule: Rule, source: int, target: int) -> bool:
    """Whether a connection between these ports runs as the rule says."""
    forward = source < target
    return {"backward": not forward, "forward": forward}.get(rule.kind, True)


def _matches(member: Member, rule: Rule, spec: NetworkSpec) -> bool:
    """Whether a `forbid` line takes this member out."""
    return (
        rule.source in ("any", member.source)
        and (rule.target in ("any", member.target) or (rule.target == "later" and member.forward))
        and (not rule.delay or member.delay in rule.delay)
        and (not rule.through or member.through in [_text(each, spec) for each in rule.through])
        and (not rule.join or member.join in rule.join)
        and (not rule.read or member.read in rule.read)
    )


def check(spec: NetworkSpec) -> Iterator[SpecError]:
    """What in the space of `spec` cannot be: ports that are not there, lines without effect, contradictions (E066)."""
    if spec.search.space is None:
        return
    space = spec.search.space
    unknown = [error for rule in space.rules for error in _wrong_ends(rule, spec)]
    if unknown:
        yield from unknown
        return
    total = 0
    for rule in space.of("backward", "forward"):
        total += sum(1 for _ in _pairs(rule, spec)) * prod(max(1, len(v)) for v in _lists(rule))
        if total > MAX_MEMBERS:
            yield SpecError(
                "E066",
                f"the space has more than {MAX_MEMBERS:,} possible connections",
                span=rule.span,
                hint="name ports instead of `any`, or fewer delays",
            )
            return
    yield from _fixed_errors(space, spec)
    misfits = [error for rule in space.rules if rule.kind != "forbid" for error in _misfits(rule, spec)]
    if misfits:
        yield from misfits
        return
    if spec.search.target != "any":
        unsaid = list(_beyond(space, spec))
        if unsaid:
            yield from unsaid
            return
    left = set(_members(spec))
    for rule in space.of("backward", "forward"):
        of_rule = set(_expand(rule, spec))
        if not of_rule:
            yield SpecError("E066", f"`{line(rule)}` matches no connection", span=rule.span, hint=_none(rule))
        elif not of_rule & left:
            words = ["`forbid`", "`fixed`", *([f"`for = {spec.search.target}`"] if spec.search.target != "any" else [])]
            yield SpecError(
                "E066",
                f"{', '.join(words[:-1])} and {words[-1]} leave nothing of `{line(rule)}`",
                span=rule.span,
                hint="leave the line out, or forbid less",
            )
    if not space.of("backward", "forward", "fixed"):
        hint = "write `backward any -> any`, for example; without a `space` the search takes the paper's"
        yield SpecError("E066", "the space is empty: it names no connection", hint=hint)
    elif space.at_most == 0 and not space.of("fixed"):
        yield SpecError("E066", "the space is empty: `at_most = 0` and nothing is fixed", hint="`at_most = 2`")


def _beyond(space: SpaceSpec, spec: NetworkSpec) -> Iterator[SpecError]:
    """What the target of the search cannot carry of the backbone and of the connections that are always there."""
    limits, target = _limits(spec), spec.search.target
    for said in limits.backbone(spec):
        message = f"a search for {target} finds nothing that can be written: {said}"
        yield SpecError("E066", message, hint="another backbone, or leave `for` out")
    reason = limits.reasons(spec)
    for rule in space.of("fixed"):
        for each in _expand(rule, spec):
            said = reason(connection(each, spec))
            if said is not None:
                message = f"`{line(rule)}` is fixed, but {target} cannot carry it: {said}"
                yield SpecError("E066", message, span=rule.span, hint="leave the line or `for` out")


def notes(spec: NetworkSpec) -> Iterator[str]:
    """What a user should know about the space of `spec`: connections that take no part, delays that never act."""
    left = set(spec.connections) if spec.search.space is None else {
        each for each in spec.connections if member(each, spec) not in space(spec).fixed
    }  # fmt: skip
    if len(left) == 1:
        yield "the connection of the file takes no part in the search; `fixed` in a `space` would keep it"
    elif left:
        number = len(left)
        yield f"the {number} connections of the file take no part in the search; `fixed` in a `space` would keep them"
    yield from idle_delays(spec)


def idle_delays(spec: NetworkSpec) -> Iterator[str]:
    """A note on each delay of `spec` and of its space that is longer than the network runs."""
    rules = () if spec.search.space is None else spec.search.space.rules
    searched = {d for rule in rules if rule.kind != "forbid" for d in rule.delay}
    for delay in sorted(searched | {each.delay for each in spec.connections}):
        if delay >= spec.steps:
            yield f"a delay of {delay} never acts: the network runs {spec.steps} steps"


def line(rule: Rule, ports: Sequence[str] | None = None) -> str:
    """A line of a space as a file has it, without its settings; by name where `ports` are given."""
    ends = [e if isinstance(e, str) else f"@{e}" if ports is None else ports[e] for e in (rule.source, rule.target)]
    return f"{rule.kind} {ends[0]} -> {ends[1]}"


def _lists(rule: Rule) -> tuple[tuple[object, ...], ...]:
    return rule.delay, rule.through, rule.join, rule.read


def _wrong_ends(rule: Rule, spec: NetworkSpec) -> Iterator[SpecError]:
    for end in (rule.source, rule.target):
        if isinstance(end, int):
            error = connections.unknown_number(end, len(spec.ports), rule.span)
            if error is not None:
                yield error
    if rule.target == "later" and rule.kind not in ("forward", "forbid"):
        message = f"`later` is a target of `forward`, not of `{rule.kind}`"
        yield SpecError("E066", message, span=rule.span, hint="write `any`")
    backward = rule.kind == "backward" or (rule.kind == "fixed" and _backward(rule))
    if 0 in rule.delay and backward:
        message = "a delay of 0 steps is not possible"
        yield SpecError("E063", message, span=rule.span, hint="a backward connection has a delay of 1 to 1000")


def _backward(rule: Rule) -> bool:
    return isinstance(rule.source, int) and isinstance(rule.target, int) and rule.source >= rule.target


def _misfits(rule: Rule, spec: NetworkSpec) -> Iterator[SpecError]:
    """A projection of a line that does not fit all its pairs, and a value that not all its sources have."""
    ports = [projections.as_map(shape) for shape in shapes.ports(spec.backbone, spec.input)]
    pairs = list(_pairs(rule, spec))
    for through in rule.through:
        for source, target in sorted({(ports[j], ports[i]) for j, i in pairs}):
            body = through.layers(source, target, spec.norm)
            error = (
                projections.misfit(through, source, target, rule.span)
                if body is None
                else projections.fits(body, source, target, rule.span)
            )
            if error is not None:
                yield error
                break
    neurons = [layer.neuron for layer in walk(spec.backbone.body) if isinstance(layer, NeuronLayer)]
    for read in rule.read:
        for neuron in dict.fromkeys(neurons[source] for source, _ in pairs):
            unknown = connections.unreadable(read, neuron, rule.span)
            if unknown is not None:
                yield unknown
                break


def _none(rule: Rule) -> str:
    return (
        "a backward connection ends at its source or before it"
        if rule.kind == "backward"
        else "a forward connection ends after its source"
    )


def _fixed_errors(space: SpaceSpec, spec: NetworkSpec) -> Iterator[SpecError]:
    seen: dict[Slot, Rule] = {}
    for rule in space.of("fixed"):
        if "any" in (rule.source, rule.target) or any(len(values) > 1 for values in _lists(rule)):
            message = f"`{line(rule)}` is not one connection"
            yield SpecError("E066", message, span=rule.span, hint="`fixed` names two ports, and one value of each")
            continue
        for found in _expand(rule, spec):
            if found.slot in seen:
                message = f"`{line(rule)}` with delay {found.delay} is fixed twice"
                yield SpecError("E066", message, span=rule.span, hint=f"the first is at {seen[found.slot].span}")
            seen[found.slot] = rule
            for forbidden in space.of("forbid"):
                if _matches(found, forbidden, spec):
                    where = f" at {forbidden.span}" if forbidden.span is not None else ""
                    message = f"`{line(rule)}` is fixed, but `{line(forbidden)}`{where} forbids it"
                    yield SpecError("E066", message, span=rule.span, hint="leave one of the two lines out")
