"""`format_text`: one layout, nothing lost, and nothing left to do the second time."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcgraph import dsl
from bcgraph.dsl.parser import grammar
from bcgraph.dsl.unparse import _definition
from bcgraph.errors import SpecError
from tests.dsl.strategies import BLOCKS, layouts, networks
from tests.dsl.test_printer import tree

SPECS = Path(__file__).parents[2] / "specs"


def comments(text: str) -> list[str]:
    return [token.rstrip() for token in grammar().lex(text) if token.type == "COMMENT"]


def check(text: str) -> None:
    formatted = dsl.format_text(text)
    assert dsl.format_text(formatted) == formatted
    assert tree(formatted) == tree(text)
    assert comments(formatted) == comments(text)
    lines = formatted.split("\n")
    assert lines[-1] == ""
    assert all(line == line.rstrip() for line in lines)
    assert "\n\n\n" not in formatted


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_layout_of_a_network(data: st.DataObject) -> None:
    check(data.draw(layouts(data.draw(networks()))))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_layout_of_blocks(data: st.DataObject) -> None:
    blocks = data.draw(st.lists(BLOCKS, min_size=1, max_size=2))
    check(data.draw(layouts("\n".join(line for block in blocks for line in _definition(block)) + "\n")))


@pytest.mark.parametrize("path", sorted(SPECS.rglob("*.bcg")), ids=lambda path: path.stem)
def test_the_files_in_specs_are_formatted(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert dsl.format_text(text) == text


@pytest.mark.parametrize(
    ("text", "formatted"),
    [
        ("", ""),
        ("\n\n  \n", ""),
        ("bcg   1", "bcg 1\n"),
        ("bcg 1\r\n\r\n\r\nx=1\r\n", "bcg 1\n\nx = 1\n"),
        ("a=1\nbcd=2\n\ne=3", "a   = 1\nbcd = 2\n\ne = 3\n"),
        ("a=1\n# note\nbcd=2", "a = 1\n# note\nbcd = 2\n"),
        ("a=1;b=2\nccc=3", "a = 1; b = 2\nccc = 3\n"),
        ("a=1;;b=2;\n;\nc=3;", "a = 1; b = 2\nc = 3\n"),
        ("a{}\nbcd{x=1}", "a   {}\nbcd { x = 1 }\n"),
        ("a{\nx=1}", "a {\n  x = 1 }\n"),
        ("a { x = 1\ny = 2\nz = 3 }", "a { x = 1\n    y = 2\n    z = 3 }\n"),
        ("a { x = 1\ny = 2\n}", "a { x = 1\n    y = 2\n}\n"),
        ("a{b{c=1\nd=2}\ne=3}", "a { b { c = 1\n        d = 2 }\n    e = 3 }\n"),
        ("x=f(1,\n2,a=[3,\n4])\nyy=1", "x  = f(1,\n       2, a=[3,\n             4])\nyy = 1\n"),
        ("x=f(\n1,\n2\n)", "x = f(\n  1,\n  2\n)\n"),
        ("x=- 1- -2*(3-4)", "x = -1 - -2 * (3 - 4)\n"),
        ("x=not(a)and f (b)", "x = not (a) and f(b)\n"),
        ("x=[ -1,a if b else-c ]", "x = [-1, a if b else -c]\n"),
        ("backward a.b->@ 3{delay=2}", "backward a.b -> @3 { delay = 2 }\n"),
        ("block b(a,b = 2){\n[i+1]=f()\n0=g()}", "block b(a, b=2) {\n  [i + 1] = f()\n  0 = g() }\n"),
        ("if a{\nx()}else if b{\ny()\n}else{\nz()\n}", "if a {\n  x() } else if b {\n  y()\n} else {\n  z()\n}\n"),
        ("a=1 # one\nb=2   # two", "a = 1  # one\nb = 2  # two\n"),
        ("a = 1      # far\n    bb = 2 # near", "a  = 1     # far\nbb = 2     # near\n"),
        (
            "a {# first\n# second\nx=1 # third\n# fourth\n}",
            "a {  # first\n  # second\n  x = 1  # third\n  # fourth\n}\n",
        ),
        ("#  kept   as it is  ", "#  kept   as it is\n"),
        ('x = "a;  {b}"', 'x = "a;  {b}"\n'),
    ],
)
def test_layout(text: str, formatted: str) -> None:
    assert dsl.format_text(text) == formatted
    assert dsl.format_text(formatted) == formatted


def test_what_does_not_parse_is_not_formatted() -> None:
    with pytest.raises(SpecError) as caught:
        dsl.format_text("bcg 1\na = = 1\nb = )\n", file="x.bcg")
    assert [(d.code, str(d.span)) for d in caught.value.diagnostics] == [("E010", "x.bcg:2:5"), ("E010", "x.bcg:3:5")]
