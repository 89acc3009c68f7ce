"""What people write out of habit from other languages: told in one message, and read as what was meant.

A habit looks at the tokens around a syntax error. Where it knows what was meant, it says so and gives the tokens to
read instead, so that the rest of the statement is still checked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bcgraph.dsl.tokens import Lexeme
from bcgraph.dsl.wording import KEYWORDS, LINKS
from bcgraph.errors import Span

_WORDS = frozenset(("NAME", "DOTTED", "INT", *(word.upper() for word in KEYWORDS)))
_ENDS = frozenset(("NEWLINE", "SEMICOLON", "RBRACE", "COMMENT"))


@dataclass(frozen=True, slots=True)
class Habit:
    """One finding: `tokens` are read in the place of those from `start` to `end`."""

    message: str
    hint: str
    span: Span
    start: int
    end: int
    tokens: tuple[Lexeme, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """Where the error is: at `position` of all tokens, in the statement that begins at `first`.

    `accepted` are the kinds of token that would have fitted.
    """

    tokens: Sequence[Lexeme]
    first: int
    position: int
    accepted: frozenset[str]

    @property
    def token(self) -> Lexeme:
        """The token that does not fit."""
        return self.tokens[self.position]

    def at(self, position: int) -> Lexeme | None:
        """The token at a position, or None where there is none."""
        return self.tokens[position] if self.first <= position < len(self.tokens) else None

    def kind(self, position: int) -> str:
        """The kind of the token at a position; empty where there is none."""
        found = self.at(position)
        return "" if found is None else found.type

    def line_end(self, position: int) -> int:
        """The position of the next line end, or that after the last token."""
        while position < len(self.tokens) and self.tokens[position].type != "NEWLINE":
            position += 1
        return position


def find(place: Place) -> Habit | None:
    """The first habit that explains an error, or None."""
    return next((found for habit in HABITS if (found := habit(place)) is not None), None)


def _comment(place: Place) -> Habit | None:
    """`// ...`, `/* ... */` and `-- ...` in the place of `# ...`."""
    start = place.position
    if (
        place.kind(start - 2) == "TIMES"
        and place.tokens[start - 2] == "//"
        and place.token.type not in ("INT", "FLOAT")
    ):
        # `steps = 4 // number of`: what looks like a division is followed by two words.
        start -= 2
    first, second = place.at(start), place.at(start + 1)
    if first is None or second is None:
        marked = first is not None and first == "//"
    else:
        marked = first == "//" or (_touch(first, second) and first + second in ("/*", "--"))
    if first is None or not marked:
        return None
    mark = str(first) if first == "//" or second is None else f"{first}{second}"
    end = place.line_end(start)
    span = _join(first.span, place.tokens[end - 1].span)
    return Habit(f"a comment begins with `#`, not with `{mark}`", f"write `#` in place of `{mark}`", span, start, end)


def _dash(place: Place) -> Habit | None:
    """`my-net` as a name."""
    start = end = place.position
    while _dashed(place, start - 1, start):
        start -= 1
    while _dashed(place, end, end + 1):
        end += 1
    if place.token.type == "MINUS":
        end += 1
    elif place.token.type not in ("LPAR", "ASSIGN", "LBRACE"):
        return None
    parts = place.tokens[start:end]
    kinds = [part.type for part in parts]
    if len(parts) < 3 or kinds[0] != "NAME" or "MINUS" not in kinds or kinds[-1] == "MINUS":
        return None
    written = "".join(parts)
    meant = written.replace("-", "_")
    span = _join(parts[0].span, parts[-1].span)
    hint = f"a name has letters, digits and `_`: write `{meant}`"
    return Habit(
        f"`{written}` cannot be a name: it holds a dash", hint, span, start, end, (_made("NAME", meant, span),)
    )


def _dashed(place: Place, first: int, second: int) -> bool:
    """Whether two tokens belong to one word with dashes."""
    a, b = place.at(first), place.at(second)
    if a is None or b is None or not _touch(a, b):
        return False
    return a.type in _WORDS | {"MINUS"} and b.type in _WORDS | {"MINUS"} and "MINUS" in (a.type, b.type)


def _dot(place: Place) -> Habit | None:
    """`layer1.conv = conv(8)`: the name of a layer, a block or a network with a dot in it."""
    token, follows = place.token, place.kind(place.position + 1)
    if token.type != "DOTTED" or "NAME" not in place.accepted or "DOTTED" in place.accepted:
        return None
    if place.position == place.first and follows != "ASSIGN":
        return None
    meant = str(token).replace(".", "_")
    outer, _, inner = str(token).rpartition(".")
    hint = f"write `{meant}`"
    if follows == "ASSIGN":
        hint += f"; dots come from blocks: a layer `{inner}` in a block that stands under `{outer}`"
    name = _made("NAME", meant if not meant[0].isdigit() else f"_{meant}", token.span)
    message = f"`{token}` cannot be a name: it holds a dot"
    return Habit(message, hint, token.span, place.position, place.position + 1, (name,))


def _settings(place: Place) -> Habit | None:
    """`backward @4 -> @1 delay = 2`: the settings of a connection without braces."""
    start = place.position + (place.token.type == "COMMA")
    if str(place.tokens[place.first]) not in ("backward", *LINKS) or "LBRACE" not in place.accepted:
        return None
    if place.kind(start) != "NAME" or place.kind(start + 1) != "ASSIGN":
        return None
    end, depth = start, 0
    found: list[Lexeme] = []
    while end < len(place.tokens):
        token = place.tokens[end]
        if depth == 0 and (token.type in _ENDS or (token == "//" and place.kind(end + 1) == "NAME")):
            break
        depth += {"LPAR": 1, "LSQB": 1, "RPAR": -1, "RSQB": -1}.get(token.type, 0)
        found.append(_made("SEMICOLON", ";", token.span) if depth == 0 and token.type == "COMMA" else token)
        end += 1
    span = _join(found[0].span, found[-1].span)
    shown = " ".join(found).replace(" ;", ";").replace("( ", "(").replace(" )", ")").replace(" (", "(")
    return Habit(
        "the settings of a connection stand in braces",
        f"write `{{ {shown} }}`",
        span,
        place.position,
        end,
        (_made("LBRACE", "{", found[0].span), *found, _made("RBRACE", "}", found[-1].span)),
    )


HABITS: tuple[Callable[[Place], Habit | None], ...] = (_comment, _dash, _dot, _settings)


def _touch(first: Lexeme, second: Lexeme) -> bool:
    return first.end_pos == second.start_pos


def _made(kind: str, text: str, span: Span) -> Lexeme:
    """A token that stands for what was meant."""
    made = Lexeme(kind, text, 0, span.line, span.column)
    made.span = span
    made.broken = False
    return made


def _join(first: Span, last: Span) -> Span:
    return Span(first.file, first.line, first.column, last.end_line, last.end_column)
