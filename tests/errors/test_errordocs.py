"""`docs/errors.md` is what the table of codes says, complete."""

from pathlib import Path

import pytest

from bcgraph import errordocs
from bcgraph.errors import CODES
from tests.errors.test_cases import ELSEWHERE

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == errordocs.markdown()


def test_every_code_has_a_row_and_those_of_the_language_an_example() -> None:
    lines = errordocs.markdown().split("\n")
    rows = [line.split(" | ")[:2] for line in lines if line.startswith("| E")]
    assert rows == [[f"| {c}", m] for c, m in CODES.items()]
    assert set(errordocs.ADVICE) == set(CODES) - set(errordocs.EXAMPLES)
    # A size, a byte and a folder cannot be shown in a text.
    assert set(errordocs.EXAMPLES) == set(CODES) - ELSEWHERE - {"E002", "E003"}
    for code in errordocs.EXAMPLES:
        assert sum(f"error[{code}]: " in line for line in lines) == 1


def test_codes_are_sorted_and_grouped() -> None:
    assert list(CODES) == sorted(CODES)
    assert next(iter(CODES)) == next(iter(errordocs.GROUPS))
    assert set(errordocs.GROUPS) <= set(CODES)


def test_an_example_that_shows_nothing_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errordocs, "EXAMPLES", {"E041": errordocs.EXAMPLES["E043"]})
    with pytest.raises(LookupError):
        errordocs.message("E041")
