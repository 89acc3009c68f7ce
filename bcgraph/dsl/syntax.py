"""The syntax tree: what stands in a text, before anything is looked up.

Each class has the name of its grammar rule. Nodes are frozen; their spans take no part in equality, so two texts that
differ only in layout have equal trees. Nothing here knows what a name means.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from bcgraph.errors import Span

NOWHERE = Span("", 1, 1, 1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """Anything in a text, with the place where it stands."""

    span: Span = field(default=NOWHERE, compare=False, repr=False)


# --- Expressions ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Number(Node):
    """An integer or a decimal number."""

    value: int | float


@dataclass(frozen=True, slots=True)
class String(Node):
    """A string in double quotes, with its escapes resolved."""

    value: str


@dataclass(frozen=True, slots=True)
class Boolean(Node):
    """`true` or `false`."""

    value: bool


@dataclass(frozen=True, slots=True)
class Broken(Node):
    """A number or text that could not be read, and was reported."""


@dataclass(frozen=True, slots=True)
class Name(Node):
    """A word: a parameter, an index, or one of the words that a setting allows."""

    name: str


@dataclass(frozen=True, slots=True)
class Dotted(Node):
    """`input.channels`."""

    name: str


@dataclass(frozen=True, slots=True)
class List(Node):
    """`[a, b]`."""

    items: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Unary(Node):
    """`-a` or `not a`."""

    operator: str
    operand: Expression


@dataclass(frozen=True, slots=True)
class Binary(Node):
    """`a + b`, a comparison, `and` or `or`."""

    operator: str
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Conditional(Node):
    """`a if test else b`."""

    then: Expression
    test: Expression
    otherwise: Expression


@dataclass(frozen=True, slots=True)
class Argument(Node):
    """One argument of a call; `name` is None where it is given by position."""

    name: str | None
    value: Expression


@dataclass(frozen=True, slots=True)
class Call(Node):
    """`name(a, k=v)`; `name_span` covers the name alone."""

    name: str
    arguments: tuple[Argument, ...]
    name_span: Span = field(default=NOWHERE, compare=False, repr=False)


Expression: TypeAlias = Number | String | Boolean | Broken | Name | Dotted | List | Unary | Binary | Conditional | Call

# --- Statements -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Header(Node):
    """`bcg 1`."""

    version: int


@dataclass(frozen=True, slots=True)
class Import(Node):
    """`import "file.bcg"`."""

    path: String | Broken


@dataclass(frozen=True, slots=True)
class Parameter(Node):
    """One parameter of a block; required where it has no default."""

    name: str
    default: Expression | None


@dataclass(frozen=True, slots=True)
class Block(Node):
    """`block name(parameters) { ... }`."""

    name: str
    parameters: tuple[Parameter, ...]
    body: tuple[Statement, ...]
    name_span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Definition(Node):
    """`neuron name(parameters) { ... }` or `surrogate name(parameters) { ... }`; `kind` is the first word."""

    kind: str
    name: str
    parameters: tuple[Parameter, ...]
    body: tuple[Statement, ...]
    kind_span: Span = field(default=NOWHERE, compare=False, repr=False)
    name_span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Use(Node):
    """`use "package"`; `word` is the first word."""

    word: str
    package: String | Broken


@dataclass(frozen=True, slots=True)
class Network(Node):
    """`network name { ... }`."""

    name: str
    body: tuple[Statement, ...]
    name_span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Section(Node):
    """`name { ... }`: a group of settings."""

    name: str
    body: tuple[Statement, ...]
    name_span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Port(Node):
    """A layer of neurons by number (`@8`) or by name (`layer4.1.lif2`)."""

    number: int | None
    name: str | None


@dataclass(frozen=True, slots=True)
class Connection(Node):
    """`backward source -> target { settings }`; `word` is the first word, and the span that of the ports."""

    word: str
    source: Port
    target: Port
    body: tuple[Statement, ...]
    word_span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Sum(Node):
    """`sum { branch { ... } ... }`; the span is that of the keyword."""

    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Concat(Node):
    """`concat { branch { ... } ... }`; the span is that of the keyword."""

    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Branch(Node):
    """`branch if test { ... }`; the span is that of the keyword."""

    test: Expression | None
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class If(Node):
    """`if test { ... } else { ... }`; the span is that of the keyword."""

    test: Expression
    then: tuple[Statement, ...]
    otherwise: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Repeat(Node):
    """`repeat i in range(n) { ... }`; the span is that of the keyword."""

    variable: str
    values: Expression
    body: tuple[Statement, ...]
    variable_span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Index(Node):
    """A layer's name that is a number: `0 = conv(...)`."""

    number: int


@dataclass(frozen=True, slots=True)
class Computed(Node):
    """A layer's name that is worked out: `[i] = basic(...)`."""

    value: Expression


Target: TypeAlias = Name | Index | Computed


@dataclass(frozen=True, slots=True)
class Assign(Node):
    """`target = value`: a setting, or a layer or block under its name."""

    target: Target
    value: Expression


@dataclass(frozen=True, slots=True)
class Bare(Node):
    """A layer without a name: `flatten()`."""

    call: Call


@dataclass(frozen=True, slots=True)
class Formula(Node):
    """An expression that stands alone: what a surrogate is worth."""

    value: Expression


@dataclass(frozen=True, slots=True)
class Declaration(Node):
    """`state v = 0`, `learn w = 1.0` or `learn[channels] w = 1.0`; `of` is the word in brackets."""

    kind: str
    of: str | None
    name: str
    value: Expression
    kind_span: Span = field(default=NOWHERE, compare=False, repr=False)
    name_span: Span = field(default=NOWHERE, compare=False, repr=False)


Statement: TypeAlias = (
    Header
    | Import
    | Use
    | Block
    | Definition
    | Network
    | Section
    | Connection
    | Sum
    | Concat
    | Branch
    | If
    | Repeat
    | Assign
    | Bare
    | Formula
    | Declaration
)


@dataclass(frozen=True, slots=True)
class File(Node):
    """A whole text."""

    statements: tuple[Statement, ...]
