"""Whatever stands in a text, the outcome is a specification or diagnostics that point into the text."""

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcgraph import dsl, schema
from bcgraph.dsl import parser, syntax
from bcgraph.dsl.parser import grammar
from bcgraph.dsl.unparse import _definition
from bcgraph.errors import Diagnostic, SpecError, render
from tests.dsl.strategies import BLOCKS, networks

SPECS = Path(__file__).parents[2] / "specs"
EXAMPLE = (SPECS / "resnet18_cifar10.bcg").read_text(encoding="utf-8")
RESIDUAL = (SPECS / "backbones" / "residual.bcg").read_text(encoding="utf-8")
PIECES = sorted({str(token) for token in grammar().lex(EXAMPLE + RESIDUAL)} | set("$\"'\\\r\t:!&|@}{)(][;,=-+*/%<>.é"))


def outcome(text: str) -> schema.NetworkSpec | tuple[Diagnostic, ...]:
    try:
        return dsl.parse(text, file="x.bcg")
    except SpecError as error:
        return error.diagnostics


def check(text: str) -> schema.NetworkSpec | tuple[Diagnostic, ...]:
    """What came of a text, which is found to be as it should."""
    found = outcome(text)
    if isinstance(found, schema.NetworkSpec):
        assert dsl.parse(dsl.format_spec(found)) == found
    else:
        check_places(found, text.split("\n"))
    try:
        formatted = dsl.format_text(text)
    except SpecError:
        assert not isinstance(found, schema.NetworkSpec)
        return found
    assert dsl.format_text(formatted) == formatted
    return found


def check_places(diagnostics: tuple[Diagnostic, ...], lines: list[str]) -> None:
    assert diagnostics
    for diagnostic in diagnostics:
        assert render(diagnostic)
        span = diagnostic.span
        assert span is not None
        assert span.file == "x.bcg"
        assert 1 <= span.line <= span.end_line <= len(lines)
        assert 1 <= span.column <= len(lines[span.line - 1]) + 1
        # What is about the text as a whole stands before its first character.
        whole = (span.line, span.column, span.end_line, span.end_column) == (1, 1, 1, 1)
        assert whole or (span.line, span.column) < (span.end_line, span.end_column)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=40).map(" ".join))
def test_any_words(text: str) -> None:
    check(text)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60))
def test_any_text(text: str) -> None:
    check(text.replace("\0", ""))


@settings(max_examples=150, deadline=None)
@given(networks() | st.just(EXAMPLE) | st.just(RESIDUAL), st.randoms(use_true_random=False), st.integers(1, 3))
def test_a_good_text_with_a_few_changes(text: str, rng: random.Random, changes: int) -> None:
    tokens = [str(token) for token in grammar().lex(text) if token.type != "COMMENT"]
    for _ in range(changes):
        position = rng.randrange(len(tokens))
        match rng.choice(["drop", "insert", "replace", "swap"]):
            case "drop":
                del tokens[position]
            case "insert":
                tokens.insert(position, rng.choice(PIECES))
            case "replace":
                tokens[position] = rng.choice(PIECES)
            case "swap":
                other = rng.randrange(len(tokens))
                tokens[position], tokens[other] = tokens[other], tokens[position]
    check(" ".join(tokens))


@settings(max_examples=80, deadline=None)
@given(st.lists(BLOCKS, min_size=1, max_size=3))
def test_any_blocks(blocks: list[syntax.Block]) -> None:
    text = "\n".join(line for block in blocks for line in _definition(block))
    required = sum(p.default is None for p in blocks[0].parameters)
    call = f"{blocks[0].name}({', '.join(['3'] * required)})"
    check(f"bcg 1\n{text}\nnetwork net {{ input = image(3, 8, 8); steps = 2; backbone = {call} }}\n")


def test_what_may_come_next_is_what_lark_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours looks at the states alone, which is five times as fast."""
    own, seen = parser._accepts, []

    def both(found: Any) -> set[str]:
        seen.append(own(found))
        assert seen[-1] == found.accepts()
        return seen[-1]

    monkeypatch.setattr(parser, "_accepts", both)
    rng = random.Random(0)
    words = [str(token) for token in grammar().lex(EXAMPLE) if token.type != "COMMENT"]
    for _ in range(12):
        words[rng.randrange(len(words))] = rng.choice(PIECES)
        outcome(" ".join(words))
    assert len(seen) > 20
    assert len(set(map(frozenset, seen))) > 3
