"""How things are called in messages."""

from __future__ import annotations

from bcgraph.dsl import syntax

KEYWORDS = (
    "and", "backward", "bcg", "block", "branch", "concat", "else", "false", "if", "import", "in", "network", "not",
    "or", "repeat", "sum", "true",
)  # fmt: skip

LINKS = ("forward", "fixed", "forbid")
"""Names that are words of the language where a port follows."""

_TYPES = {bool: "a boolean", int: "", float: "", str: "a word", list: "a list"}


def show(value: object) -> str:
    """A value as it would be written, cut short where it is long."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(show(item) for item in value[:10]) + (", ...]" if len(value) > 10 else "]")
    return short(str(value))


def short(text: str, limit: int = 40) -> str:
    """A text, cut short where it is long."""
    return text if len(text) <= limit else text[: limit - 3] + "..."


def type_name(value: object) -> str:
    """What a value is, for `not ...` in a message."""
    return f"{_TYPES[type(value)]}{show(value)}" if type(value) in (int, float) else _TYPES[type(value)]


def one_of(options: tuple[str, ...], conjunction: str = "or") -> str:
    """`a`, `b` or `c`."""
    shown = [f"`{option}`" for option in options]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} {conjunction} {shown[-1]}"


def statement_name(statement: syntax.Statement) -> str:
    """A statement in plain words."""
    match statement:
        case syntax.Section():
            return f"`{statement.name} {{ ... }}`"
        case syntax.Assign():
            return "a named layer or setting"
        case syntax.Bare():
            return f"`{statement.call.name}(...)`"
        case syntax.Connection():
            return f"`{statement.word}`"
        case syntax.Header():
            return "the language version"
        case _:
            return f"`{type(statement).__name__.lower()}`"
