from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import bcgraph
from bcgraph.errors import RunError
from bcgraph.search import run
from bcgraph.search.records.evaluations import Evaluation
from bcgraph.search.scores.audit import Audit, Finding
from bcgraph.viz import report
from tests.search import landscape

TEXT = """
bcg 1
network five { input = image(1, 8, 8); steps = 2; backbone = tiny(width=4, classes=10) }
data = digits
search {
  init { pool = %d; keep = 6 }
  evolve { iterations = 3; top = 4; population = 8; offspring = 3; strategy = %s }
}
"""


class Page(HTMLParser):
    """Checks that what is opened is closed, and gathers ids and tags."""

    VOID = frozenset({"meta", "br", "hr", "img", "link"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.tags.append(tag)
        self.ids += [v for k, v in attributes if k == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: Any) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def read(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text())
    assert page.open == []
    return page


def test_the_page_of_a_search(tmp_path: Path) -> None:
    written: list[Path] = []
    spec = bcgraph.parse(TEXT % (30, "evolutionary"))
    run(spec, tmp_path, evaluators=landscape.Fake(), hooks=[lambda r: written.append(report.write(r.path))])
    assert written == [tmp_path / "report.html"]
    page, text = read(written[0]), written[0].read_text()
    assert {"progress", "plane", "heat", "positions", "architectures"} <= set(page.ids)
    assert page.tags.count("svg") == 4 + 6
    # The data and what reads them.
    assert page.tags.count("script") == 2
    # Self-contained: nothing is fetched. Names of XML vocabularies are no addresses to fetch.
    assert not re.findall(r'(?:src|href)\s*=\s*"(?!#|data:image/png;base64)', text)
    assert "@import" not in text
    assert "url(http" not in text
    assert "layer2.0.lif2&nbsp;&rarr;&nbsp;lif1" in text
    assert "without connections" in text
    assert "evolve.iterations" in text
    first = written[0].read_bytes()
    report.write(tmp_path)
    assert written[0].read_bytes() == first


def test_the_audit_of_the_scores(tmp_path: Path) -> None:
    run(bcgraph.parse(TEXT % (30, "random")), tmp_path, evaluators=landscape.Fake())
    assert "audit" not in read(report.write(tmp_path)).ids
    found = (Finding("n", "reproducibility", "float64", 0.875), Finding("e", "descriptor", "a <b>", float("nan")))
    Audit(7, found).write(tmp_path)
    assert "audit" in read(report.write(tmp_path)).ids
    text = (tmp_path / "report.html").read_text()
    assert "7 random architectures" in text
    assert '<td>N-score</td><td>reproducibility</td><td>float64</td>\n<td class="number">0.88</td>' in text
    assert '<td>a &lt;b&gt;</td>\n<td class="number">undefined</td>' in text


def test_the_page_of_a_search_under_way(tmp_path: Path) -> None:
    spec = bcgraph.parse(TEXT % (30, "evolutionary"))
    with pytest.raises(KeyboardInterrupt):
        run(spec, tmp_path, evaluators=landscape.Fake(limit=10))
    page = read(report.write(tmp_path))
    assert "plane" in page.ids
    assert "progress" not in page.ids


def test_dead_candidates_and_no_pool(tmp_path: Path) -> None:
    def judge(candidate: Any) -> Evaluation:
        if len(candidate.backward) == 2:
            return Evaluation.failed(("accuracy",), "dead <on> purpose")
        return landscape.evaluation(candidate)

    spec = bcgraph.parse(TEXT % (0, "random"))
    run(spec, tmp_path, evaluators=landscape.Fake(judge=judge))
    page = read(report.write(tmp_path))
    assert "plane" not in page.ids
    assert "dead &lt;on&gt; purpose" in (tmp_path / "report.html").read_text()


def test_a_directory_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(RunError) as caught:
        report.write(tmp_path)
    assert caught.value.code == "E085"
