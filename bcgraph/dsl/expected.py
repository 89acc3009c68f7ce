"""What a syntax error should say: what was met, and what would have fitted."""

from __future__ import annotations

from collections.abc import Sequence

from bcgraph.dsl.tokens import Lexeme
from bcgraph.dsl.wording import KEYWORDS, LINKS, short
from bcgraph.errors import nearest

_STATEMENTS = (
    "backward", "block", "branch", "concat", "import", "network", "neuron", "repeat", "sum", "surrogate", "if", "bcg",
)  # fmt: skip
_DECLARATIONS = ("state", "learn")  # a name follows
_VALUE = {"INT", "FLOAT", "STRING", "NAME", "LPAR"}
_END = {"NEWLINE", "SEMICOLON"}
_OPERATORS = {
    "OR", "AND", "COMPARE", "PLUS", "MINUS", "TIMES", "POWER", "IF",
}  # fmt: skip
_SHOWN = {
    "ASSIGN": "`=`", "ARROW": "`->`", "COMMA": "`,`", "LPAR": "`(`", "RPAR": "`)`", "RSQB": "`]`", "LBRACE": "`{`",
    "ELSE": "`else`", "IN": "`in`", "INT": "a number", "STRING": "a string in double quotes", "NAME": "a name",
    "AT": "a port", "RBRACE": "`}`",
}  # fmt: skip
_CHARACTERS = {
    ":": "a value is set with `=`",
    "'": 'a string stands in double quotes: `"data"`',
    "\N{LEFT DOUBLE QUOTATION MARK}": 'a string stands in straight double quotes: `"data"`',
    "&": "it is written `and`",
    "|": "it is written `or`",
    "!": "it is written `not`",
}


def explain(accepted: set[str], token: Lexeme | None, statement: Sequence[Lexeme]) -> tuple[str, str | None]:
    """Message and hint for a token that does not fit after `statement`, where the `accepted` kinds would have fitted.

    No token is the end of the text.
    """
    return _message(token), _hint(accepted, token, statement)


def _message(token: Lexeme | None) -> str:
    if token is None:
        return "the text ends too early"
    if token.type == "NEWLINE":
        return "the line ends too early"
    if token.type == "UNKNOWN" and not token.isprintable():
        return f"the character U+{ord(token[0]):04X} does not fit here"
    return f"`{short(token)}` does not fit here"


def _hint(accepted: set[str], token: Lexeme | None, statement: Sequence[Lexeme]) -> str | None:
    if token is not None and token.type == "UNKNOWN" and token in _CHARACTERS:
        return _CHARACTERS[str(token)]
    if len(statement) == 1 and statement[0].type == "NAME":
        named = token is not None and token.type == "NAME"
        meant = nearest(str(statement[0]), (*_STATEMENTS, *_DECLARATIONS, *LINKS) if named else _STATEMENTS)
        if meant is not None:
            return meant
    if token is not None and token in KEYWORDS and "NAME" in accepted:
        return f"`{token}` is a word of the language and cannot be a name"
    words = _words(accepted)
    return f"expected {words}" if words else None


def _words(accepted: set[str]) -> str:
    """The accepted kinds of token in plain words, without the operators that fit after any value."""
    rest = set(accepted)
    words: list[str] = []
    if rest >= {"BLOCK", "NETWORK"}:
        return "a statement"
    if "AT" in rest:
        return "a port: a name, or `@` and a number"
    if rest >= _VALUE:
        words.append("a value")
        rest -= _VALUE | {"DOTTED", "LSQB", "MINUS", "NOT", "TRUE", "FALSE"}
    if rest & _END:
        words.append("the end of the statement (a new line or `;`)")
        rest -= _END | {"RBRACE"}
    words += [_SHOWN[kind] for kind in _SHOWN if kind in rest - _OPERATORS]
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " or " + words[-1] if words else ""
