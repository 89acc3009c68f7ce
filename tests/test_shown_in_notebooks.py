"""What results show of themselves in a notebook, and as frames."""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import bcgraph
from bcgraph.compiler import lower, passes, schedules
from bcgraph.errors import RunError
from bcgraph.search import run
from bcgraph.training.events import Epoch, TrainResult
from tests import needs
from tests.search import landscape
from tests.viz.test_browser import TEXT

SPEC = bcgraph.parse(TEXT)


class Cells(HTMLParser):
    """The text of each cell of a table."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.inside = tag in ("td", "th")
        self.found += [""] if self.inside else []

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.found[-1] += data

    def handle_endtag(self, tag: str) -> None:
        self.inside = False


EPOCHS = tuple(Epoch(n, 0.01, 2.0 / n, 0.4, 0.1 * n, 1.0) for n in (1, 2, 3))
TRAINED = TrainResult(0.3, 0.3, EPOCHS, Path("last.safetensors"))


def test_a_search(tmp_path: Path) -> None:
    result = run(SPEC, tmp_path, evaluators=landscape.Fake())
    text = result._repr_html_()
    assert text.startswith("<svg")
    cells = Cells(text).found
    names = ["stage", "iteration", "connections", "n", "e", "accuracy", "origin", "seconds"]
    assert cells[:8] == names
    # The best comes first.
    assert cells[8 + 5] == f"{max(r.evaluation.accuracy or 0.0 for r in result.records):.5g}"
    assert "20 of 30 rows" in text
    needs.package("pandas")
    frame = result.to_frame()
    assert list(frame.columns) == names
    assert list(frame["accuracy"][frame["stage"] == "evolve"]) == [
        r.evaluation.accuracy for r in result.records if r.stage == "evolve"
    ]
    assert set(frame["connections"][0].split(", ")) == {f"@{j} -> @{i}" for j, i in result.records[0].architecture}


def test_a_training_run() -> None:
    assert "test accuracy 0.3000 after 3 epochs" in TRAINED._repr_html_()
    assert Cells(TRAINED._repr_html_()).found[6] == "3"
    needs.package("pandas")
    assert list(TRAINED.to_frame()["test_accuracy"]) == [e.test_accuracy for e in EPOCHS]


def test_costs() -> None:
    found = bcgraph.profile.profile(SPEC)
    assert f"{found.parameters:,} parameters" in found._repr_html_()
    needs.package("pandas")
    assert found.to_frame()["operations"].sum() == found.operations


def test_graphs_and_programs_unfold_to_their_text() -> None:
    graph = lower(SPEC)
    program = schedules.schedule("unrolled", passes.run((), graph))
    for value, text in ((graph, bcgraph.compiler.graph_text), (program, bcgraph.compiler.program_text)):
        shown = value._repr_html_()
        assert shown.startswith("<details>")
        assert text(value).split("\n")[3].replace("<", "&lt;").replace("'", "&#x27;") in shown


def test_without_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(RunError) as caught:
        TRAINED.to_frame()
    assert caught.value.code == "E092"
