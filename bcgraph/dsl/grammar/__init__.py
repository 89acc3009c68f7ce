"""The grammar of the language, and its parse tables ready to use: to build them takes longer than to check a file.

`tables.json` is written by `bcgraph.dsl.grammar.tables`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lark
from lark import Lark, Token
from lark.lark import PostLex

if TYPE_CHECKING:
    from lark.visitors import Transformer

_HERE = Path(__file__)


def text() -> str:
    """The grammar, as lark reads it."""
    return _HERE.with_name("grammar.lark").read_text(encoding="utf-8")


class _Kept(PostLex):
    """Keeps the terminals that no rule mentions."""

    always_accept = ("COMMENT", "UNCLOSED", "UNKNOWN")

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        return stream


def build(grammar: str, transformer: Transformer[Any, Any] | None = None) -> Lark:
    """The parser of a grammar, from its text alone."""
    return Lark(
        grammar,
        parser="lalr",
        lexer="basic",
        postlex=_Kept(),
        transformer=transformer,
        keep_all_tokens=True,
        maybe_placeholders=False,
    )


def load(transformer: Transformer[Any, Any] | None = None) -> Lark:
    """The parser of the language, as `build` makes it.

    It comes from `tables.json` where that was made from this grammar by this version of lark, and is built otherwise.
    """
    grammar = text()
    try:
        stored = json.loads(_HERE.with_name("tables.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        stored = {}
    if stored.get("lark") != lark.__version__ or stored.get("grammar") != grammar:
        return build(grammar, transformer)
    table = stored["data"]["parser"]["parser"]
    table["tokens"] = _numbered(table["tokens"])
    table["states"] = {state: _numbered(row) for state, row in _numbered(table["states"]).items()}
    memo = _numbered(stored["memo"])
    read: Callable[..., Lark] = Lark._load_from_dict
    return read(stored["data"], memo, postlex=_Kept(), transformer=transformer)


def _numbered(found: Mapping[str, Any]) -> dict[int, Any]:
    """`found` with numbers as keys, which are strings in JSON."""
    return {int(number): value for number, value in found.items()}
