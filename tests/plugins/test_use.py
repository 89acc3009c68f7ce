"""`use "package"`: what is loaded, what is not, and what is said when it goes wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import bcgraph
from bcgraph import plugins
from tests.plugins.conftest import Install, installed

NET = """bcg 1
{use}
network net {{
  input    = image(1, 8, 8)
  steps    = 2
  backbone = tiny(width=4)
}}
{after}
"""

TOY = """
import bcgraph

def toys(request):
    raise NotImplementedError

bcgraph.register.data("toys", toys)
bcgraph.register.score("depth", lambda model, x, y: 1.0)
"""


def text(use: str = "", after: str = "data = toys()") -> str:
    return NET.format(use=use, after=after)


def refused(given: str) -> bcgraph.BcgraphError:
    with pytest.raises(bcgraph.BcgraphError) as caught:
        bcgraph.parse(given, file="net.bcg")
    return caught.value


def test_a_used_plugin_is_loaded_and_its_line_is_kept(install: Install) -> None:
    install("toy-box", TOY)
    spec = bcgraph.parse(text('use "toy-box"'))
    assert spec.uses == ("toy-box",)
    assert spec.data.name == "toys"
    canonical = bcgraph.format(spec)
    assert canonical.startswith('bcg 1\n\nuse "toy-box"\n')
    assert bcgraph.parse(canonical) == spec
    assert bcgraph.dsl.format_text(canonical) == canonical
    (found,) = (e for e in bcgraph.register.registered("data"))
    assert (found.origin.package, found.origin.version) == ("toy-box", "1.0")


def test_the_line_does_not_change_what_weights_fit(install: Install) -> None:
    install("toy-box", TOY)
    with_line, without = bcgraph.parse(text('use "toy-box"', "")), bcgraph.parse(text("", ""))
    assert with_line != without
    assert with_line.fingerprint() == without.fingerprint()
    assert "uses" not in without.model_dump(mode="json")
    assert without.model_validate(without.__dict__) == without


@pytest.mark.parametrize("after", ["data = toys()", "search { init { scores = [n, depth] } }"])
def test_a_name_without_its_line_is_refused_with_the_package(install: Install, after: str) -> None:
    install("toy-box", TOY)
    error = refused(text("", after))
    assert error.code == "E025"
    assert error.span is not None
    assert error.span.line == 8
    assert error.hint == 'write `use "toy-box"` after `bcg 1`'


def test_a_missing_plugin_is_not_imported(install: Install, tmp_path: Path) -> None:
    # A module of that name is there, but is no plugin.
    (tmp_path / "site" / "lurking.py").write_text("raise SystemExit('imported')")
    error = refused(text('use "lurking"', ""))
    assert error.code == "E024"
    assert "is not installed" in str(error)
    assert "pip install lurking" in str(error.hint)
    assert "lurking" not in sys.modules


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import no_such_module_at_all", "ModuleNotFoundError: No module named 'no_such_module_at_all'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("def broken(:", "SyntaxError"),
        ("import bcgraph\nbcgraph.register.score('half', len)\n1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_plugin_that_fails_is_a_located_error(install: Install, code: str, reason: str) -> None:
    install("bad-one", code)
    error = refused(text('use "bad-one"', ""))
    assert error.code == "E024"
    assert error.span is not None
    assert (error.span.line, error.span.column) == (2, 5)
    assert reason in str(error)
    assert "bad-one 1.0" in str(error)
    assert not plugins.REGISTRY.entries()


def test_two_plugins_with_one_name_are_refused_with_both(install: Install) -> None:
    install("first", "import bcgraph\nbcgraph.register.score('depth', len)")
    install("second", "import bcgraph\nbcgraph.register.score('depth', len)", version="2.0")
    error = refused(text('use "first"\nuse "second"', ""))
    assert error.code == "E036"
    assert error.span is not None
    assert error.span.line == 3
    assert "`first` 1.0" in str(error)
    assert "`second` 2.0" in str(error)


def test_an_entry_point_may_be_a_function(install: Install) -> None:
    code = "def start():\n    import bcgraph\n    bcgraph.register.score('depth', len)\n"
    install("called", code, point="called:start")
    assert bcgraph.parse(text('use "called"', "search { init { scores = [depth] } }")).search.init.scores == ("depth",)


def test_a_name_registered_by_a_call_needs_no_line() -> None:
    bcgraph.register.score("depth", lambda model, x, y: 1.0)
    spec = bcgraph.parse(text("", "search { init { scores = [depth] } }"))
    assert spec.uses == ()
    bcgraph.register.forget("score", "depth")
    with pytest.raises(bcgraph.BcgraphError, match="E043"):
        bcgraph.parse(text("", "search { init { scores = [depth] } }"))


def test_imported_files_bring_their_plugins(install: Install, tmp_path: Path) -> None:
    install("toy-box", TOY)
    (tmp_path / "blocks.bcg").write_text('bcg 1\nuse "toy-box"\nblock nothing() {}\n')
    (tmp_path / "net.bcg").write_text(text('import "blocks.bcg"'))
    assert bcgraph.load(tmp_path / "net.bcg").uses == ("toy-box",)


@pytest.mark.parametrize(
    ("name", "code"), [("n", "E036"), ("oneshot", "E036"), ("accuracy", "E036"), ("two words", "E005"), ("if", "E005")]
)
def test_names_that_are_taken_or_no_names(name: str, code: str) -> None:
    with pytest.raises(bcgraph.BcgraphError) as caught:
        bcgraph.register.score(name, len)
    assert caught.value.code == code


def command(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    line = [sys.executable, "-m", "bcgraph", *arguments]
    return subprocess.run(line, capture_output=True, text=True, env=environment, cwd=site, check=False)


def test_the_command_lists_what_is_registered(tmp_path: Path) -> None:
    installed(tmp_path, "toy-box", TOY)
    installed(tmp_path, "bad-one", "1 / 0")
    done = command(tmp_path, "plugins", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 1
    assert [(e["kind"], e["name"], e["plugin"], e["version"]) for e in found["registered"]] == [
        ("data", "toys", "toy-box", "1.0"),
        ("score", "depth", "toy-box", "1.0"),
    ]
    assert {e["name"] for e in found["installed"]} == {"toy-box", "bad-one"}
    assert [d["code"] for d in found["diagnostics"]] == ["E024"]
    shown = command(tmp_path, "plugins")
    assert "data set  toys   toy-box  1.0" in shown.stdout
    assert "Traceback" not in shown.stderr


def test_check_imports_neither_torch_nor_other_plugins(tmp_path: Path) -> None:
    installed(tmp_path, "toy-box", TOY)
    installed(tmp_path, "other", "raise SystemExit('imported')")
    (tmp_path / "net.bcg").write_text(text('use "toy-box"'))
    probe = "import sys, bcgraph; bcgraph.load('net.bcg'); assert not {'torch', 'other'} & set(sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    subprocess.run([sys.executable, "-c", probe], check=True, env=environment, cwd=tmp_path)


WAITS = """
import threading
import bcgraph
here, there = threading.Event(), threading.Event()
bcgraph.register.score("depth", lambda model, x, y: 1.0)
here.set()
assert there.wait(10)
{after}
"""


@pytest.mark.parametrize("after", ["", "raise ValueError"])
def test_another_thread_registers_while_a_plugin_is_loaded(
    install: Install, after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It neither waits for the plugin, which may wait for it, nor does what it registers belong to the plugin."""
    events: tuple[threading.Event, threading.Event] = threading.Event(), threading.Event()
    install("waits", WAITS.format(after=after).replace("threading.Event(), threading.Event()", "bcgraph.events"))
    monkeypatch.setattr(bcgraph, "events", events, raising=False)
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(plugins.load, "waits")
        assert events[0].wait(10)
        other = ThreadPoolExecutor(1)
        try:
            other.submit(bcgraph.register.score, "width", lambda model, x, y: 2.0).result(5)
        finally:
            events[1].set()
            other.shutdown()
        error = loading.exception()
    assert (error is None) == (not after)
    found = {entry.name: entry.origin.package for entry in plugins.REGISTRY.entries()}
    assert found == ({"width": None} if after else {"depth": "waits", "width": None})
