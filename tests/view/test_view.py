"""`bcgraph view`: the page as Chromium shows it, what its calls answer, and whom the server refuses."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import bcgraph
from bcgraph.cli.commands.view import view_command
from bcgraph.errors import RunError
from bcgraph.profile import profile
from bcgraph.search import run
from bcgraph.view.network import NetworkPage
from bcgraph.view.search import SearchPage
from tests import needs
from tests.search import landscape
from tests.viz.browser import browser, errors, page
from tests.viz.test_browser import TEXT as SEARCH

__all__ = ["browser", "errors", "page"]

TEXT = """bcg 1

# digits
network net {
  input    = image(1, 8, 8)
  steps    = 2
  backbone = tiny(width=4, classes=10)

  backward @4 -> @1  # found by hand
  backward @2 -> @2 { delay = 2 }
}

data = digits(batch=32)
"""


@contextmanager
def serving(shown: Any) -> Iterator[Any]:
    server = needs.package("bcgraph.view.server")
    view = server.View(shown)
    thread = threading.Thread(target=view.run, daemon=True)
    thread.start()
    try:
        yield view
    finally:
        view.stop()
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "net.bcg"
    path.write_text(TEXT)
    return path


@pytest.fixture
def view(file: Path) -> Iterator[Any]:
    with serving(NetworkPage.of_file(file)) as found:
        yield found


def call(view: Any, name: str, given: Any = None, **headers: str) -> tuple[int, dict[str, Any]]:
    wanted = {"X-Bcgraph-Token": view.token, **headers}
    body = given if isinstance(given, bytes) else json.dumps(given).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{view.port}/api/{name}", data=body, method="POST", headers=wanted
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        text = error.read()
        return error.code, json.loads(text) if text.startswith(b"{") else {}


# --- The page of a network


def test_connections_are_switched_and_saved(page: Any, errors: list[str], view: Any, file: Path) -> None:
    page.goto(view.url)
    page.locator("#list tbody tr").nth(1).wait_for()
    assert page.title() == "net.bcg"
    rows = page.locator("#list tbody tr")
    assert [t.split("\t")[1] for t in rows.all_inner_texts()] == [
        "backward @2 -> @2 { delay = 2 }",
        "backward @4 -> @1",
    ]
    cost = page.locator("[data-cost=parameters] td:nth-child(2)")
    base = profile(bcgraph.load(file))
    assert cost.inner_text() == f"{base.parameters:,}"

    # An arc is switched off by a click; its cost goes at once and its row stays.
    page.locator(".bcg-arc[data-place='backward 4 1 1'] polygon").click()
    page.locator("tr.off").wait_for()
    assert cost.inner_text() == f"{profile(bcgraph.load(file).with_backward([(2, 2, 2)])).parameters:,}"
    # Two ports are connected by the keyboard.
    page.locator("[data-port='3']").focus()
    page.keyboard.press("Enter")
    page.locator("[data-port='0']").focus()
    page.keyboard.press("Enter")
    page.locator(".bcg-arc[data-place='backward 3 0 1']").wait_for()
    # And by the form, forward.
    page.locator("#source").select_option("0")
    page.locator("#target").select_option("2")
    page.locator("#delay").fill("0")
    page.get_by_role("button", name="Add").click()
    page.locator(".bcg-arc[data-place='forward 0 2 0']").wait_for()
    wanted = bcgraph.load(file).with_connections([(2, 2, 2), (3, 0)], [(0, 2, 0)])
    assert cost.inner_text() == f"{profile(wanted).parameters:,}"
    assert file.read_text() == TEXT

    page.locator("#save").click()
    page.get_by_text("saved", exact=True).wait_for()
    assert bcgraph.load(file) == wanted
    text = file.read_text()
    assert bcgraph.dsl.format_text(text) == text
    assert "# digits" in text
    assert "# found by hand" in text
    # What was switched off can be switched on again.
    page.locator("tr.off input").check()
    page.locator(".bcg-arc[data-place='backward 4 1 1']").wait_for()
    assert errors == []


def test_hover_tells_shapes_costs_and_spikes(page: Any, errors: list[str], view: Any) -> None:
    page.goto(view.url)
    port = page.locator("[data-port='1']")
    port.hover()
    tip = page.locator("#tip")
    assert tip.inner_text().split("\n")[:2] == ["@1 layer1.0.lif1", "4 x 8 x 8, lif"]
    assert "layer1.0.conv1: 144 parameters, 9,216 multiply-accumulates" in tip.inner_text()
    page.locator(".bcg-arc[data-place='backward 4 1 1'] polygon").hover()
    assert "40 parameters" in tip.inner_text()
    page.locator("#measure").click()
    page.locator("[data-cost=energy]").wait_for(timeout=60_000)
    port.hover()
    assert "firing rate by step: 0." in tip.inner_text()
    assert errors == []


def test_two_edits_at_once(page: Any, view: Any, file: Path) -> None:
    """A file that another program has changed is not written over."""
    page.goto(view.url)
    page.locator(".bcg-arc").first.wait_for()
    file.write_text(TEXT.replace("steps    = 2", "steps    = 3"))
    page.locator("#save").click()
    error = page.locator("#error")
    error.wait_for()
    assert "has changed since it was opened" in error.inner_text()
    assert "steps    = 3" in file.read_text()
    page.locator("#reset").click()
    error.wait_for(state="hidden")


# --- Calls


def test_what_is_no_connection_is_answered_with_a_message(view: Any) -> None:
    for given in (
        [["backward", 9, 0, 1]],
        [["backward", 0, 2, 1]],
        [["sideways", 1, 0, 1]],
        [[1]],
        [["backward", 1, 0, 0]],
    ):
        status, found = call(view, "show", given)
        assert status == 422
        assert found["error"]
    assert call(view, "show", b"{")[0] == 400
    assert call(view, "show", b" " * (1024 * 1024 + 1))[0] == 413


def test_a_run_is_shown_and_not_saved(file: Path) -> None:
    with serving(NetworkPage(bcgraph.load(file), "run")) as view:
        assert call(view, "open")[1]["saved"] is False
        status, found = call(view, "save", [])
        assert (status, "belongs to a run" in found["error"]) == (422, True)


# --- Whom the server refuses


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Bcgraph-Token": "wrong"},
        {"X-Bcgraph-Token": ""},
        {"Origin": "http://example.org"},
        {"Origin": "null"},
        {"Origin": "https://127.0.0.1"},
        {"Host": "example.org"},
        {"Host": "127.0.0.1"},
    ],
)
def test_other_pages_are_refused(view: Any, file: Path, headers: dict[str, str]) -> None:
    assert call(view, "save", [], **headers)[0] == 403
    assert file.read_text() == TEXT


def test_the_page_itself_is_not_refused(view: Any) -> None:
    for host in ("127.0.0.1", "localhost"):
        address = f"{host}:{view.port}"
        assert call(view, "show", [], Host=address, Origin=f"http://{address}")[0] == 200


def test_only_this_machine_is_listened_to(view: Any) -> None:
    assert view._socket.getsockname()[0] == "127.0.0.1"


def test_the_page_needs_the_token_and_asks_no_one_else(view: Any) -> None:
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"http://127.0.0.1:{view.port}/", timeout=30)
    with urllib.request.urlopen(view.url, timeout=30) as answer:
        policy = answer.headers["Content-Security-Policy"]
        text = answer.read().decode()
    assert "default-src 'none'" in policy
    assert "http" not in text.replace("http-equiv", "")


# --- A search


def test_a_search_is_followed_live(page: Any, errors: list[str], tmp_path: Path) -> None:
    out = tmp_path / "run"
    spec = bcgraph.parse(SEARCH)
    with pytest.raises(KeyboardInterrupt):
        run(spec, out, evaluators=landscape.Fake(limit=36))
    with serving(SearchPage(out)) as view:
        page.goto(view.url)
        state = page.locator("#state")
        page.get_by_text("running").wait_for()
        assert state.inner_text().startswith("30 scored, 6 evaluated; best")
        report = page.frame_locator("#report")
        report.locator("#port").select_option("3")
        run(spec, out, evaluators=landscape.Fake())
        page.get_by_text("finished").wait_for()
        assert state.inner_text().startswith("30 scored, 30 evaluated; best")
        report.get_by_text("30 architectures scored, 30 evaluated").wait_for()
        # A reader's choice stays.
        assert report.locator("#port").input_value() == "3"
    assert errors == []


# --- The command


def test_the_command_serves_until_it_is_interrupted(file: Path) -> None:
    command = [sys.executable, "-m", "bcgraph", "view", str(file), "--no-open"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        url = process.stderr.readline().split(": ", 1)[1].strip()
        with urllib.request.urlopen(url, timeout=30) as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=30)[1]
    finally:
        process.kill()
    assert "Traceback" not in rest
    assert process.returncode in (0, 130)


def test_without_a_web_server(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "bcgraph.view.server", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(RunError) as caught:
        view_command(str(file), browse=False)
    assert caught.value.code == "E092"
    assert "pip install 'bcgraph[view]'" in str(caught.value)


def test_a_port_that_is_taken(view: Any, file: Path) -> None:
    with pytest.raises(RunError) as caught:
        view_command(str(file), port=view.port, browse=False)
    assert caught.value.code == "E096"
