"""The TextMate grammar of `editors/vscode`, made from the words of the grammar and the declarations of the language.

    python -m bcgraph.lsp.textmate editors/vscode/syntaxes/bcgraph.tmLanguage.json

A test holds the file to it. Editors colour by it before the language server has answered, and where there is none.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lark.lexer import PatternStr

from bcgraph.dsl.elaboration.definitions.equations import CONSTANTS
from bcgraph.dsl.elaboration.layers import LAYERS
from bcgraph.dsl.elaboration.library import FOLDERS, NEURON, standard_names
from bcgraph.dsl.elaboration.settings import DATA_SETS
from bcgraph.dsl.elaboration.vocabulary.places import SECTIONS, places
from bcgraph.dsl.parser import grammar
from bcgraph.dsl.wording import LINKS
from bcgraph.equations.expression import FUNCTIONS

SCOPE = "source.bcgraph"
_CONSTANTS = ("true", "false")
_OPERATORS = ("and", "or", "not", "in")


def words() -> list[str]:
    """The words of the language: the terminals of the grammar that are spelled in letters."""
    strings = (t.pattern.value for t in grammar().terminals if isinstance(t.pattern, PatternStr))
    return sorted(word for word in strings if word.isalpha())


def _pattern(terminal: str) -> str:
    """The regular expression of a terminal, without possessive quantifiers, which Oniguruma reads another way."""
    found = next(t.pattern.value for t in grammar().terminals if t.name == terminal)
    return re.sub(r"([*+?])\+", r"\1", found)


def _any(names: Iterable[str]) -> str:
    return "|".join(sorted(set(names), key=lambda name: (-len(name), name)))


def _word(names: Iterable[str]) -> str:
    return rf"(?<![\w.])(?:{_any(names)})(?![\w.])"


def textmate() -> dict[str, Any]:
    """The grammar as data."""
    control = [w for w in words() if w not in (*_CONSTANTS, *_OPERATORS)]
    settings = [name for place in places().values() for name, setting in place.settings.items() if not setting.braced]
    braced = [name for place in places().values() for name, setting in place.settings.items() if setting.braced]
    sections = [*SECTIONS, *braced]
    called = [*LAYERS, NEURON, *DATA_SETS, *(name for kind in FOLDERS for name in standard_names(kind))]
    functions = [*(name for name, function in FUNCTIONS.items() if function.written), "require", "range"]
    begins = [*FOLDERS, "network"]
    number = rf"(?<![\w.])(?:{_pattern('FLOAT')}|{_pattern('INT')})(?![\w.])"
    patterns = [
        {"name": "comment.line.number-sign.bcgraph", "match": _pattern("COMMENT")},
        {"name": "string.quoted.double.bcgraph", "match": _pattern("STRING")},
        {"name": "invalid.illegal.unclosed.bcgraph", "match": _pattern("UNCLOSED")},
        _captured(
            rf"(?<![\w.])({_any(begins)})[ \t]+([A-Za-z_]\w*)(?=[ \t]*[({{])",
            "keyword.declaration.bcgraph",
            "entity.name.type.bcgraph",
        ),
        _captured(r"(?<![\w.])(state|learn)(?=[ \t]+[A-Za-z_]|\[)", "keyword.declaration.bcgraph"),
        _captured(rf"(?<![\w.])({_any(LINKS)})(?=[ \t]+[@\w])", "keyword.control.bcgraph"),
        _captured(r"(?<![\w.])(use)(?=[ \t]+\")", "keyword.control.bcgraph"),
        _captured(rf"(?<![\w.])({_any([*sections, 'mul'])})(?=[ \t]*\{{)", "keyword.control.section.bcgraph"),
        {"name": "keyword.control.bcgraph", "match": _word(control)},
        {"name": "keyword.operator.word.bcgraph", "match": _word(_OPERATORS)},
        {"name": "constant.language.bcgraph", "match": _word([*_CONSTANTS, *CONSTANTS])},
        _captured(rf"(?<![\w.])({_any(settings)})(?=[ \t]*=(?!=))", "variable.other.property.bcgraph"),
        _captured(rf"(?<![\w.])({_any(called)})(?=[ \t]*\()", "support.function.bcgraph"),
        _captured(rf"(?<![\w.])({_any(functions)})(?=[ \t]*\()", "support.function.math.bcgraph"),
        _captured(r"(?<![\w.])([A-Za-z_]\w*)(?=[ \t]*\()", "entity.name.function.bcgraph"),
        {"name": "constant.numeric.port.bcgraph", "match": r"@[ \t]*\d+"},
        {"name": "variable.other.port.bcgraph", "match": _pattern("DOTTED")},
        {"name": "constant.numeric.bcgraph", "match": number},
        {"name": "keyword.operator.arrow.bcgraph", "match": "->"},
        {"name": "keyword.operator.bcgraph", "match": rf"\*\*|{_pattern('COMPARE')}|{_pattern('TIMES')}|[-+=]"},
    ]
    return {
        "$schema": "https://raw.githubusercontent.com/martinring/tmlanguage/master/tmlanguage.json",
        "name": "bcgraph",
        "scopeName": SCOPE,
        "fileTypes": ["bcg"],
        "patterns": patterns,
    }


def _captured(match: str, *names: str) -> dict[str, Any]:
    return {"match": match, "captures": {str(i): {"name": name} for i, name in enumerate(names, start=1)}}


def text() -> str:
    """The file."""
    return json.dumps(textmate(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(text(), encoding="utf-8")
