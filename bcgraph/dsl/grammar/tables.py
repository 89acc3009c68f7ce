"""Writes the parse tables: `python -m bcgraph.dsl.grammar.tables bcgraph/dsl/grammar/tables.json`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import lark
from lark.grammar import Rule
from lark.lexer import TerminalDef
from lark.parsers.lalr_analysis import Shift

from bcgraph.dsl import grammar


def dumped() -> str:
    """The parse tables with the grammar and the version of lark that they are of; the same in every process."""
    text = grammar.text()
    parser = grammar.build(text)
    _number_states(parser.parser.parser._parse_table)
    data, memo = parser.memo_serialize([TerminalDef, Rule])
    # What is no data is given again where the tables are read.
    del data["options"]["postlex"], data["options"]["transformer"]
    stored = {"lark": lark.__version__, "grammar": text, "data": data, "memo": memo}
    return json.dumps(stored, separators=(",", ":")) + "\n"


def _number_states(table: Any) -> None:
    """Number the states in the order in which they are reached; lark's numbers depend on the hashes of strings."""
    (start,) = table.start_states.values()
    numbers = {start: 0}
    reached = [start]
    for state in reached:
        for _, (action, target) in sorted(table.states[state].items()):
            if action is Shift and target not in numbers:
                numbers[target] = len(numbers)
                reached.append(target)
    table.states = {
        numbers[state]: {
            symbol: (action, numbers[target] if action is Shift else target)
            for symbol, (action, target) in sorted(table.states[state].items())
        }
        for state in reached
    }
    table.start_states = {rule: numbers[state] for rule, state in table.start_states.items()}
    table.end_states = {rule: numbers[state] for rule, state in table.end_states.items()}


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(dumped(), encoding="utf-8")
