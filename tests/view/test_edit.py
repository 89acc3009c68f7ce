"""Connections are switched in a text, and everything else in it stays: comments, settings, the order of lines."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bcgraph
from bcgraph.dsl.parser import grammar
from bcgraph.dsl.source import Reporter, Source
from bcgraph.dsl.tokens import tokenize
from bcgraph.errors import RunError
from bcgraph.schema import BackwardConnection, ForwardConnection
from bcgraph.view.edit import rewire
from tests.dsl.test_fmt import layouts

TEXT = """bcg 1  # the version

# the network
network net {
  input = image(1, 8, 8)   # one digit
  steps = 2
  backbone = tiny(width=4)

  # what the search found
  backward @3 -> @1        # the good one
  backward layer2.0.lif2 -> lif1 {
    delay = 2              # late
    through = project(kernel=3)
  }                        # the other
  forward lif1 -> layer2.0.lif1 { delay = 0 }; readout = last
  # the end
}

train { epochs = 2 }  # few
"""


def comments(text: str) -> list[str]:
    tokens = tokenize(grammar(), Source.of(text, "<text>"), Reporter())
    return [str(token).rstrip() for token in tokens if token.type == "COMMENT"]


def test_nothing_wanted_and_nothing_changed() -> None:
    spec = bcgraph.parse(TEXT)
    text = rewire(TEXT, spec, spec.connections)
    assert bcgraph.parse(text) == spec
    assert text == bcgraph.dsl.format_text(TEXT)


def test_one_is_taken_out_and_one_is_added() -> None:
    spec = bcgraph.parse(TEXT)
    kept = [c for c in spec.connections if c.key != (3, 1, 1)]
    text = rewire(TEXT, spec, [*kept, BackwardConnection(2, 2, 3)])
    assert bcgraph.parse(text) == spec.with_connections([*kept[:1], BackwardConnection(2, 2, 3)], kept[1:])
    assert "@3 -> @1" not in text
    assert comments(text) == comments(TEXT)
    lines = [line.strip() for line in text.splitlines()]
    # The comment of what went has a line of its own; the new one follows the last, by names.
    assert "# the good one" in lines
    at = next(i for i, line in enumerate(lines) if line.startswith("forward lif1"))
    assert lines[at + 1] == "backward layer1.0.lif2 -> layer1.0.lif2 { delay = 3 }"
    assert "readout = last" in text


def test_the_first_connection_of_a_network() -> None:
    for text in (
        "bcg 1\nnetwork n { input = image(1, 8, 8); steps = 2; backbone = tiny(width=4) }",
        "bcg 1\nnetwork n {\n  input = image(1, 8, 8) # one\n  steps = 2\n  backbone = tiny(width=4) # two\n}\n",
    ):
        spec = bcgraph.parse(text)
        found = rewire(text, spec, [BackwardConnection(4, 0), ForwardConnection(0, 4)])
        assert bcgraph.parse(found).connections == (BackwardConnection(4, 0), ForwardConnection(0, 4))
        assert comments(found) == comments(text)
        assert bcgraph.parse(rewire(found, bcgraph.parse(found), [])) == spec


def test_a_connection_that_stands_elsewhere_is_refused() -> None:
    spec = bcgraph.parse(TEXT)
    with pytest.raises(RunError) as caught:
        rewire(TEXT.replace("backward @3 -> @1 ", ""), spec, [])
    assert caught.value.code == "E084"


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_choice_in_any_layout(data: Any) -> None:
    text = data.draw(layouts(TEXT))
    spec = bcgraph.parse(text)
    rng = Random(data.draw(st.integers(0, 10**6)))
    places = [BackwardConnection(j, i, d) for j in range(5) for i in range(j + 1) for d in (1, 2)]
    places += [ForwardConnection(i, j, d) for j in range(5) for i in range(j) for d in (0, 1)]
    own = {c.place: c for c in spec.connections}
    wanted = {c.place: own.get(c.place, c) for c in [*spec.connections, *places] if rng.random() < 0.3}
    found = rewire(text, spec, wanted.values())
    backward = [c for c in wanted.values() if isinstance(c, BackwardConnection)]
    forward = [c for c in wanted.values() if isinstance(c, ForwardConnection)]
    assert bcgraph.parse(found) == spec.with_connections(backward, forward)
    assert sorted(comments(found)) == sorted(comments(text))
    assert bcgraph.dsl.format_text(found) == found
