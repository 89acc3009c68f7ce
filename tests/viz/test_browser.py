"""The report as a browser shows it: no errors, and every picture is there and has a size."""

from __future__ import annotations

import json
import re
import subprocess
from html import unescape
from pathlib import Path

import pytest

import bcgraph
from bcgraph.search import run
from bcgraph.search.scores.audit import Audit, Finding
from bcgraph.viz import report
from tests import needs
from tests.search import landscape

TEXT = """
bcg 1
network five { input = image(1, 8, 8); steps = 2; backbone = tiny(width=4, classes=10) }
data = digits
search {
  init { pool = 30; keep = 6 }
  evolve { iterations = 3; top = 4; population = 8; offspring = 3 }
}
"""

# The page itself holds no script. This one, in a copy of it, tells what was drawn where.
PROBE = """<script>
addEventListener("error", (e) => { document.body.dataset.error = e.message; });
addEventListener("load", () => {
  const boxes = [...document.querySelectorAll("svg")].map((svg) => {
    const box = svg.getBoundingClientRect();
    return [svg.closest("[id]:not(svg, svg *)").id, box.width, box.height, svg.querySelectorAll("path").length];
  });
  document.body.dataset.boxes = JSON.stringify(boxes);
  document.body.dataset.wide = document.documentElement.scrollWidth > innerWidth;
});
</script></head>"""

QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
]


def browse(page: Path, profile: Path) -> tuple[str, list[str]]:
    """The document after loading, and what the page wrote to the console."""
    chromium = needs.program("chromium", "chromium-browser", "google-chrome")
    command = [chromium, *QUIET, f"--user-data-dir={profile}", "--window-size=1200,900", "--virtual-time-budget=3000"]
    command += ["--enable-logging=stderr", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.slow
def test_an_error_would_be_seen(tmp_path: Path) -> None:
    page = tmp_path / "broken.html"
    page.write_text("<!DOCTYPE html><html><body><script>missing()</script></body></html>")
    _, console = browse(page, tmp_path / "profile")
    assert any("missing is not defined" in line for line in console)


@pytest.mark.slow
def test_a_browser_shows_the_report(tmp_path: Path) -> None:
    out = tmp_path / "run"
    run(bcgraph.parse(TEXT), out, evaluators=landscape.Fake())
    Audit(7, (Finding("n", "reproducibility", "float64", 0.875),)).write(out)
    written = report.write(out)

    document, console = browse(written, tmp_path / "profile")
    assert console == []
    assert '<table id="audit">' in document

    probed = tmp_path / "probed.html"
    probed.write_text(written.read_text().replace("</head>", PROBE, 1))
    document, console = browse(probed, tmp_path / "profile")
    assert console == []
    assert "data-error" not in document
    assert 'data-wide="false"' in document
    (found,) = re.findall(r'data-boxes="([^"]*)"', document)
    boxes = json.loads(unescape(found))
    places = [place for place, *_ in boxes]
    assert places == ["progress", *["architectures"] * 6, "plane", "heat", "positions"]
    assert all(width > 150 and height > 90 and paths > 3 for _, width, height, paths in boxes), boxes
