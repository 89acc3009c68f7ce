"""Each mistake is found where it stands, under its code, with a hint."""

import pytest

from bcgraph import dsl
from bcgraph.errors import CODES, Diagnostic, SpecError, render
from tests.errors.cases import CASES as GENERAL
from tests.errors.cases import Case, Finding
from tests.errors.definition_cases import DEFINITIONS

CASES = (*GENERAL, *DEFINITIONS)

# Found when files are read, or when something is compiled, run, searched or trained.
ELSEWHERE = {"E001", "E002", "E023", "E025", "E056"} | {
    code for code in CODES if code >= "E070" and code not in ("E080", "E089")
}


def findings(text: str) -> tuple[Diagnostic, ...]:
    with pytest.raises(SpecError) as caught:
        dsl.parse(text, file="case.bcg")
    return caught.value.diagnostics


def under_caret(diagnostic: Diagnostic) -> str:
    """The text that the caret marks in the excerpt of a finding."""
    assert diagnostic.span is not None
    assert diagnostic.excerpt is not None
    end = diagnostic.span.end_column - 1 if diagnostic.span.end_line == diagnostic.span.line else None
    return diagnostic.excerpt[diagnostic.span.column - 1 : end]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_findings(case: Case) -> None:
    found = findings(case.text)
    shown = "\n".join(render(d) for d in found)
    places = [(d.code, d.span.line, d.span.column) for d in found if d.span is not None]
    assert sorted(places) == sorted((f.code, f.line, f.column) for f in case.findings), shown
    assert places == sorted(places, key=lambda place: place[1:]), shown
    for expected in case.findings:
        assert any(matches(d, expected) for d in found), f"{expected}\n{shown}"


def matches(diagnostic: Diagnostic, expected: Finding) -> bool:
    span = diagnostic.span
    assert span is not None
    assert span.file == "case.bcg"
    return (
        (diagnostic.code, span.line, span.column) == (expected.code, expected.line, expected.column)
        and under_caret(diagnostic) == expected.caret
        and (expected.hint is None or expected.hint in (diagnostic.hint or ""))
        and expected.message in diagnostic.message
    )


def test_every_code_of_the_language_has_a_case() -> None:
    assert {f.code for case in CASES for f in case.findings} == set(CODES) - ELSEWHERE


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_rendered_caret_stands_under_the_span(case: Case) -> None:
    for diagnostic in findings(case.text):
        lines = render(diagnostic).split("\n")
        assert lines[0].startswith(
            f"case.bcg:{diagnostic.span.line}:{diagnostic.span.column}: error[{diagnostic.code}]: "
        )
        caret = lines[2]
        start = caret.index("^")
        assert caret[start:].strip("^") == ""
        if len(under_caret(diagnostic)) > 1 and under_caret(diagnostic).isprintable() and len(lines[1]) < 150:
            assert lines[1][start : len(caret)] == under_caret(diagnostic)
