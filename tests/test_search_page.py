"""`docs/search.md` shows what the commands print, and its picture is what the operators do."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import bcgraph
from bcgraph.schema.search import FinishSpec
from bcgraph.search.space.words import describe
from bcgraph.viz import moves

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "search.md").read_text()
EXAMPLES = [bcgraph.parse(text) for text in re.findall(r"```bcg\n(.*?)```", PAGE, re.DOTALL)]


def test_the_space_is_described_as_the_page_has_it() -> None:
    shown = re.search(r"```text\nspace     (.*?)\n```", PAGE, re.DOTALL)
    assert shown is not None
    assert [line.strip() for line in shown[1].split("\n")] == describe(EXAMPLES[0])


def test_the_examples_are_what_the_page_says_of_them() -> None:
    assert (EXAMPLES[1].search.recipe, EXAMPLES[1].search.finish) == ("recommended", FinishSpec(top=2, seeds=1))
    assert (EXAMPLES[2].search.maximize, EXAMPLES[2].search.minimize) == (("accuracy",), ("energy",))
    assert [str(bound) for bound in EXAMPLES[2].search.subject_to] == [
        "parameters <= 1.05 * baseline", "state <= 64000", "accuracy >= 0.6",
    ]  # fmt: skip


def test_the_picture_is_that_of_the_operators() -> None:
    assert "](moves.svg)" in PAGE
    assert (DOCS / "moves.svg").read_text() == moves.picture()
    found = re.findall(r"<text[^>]*>(.*?)</text>", moves.picture())
    odds = [Fraction(chance) for text in found for chance in re.findall(r"\d+/\d+", text)]
    assert sum(odds) == 1
