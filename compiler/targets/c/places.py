"""Where the values of one step lie in C: in states of the caller's struct, in its arrays, or in the frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bcgraph.compiler.ir import Node, Program
from bcgraph.compiler.targets.c.storage import Life, placed, size, whole
from bcgraph.shapes import Shape

FLOAT, BYTE = "float", "uint8_t"

_ALIASES = frozenset({"dropout", "to_image", "to_signal", "to_vector", "flatten"})


@dataclass(frozen=True, slots=True)
class Places:
    """The C expression of each value's array.

    `roots` are values that are another's memory, seen with another shape; `names` holds the expressions of all others.
    `states` gives for each state the value that it is next, `members` its name in the struct. `floats` and `octets`
    are the lengths of the two arrays that a step computes in.
    """

    shapes: Mapping[str, Shape]
    bytes_of: frozenset[str]
    states: Mapping[str, str]
    members: Mapping[str, str]
    roots: Mapping[str, str]
    names: Mapping[str, str]
    floats: int
    octets: int

    def root(self, value: str) -> str:
        """The value whose memory this one is."""
        return self.roots.get(value, value)

    def kind(self, value: str) -> str:
        """The C type of a value."""
        return BYTE if self.root(value) in self.bytes_of else FLOAT

    def count(self, value: str) -> int:
        """The length of a value's array."""
        return max(1, size(self.shapes[value]))

    def bytes(self, value: str) -> int:
        """The size of a value's array."""
        return self.count(value) * (1 if self.kind(value) == BYTE else 4)

    def name(self, value: str) -> str:
        """The C expression of a value's array."""
        return self.names[self.root(value)]

    def at(self, value: str, index: str = "i") -> str:
        """An element of a value, as a float."""
        text = f"{self.name(value)}[{index}]"
        return text if self.kind(value) == FLOAT else f"(float){text}"

    def moves(self) -> list[tuple[str, str]]:
        """The states that are not written in place, with what each is next; of a chain of delays the oldest first."""
        left = [(state, after) for state, after in self.states.items() if self.names[state] != self.name(after)]
        found = []
        while left:
            # One whose old value no other still waits for.
            ready = next((m for m in left if not any(self.root(after) == m[0] for _, after in left)), left[0])
            left.remove(ready)
            found.append(ready)
        return found


def same_order(node: Node, given: Shape) -> bool:
    """Whether a value in another shape has its numbers in the order of what it is made of."""
    if node.op not in _ALIASES:
        return False
    return node.op in ("dropout", "to_image", "to_signal") or size(given[1:]) == 1 or given[0] == 1


def places(program: Program, *, copied: bool) -> Places:
    """Give each value of `program` its place. `copied` says that the frame is, and not read where the caller has it."""
    return _Planner(program, copied).places()


class _Planner:
    """Finds the places of values by how long each lives."""

    def __init__(self, program: Program, copied: bool) -> None:
        self.program = program
        self.copied = copied
        self.frame = program.inputs[0].name
        self.shapes = {name: value.shape for name, value in program.values().items()}
        self.bytes_of = frozenset(whole(program))
        self.states = {state.input: state.output for state in program.states}
        # Values that are another's memory, seen with another shape.
        self.roots: dict[str, str] = {}
        for node in program.nodes:
            if node.inputs and same_order(node, self.shapes[node.inputs[0].value]):
                self.roots[node.output.name] = self.root(node.inputs[0].value)
        self.first: dict[str, int] = {}
        self.last: dict[str, int] = {}

    def root(self, value: str) -> str:
        return self.roots.get(value, value)

    def places(self) -> Places:
        members = {name: f"state{index}" for index, name in enumerate(self.states)}
        names = {name: f"s->{member}" for name, member in members.items()}
        self.measure()
        # What a state becomes is written in its own place, where nothing reads the old value any more.
        for state, after in self.states.items():
            held = self.root(after)
            if held not in names and self.in_place(state, held):
                names[held] = names[state]
            else:
                self.last[held] = len(self.program.nodes)
        lives = self.lives(names)
        floats, count = placed([life for life in lives if life.kind == FLOAT])
        octets, bytes_ = placed([life for life in lives if life.kind == BYTE])
        names |= {name: f"(s->floats + {place})" for name, place in floats.items()}
        names |= {name: f"(s->bytes + {place})" for name, place in octets.items()}
        if not self.copied:
            names[self.frame] = "frame"
        return Places(self.shapes, self.bytes_of, self.states, members, self.roots, names, count, bytes_)

    def measure(self) -> None:
        """The node that makes each value, and the last that reads it."""
        for index, node in enumerate(self.program.nodes):
            for edge in node.inputs:
                self.last[self.root(edge.value)] = index
            for value in node.outputs:
                self.first.setdefault(self.root(value.name), index)
                self.last.setdefault(self.root(value.name), index)
        self.last[self.root(self.program.outputs[0])] = len(self.program.nodes)

    def in_place(self, state: str, value: str) -> bool:
        """Whether `value`, the next one of `state`, can be written over it."""
        following = [self.root(after) for after in self.states.values()]
        if value not in self.first or state in following or following.count(value) > 1:
            return False
        read, made = self.last.get(state, -1), self.first[value]
        # A neuron reads an element before it writes it.
        return read < made or (read == made and self.program.nodes[made].op == "neuron")

    def lives(self, names: Mapping[str, str]) -> list[Life]:
        """How long each value lives that has no place yet."""
        weights = {value.name for node in self.program.nodes if node.op == "fold_norm" for value in node.outputs}
        own = [name for name in self.first if name not in names and name not in weights and name != self.frame]
        if self.copied:
            own.append(self.frame)
            self.first[self.frame] = -1
        return [
            Life(
                name,
                BYTE if name in self.bytes_of else FLOAT,
                max(1, size(self.shapes[name])),
                self.first[name],
                self.last.get(name, self.first[name]),
            )
            for name in own
        ]
