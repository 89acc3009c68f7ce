"""The packed extension in Visual Studio Code itself: its server and workbench are in the npm package `code-server`, and
Chromium shows them. CI does without it, since code-server has native modules to build."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import needs
from tests.viz.browser import browser  # noqa: F401

VSCODE = Path(__file__).parent.parent.parent / "editors" / "vscode"
TEXT = """\
bcg 1

# A network with a neuron of its own.
neuron leaky(tau=0.5) {
  state v = 0
  u = tau * v + I
  s = spike(u - 1, triangle())
  v = u * (1 - s)
}

network net {
  input = image(3, 32, 32)
  steps   = 4
  neuron = leaky(tau=0.5)
  backbone = tiny(width=16, clases=10)

  backward @4 -> lif1 { delay = 2 }
}
"""
SECONDS = 30
pytestmark = pytest.mark.slow


class Editor:
    """Visual Studio Code with the file open."""

    def __init__(self, page: Any, file: Path) -> None:
        self.page = page
        self.file = file

    def word(self, line: str, word: str) -> Any:
        """The colored piece of text `word` in the line that contains `line`."""
        exactly = re.compile(rf"^{re.escape(word)}$")
        return self.page.locator(".view-line", has_text=line).locator("span > span").filter(has_text=exactly).first

    def color(self, line: str, word: str) -> str:
        return str(self.word(line, word).evaluate("each => getComputedStyle(each).color"))

    def command(self, name: str) -> None:
        self.page.keyboard.press("F1")
        self.page.locator(".quick-input-widget input").first.fill(f">{name}")
        self.page.locator(".quick-input-list .monaco-list-row", has_text=name).first.click()

    def saved(self) -> str:
        self.command("File: Save")
        time.sleep(1)
        return self.file.read_text()


@pytest.fixture(scope="module")
def program() -> Path:
    return needs.optional("code-server")


@pytest.fixture(scope="module")
def extension(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The extension as `npm run pack` makes it."""
    npm = needs.optional("npm")
    if not (VSCODE / "node_modules").exists():
        pytest.skip("the extension has no node_modules: `npm ci` in editors/vscode")
    packed = tmp_path_factory.mktemp("packed") / "bcgraph.vsix"
    subprocess.run([npm, "run", "pack", "--", "-o", packed], cwd=VSCODE, check=True, capture_output=True)
    return packed


@pytest.fixture(scope="module")
def server(program: Path, extension: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Address of Visual Studio Code with the extension, and the file it has to open."""
    home = tmp_path_factory.mktemp("code")
    file = home / "work" / "net.bcg"
    file.parent.mkdir()
    file.write_text(TEXT)
    settings = home / "data" / "User" / "settings.json"
    settings.parent.mkdir(parents=True)
    command = [sys.executable, "-m", "bcgraph"]
    settings.write_text(json.dumps({"bcgraph.command": command, "workbench.startupEditor": "none"}))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "XDG_CONFIG_HOME": str(home / "config")}
    call = [program, "--user-data-dir", home / "data", "--extensions-dir", home / "extensions"]
    subprocess.run([*call, "--install-extension", extension], check=True, capture_output=True, env=environment)
    call += ["--auth", "none", "--bind-addr", f"127.0.0.1:{port}", "--disable-workspace-trust", "--disable-telemetry"]
    with (home / "log").open("w") as log:
        running = subprocess.Popen([*call, "--disable-update-check"], stdout=log, stderr=log, env=environment)
        try:
            wait(lambda: answers(port))
            yield f"http://127.0.0.1:{port}/?folder={file.parent}", file
        finally:
            running.terminate()
            running.wait(SECONDS)


def answers(port: int) -> bool:
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) == 0


def wait(until: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not until():
        assert time.monotonic() < end, "Visual Studio Code does not answer"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def opened(browser: Any, server: tuple[str, Path]) -> Iterator[Editor]:  # noqa: F811
    address, file = server
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.set_default_timeout(1000 * SECONDS)
    page.goto(address)
    page.get_by_role("treeitem", name=file.name).dblclick()
    page.locator(".view-line", has_text="network net").wait_for()
    yield Editor(page, file)
    page.close()


@pytest.fixture
def editor(opened: Editor, tmp_path: Path) -> Iterator[Editor]:
    """One editor for all tests, each of which leaves a picture of how it ended."""
    yield opened
    opened.page.screenshot(path=tmp_path / "end.png")


def test_words_are_colored(editor: Editor) -> None:
    colors = {
        editor.color("network net", "network"),
        editor.color("network net", "net"),
        editor.color("steps", "4"),
        editor.color("steps", "steps"),
        editor.color("a neuron of its own", "# A network with a neuron of its own.".replace(" ", "\xa0")),
    }
    assert len(colors) == 5


def test_a_mistake_is_shown_and_its_hint_mends_it(editor: Editor) -> None:
    editor.page.locator(".squiggly-error").wait_for()
    editor.command("View: Focus Problems")
    row = editor.page.locator(".markers-panel").get_by_text("`tiny` has no argument `clases`").first
    row.wait_for()
    said = editor.page.locator(".markers-panel").inner_text()
    assert "E042" in said
    assert "hint: did you mean `classes`?" in said
    editor.word("backbone", "clases").click()
    editor.page.keyboard.press("Control+.")
    editor.page.locator(".action-widget").get_by_text("change to `classes`").wait_for()
    editor.page.keyboard.press("Enter")
    editor.page.locator(".view-line", has_text="classes=10").wait_for()
    editor.page.locator(".squiggly-error").wait_for(state="detached")


def test_shapes_stand_in_the_text_and_on_hover(editor: Editor) -> None:
    editor.word("backward", "lif1").hover()
    hover = editor.page.locator(".monaco-hover:visible", has_text="port @0")
    hover.wait_for()
    assert "16x32x32" in hover.inner_text()
    assert "layer2.0.lif2" in editor.page.locator(".view-line", has_text="backward").inner_text()


def test_settings_are_completed(editor: Editor) -> None:
    editor.word("steps", "steps").click()
    editor.page.keyboard.press("End")
    editor.page.keyboard.press("Enter")
    editor.page.keyboard.type("read")
    editor.page.keyboard.press("Control+Space")
    editor.page.locator(".suggest-widget .monaco-list-row", has_text="readout").wait_for()
    editor.page.keyboard.press("Tab")
    editor.page.locator(".view-line", has_text="readout").wait_for()
    editor.page.keyboard.type("last")


def test_a_file_is_formatted(editor: Editor) -> None:
    editor.command("Format Document")
    editor.page.locator(".view-line", has_text=re.compile(r"^\s+steps\s{4}=\s4$")).wait_for()
    assert "  steps    = 4\n  readout  = last\n" in editor.saved()


def test_a_neuron_is_renamed_wherever_it_stands(editor: Editor) -> None:
    editor.word("neuron leaky", "leaky").click()
    editor.page.keyboard.press("F2")
    editor.page.locator(".rename-box input").fill("forgetful")
    editor.page.keyboard.press("Enter")
    editor.page.locator(".view-line", has_text="neuron forgetful").wait_for()
    saved = editor.saved()
    assert "neuron forgetful(tau=0.5) {" in saved
    assert "= forgetful(tau=0.5)\n" in saved
    assert "leaky" not in saved


def test_the_network_is_drawn_beside_its_text(editor: Editor) -> None:
    editor.command("bcgraph: Show the Network")
    drawn = editor.page.frame_locator("iframe.webview").frame_locator("iframe").locator("svg").first
    drawn.wait_for()
    box = drawn.bounding_box()
    assert box["width"] > 300
    assert box["height"] > 50
