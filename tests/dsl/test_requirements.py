"""`require` in a block: a value that a parameter may not have is an error at the argument."""

from __future__ import annotations

import pytest

import bcgraph
from bcgraph.errors import Diagnostic, SpecError

OWN = """bcg 1
block own(width, mode="plain") {{
  require(mode == "plain" or mode == "deep")
  require(width >= 2 and width <= 64)
  flatten(); fc = linear(width); lif = lif(); out = linear(10)
}}
block outer(mode) {{ inner = own(4, mode) }}
network n {{ input = image(1, 32, 32); steps = 1; backbone = {call} }}
"""


def refused(call: str) -> Diagnostic:
    with pytest.raises(SpecError) as caught:
        bcgraph.parse(OWN.format(call=call), file="net.bcg")
    (found,) = caught.value.diagnostics
    return found


@pytest.mark.parametrize(
    ("call", "code", "place", "says", "hint"),
    [
        ('own(4, mode="dep")', "E043", '"dep"', "`mode` of `own` cannot be", "`deep`"),
        ("own(1)", "E041", "1", "`width` of `own` cannot be `1`", "allowed: 2 to 64"),
        ("sew_resnet18(connect=cifar)", "E043", "cifar", "`connect` of `sew_resnet18` cannot be", "`mul`, `iand`"),
        ('sew_resnet50(connect="ad")', "E043", '"ad"', "`connect` of `sew_resnet50` cannot be", "`add`"),
        ("ms_resnet18(stem=add)", "E043", "add", "`stem` of `ms_resnet18` cannot be", "`cifar`, `imagenet`"),
        ('mobilenet_v2(stem="ImageNet")', "E043", '"ImageNet"', "`stem` of `mobilenet_v2` cannot be", "`imagenet`"),
    ],
)
def test_where_the_argument_stands(call: str, code: str, place: str, says: str, hint: str) -> None:
    found = refused(call)
    assert found.code == code
    assert found.span is not None
    line = OWN.format(call=call).splitlines()[found.span.line - 1]
    assert found.span.line == 8
    assert line[found.span.column - 1 : found.span.end_column - 1] == place
    assert says in found.message
    assert hint in str(found.hint)


def test_through_a_block_of_the_users_own() -> None:
    found = refused('outer("flat")')
    assert (found.code, found.span is not None and found.span.line) == ("E043", 7)
    assert any("in the call of `outer` at net.bcg:8" in note for note in found.notes)


@pytest.mark.parametrize("call", ["own(2)", 'own(64, "deep")', "sew_resnet18(width=2, connect=iand, stem=imagenet)"])
def test_what_is_allowed(call: str) -> None:
    assert bcgraph.parse(OWN.format(call=call)).ports


@pytest.mark.parametrize(
    ("statement", "code"),
    [("require()", "E042"), ("require(width)", "E044"), ("require(nothing == 1)", "E030"), ("require(a=true)", "E042")],
)
def test_a_requirement_that_is_none(statement: str, code: str) -> None:
    text = OWN.format(call="own(4)").replace('require(mode == "plain" or mode == "deep")', statement)
    with pytest.raises(SpecError) as caught:
        bcgraph.parse(text)
    assert code in {found.code for found in caught.value.diagnostics}
