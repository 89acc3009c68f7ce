"""`docs/neurons.md` is true: its texts are those of the library, and what it names here can be called."""

import re
from pathlib import Path

import pytest

from bcgraph import dsl
from bcgraph.dsl.elaboration.library import standard_names
from bcgraph.dsl.elaboration.reference import fill

PAGE = (Path(__file__).parents[2] / "docs" / "neurons.md").read_text(encoding="utf-8")
ROWS = [line.split(" | ")[-1] for line in PAGE.split("## The neurons")[0].splitlines() if line.startswith("| `")]
NEURONS, SURROGATES = standard_names("neuron"), standard_names("surrogate")
CALLS = [call for row in ROWS for call in re.findall(r"`(\w+\([^`]*\))`", row)]


def test_the_texts_are_those_of_the_library() -> None:
    assert fill(PAGE) == PAGE
    for name in (*NEURONS, *SURROGATES):
        assert f"\n### `{name}`\n" in PAGE
    with pytest.raises(LookupError):
        fill("<!-- every nothing of the library -->\n<!-- end -->\n")


@pytest.mark.parametrize("call", sorted(set(CALLS)))
def test_what_a_row_names_can_be_called(call: str) -> None:
    name = call.split("(")[0]
    assert name in (*NEURONS, *SURROGATES)
    found = dsl.neuron(call if name in NEURONS else f"lif(surrogate={call})")
    assert found.equations.body


def test_the_example() -> None:
    (text,) = re.findall(r"```bcg\n(.*?)```", PAGE, re.DOTALL)
    assert dsl.format_text(text) == text
    assert dsl.parse(text).neuron.name == "subtract"


def test_every_library_surrogate_and_most_neurons_have_a_row() -> None:
    called = {call.split("(")[0] for call in CALLS}
    assert set(SURROGATES) <= called
    assert set(NEURONS) - called == {"alif", "relu"}
