"""The report as a browser shows it: no errors, no requests, every picture has a size, and what can be done on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import bcgraph
from bcgraph.search import run
from bcgraph.search.scores.audit import Audit, Finding
from bcgraph.viz import report
from tests.search import landscape
from tests.viz.browser import browser, errors, page

__all__ = ["browser", "errors", "page"]

TEXT = """
bcg 1
network five { input = image(1, 8, 8); steps = 2; backbone = tiny(width=4, classes=10) }
data = digits
search {
  init { pool = 30; keep = 6 }
  evolve { iterations = 3; top = 4; population = 8; offspring = 3 }
}
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("search") / "run"
    run(bcgraph.parse(TEXT), out, evaluators=landscape.Fake())
    Audit(7, (Finding("n", "reproducibility", "float64", 0.875), Finding("e", "shuffled", "labels", 0.125))).write(out)
    return report.write(out)


def test_an_error_would_be_seen(page: Any, errors: list[str], tmp_path: Path) -> None:
    broken = tmp_path / "broken.html"
    broken.write_text("<!DOCTYPE html><html><body><script>missing()</script></body></html>")
    page.goto(broken.as_uri())
    assert errors == ["missing is not defined"]


def test_a_browser_shows_the_report(page: Any, errors: list[str], written: Path) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(written.as_uri())
    assert (errors, asked) == ([], [written.as_uri()])
    boxes = page.evaluate(
        """() => [...document.querySelectorAll("svg")].map((svg) => {
          const box = svg.getBoundingClientRect();
          return [svg.closest("[id]:not(svg, svg *)").id, box.width, box.height, svg.querySelectorAll("path").length];
        })"""
    )
    assert [place for place, *_ in boxes] == ["progress", *["architectures"] * 6, "plane", "heat", "positions"]
    assert all(width > 150 and height > 40 and paths > 2 for _, width, height, paths in boxes), boxes
    assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")


def test_points_have_names_and_show_their_architecture(page: Any, errors: list[str], written: Path) -> None:
    page.goto(written.as_uri())
    point = page.locator("#progress use[data-at]").nth(2)
    point.hover()
    name = page.locator("#tip").inner_text()
    assert "→" in name
    assert "validation accuracy" in name
    point.click()
    chosen = page.locator("#chosen")
    title = chosen.locator("h3").inner_text()
    assert name.startswith(title)
    arcs = chosen.locator("svg path title").all_text_contents()
    assert ", ".join(arcs) == title or sorted(arcs) == sorted(title.split(", "))
    assert chosen.locator("svg rect").count() == 5
    # The same architecture is marked wherever it stands.
    assert page.locator("#best tr.selected").count() == 1
    page.keyboard.press("Escape")
    assert not chosen.is_visible()
    assert errors == []


def test_the_keyboard_reaches_points_rows_and_sorting(page: Any, errors: list[str], written: Path) -> None:
    page.goto(written.as_uri())
    page.locator("#plane use[tabindex='0']").focus()
    first = page.locator("#tip").inner_text()
    page.keyboard.press("ArrowRight")
    assert page.locator("#tip").inner_text() != first
    page.keyboard.press("Enter")
    assert page.locator("#chosen").is_visible()
    page.keyboard.press("Escape")
    # Focus is back where it was.
    assert page.evaluate("document.activeElement.closest('figure').id") == "plane"
    page.locator("#best tbody tr").nth(1).focus()
    page.keyboard.press("Enter")
    assert (
        page.locator("#chosen h3").inner_text()
        == page.locator("#best tbody tr").nth(1).locator("td").nth(1).inner_text()
    )
    page.locator("#best th button").nth(2).focus()
    page.keyboard.press("Enter")
    assert page.locator("#best th").nth(2).get_attribute("aria-sort") == "ascending"
    assert errors == []


def test_tables_are_sorted_by_number(page: Any, written: Path) -> None:
    page.goto(written.as_uri())
    page.locator("#all").click()
    for wanted in (sorted, lambda values: sorted(values, reverse=True)):
        page.locator("#best th button").nth(2).click()
        cells = [float(c) for c in page.locator("#best tbody td:nth-child(3)").all_inner_texts()]
        assert len(cells) > 20
        assert cells == wanted(cells)
    page.locator("#audit th button").first.click()
    assert page.locator("#audit tbody td:first-child").all_inner_texts() == ["E-score", "N-score"]


def test_one_port_is_filtered(page: Any, written: Path) -> None:
    page.goto(written.as_uri())
    rows = page.locator("#best tbody tr[data-at]:visible")
    assert rows.count() == 20
    page.locator("#port").select_option("3")
    shown = rows.locator("td:nth-child(2)").all_inner_texts()
    assert shown
    assert all("layer2.0.lif1" in text for text in shown)
    data = page.evaluate("JSON.parse(document.getElementById('report-data').textContent)")
    kept = [at for at, e in enumerate(data["evaluations"]) if any(3 in c[:2] for c in e["connections"])]
    assert page.locator("#count").inner_text().strip() == f"{len(kept)} of {len(data['evaluations'])} architectures"
    bright = page.evaluate(
        "[...document.querySelectorAll('use[data-at]:not(.aside)')].map((u) => Number(u.dataset.at))"
    )
    assert set(bright) <= set(kept)
    aside = page.evaluate("[...document.querySelectorAll('use.aside')].map((u) => Number(u.dataset.at))")
    assert set(aside).isdisjoint(kept)
    assert set(bright) | set(aside) == set(range(len(data["evaluations"])))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(page: Any, written: Path, scheme: str) -> None:
    """Texts and their ground are far apart in brightness, in the page and in its pictures."""
    page.emulate_media(color_scheme=scheme)
    page.goto(written.as_uri())
    page.locator("#progress use[data-at]").first.click()
    colors = page.evaluate(
        """() => {
          const of = (selector, what) => getComputedStyle(document.querySelector(selector))[what];
          return [
            [of("body", "color"), of("body", "backgroundColor")],
            [of("#progress svg g[id^=text] g, #progress svg text", "fill"), of("body", "backgroundColor")],
            [of("#architectures .bcg-ink", "fill"), of("#architectures .bcg-page", "fill")],
            [of("#architectures .bcg-inverse", "fill"), of("#architectures .bcg-strong", "fill")],
            [of("#chosen h3", "color"), of("#chosen", "backgroundColor")],
          ];
        }"""
    )
    for text, ground in colors:
        bright, dim = (sum(map(int, c.removeprefix("rgb(").rstrip(")").split(","))) / 765 for c in (text, ground))
        assert abs(bright - dim) > 0.6, (text, ground)
    body = sum(map(int, colors[0][1].removeprefix("rgb(").rstrip(")").split(",")))
    assert (body < 200) == (scheme == "dark")
