"""Every page of the documentation stands in the site, and no block of code in it stands unchecked.

Blocks of ```python``` are run, here or by the test that `RUN` names, and those of ```c``` compiled. Files in ```bcg```
are read. Commands in ```console``` have the commands and options that there are; `tests/test_readme.py` runs those of
its pages as well.
A block that a machine cannot check has a line `<!-- not run: why -->` before it.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
import yaml
from typer.core import TyperGroup

import bcgraph
from bcgraph.cli.main import COMMANDS, build
from tests import needs
from tests.test_readme import PAGES as READ

ROOT = Path(__file__).parents[1]
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
PAGES["README.md"] = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(
    r"(?P<mark><!-- not run: [^\n]+ -->\n+)?^ *```(?P<kind>\w*)[^\n]*\n(?P<text>.*?)^ *```$", re.DOTALL | re.MULTILINE
)

RUN = {
    "python.md": "tests/test_python_page.py",
    "extending.md": "tests/plugins/test_page.py",
    **{Path(page).name: "tests/test_readme.py" for page in READ},
}
"""By page, the test that runs its Python."""

SHOWN = {"text", "toml", "json", "yaml", "mermaid", "lua", "elisp", "lisp", "vim"}
"""Output and settings of other programs."""


def blocks(page: str, *kinds: str) -> list[str]:
    return [m["text"] for m in BLOCK.finditer(PAGES[page]) if m["kind"] in kinds and not m["mark"]]


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_checked_or_marked(page: str) -> None:
    for found in BLOCK.finditer(PAGES[page]):
        if found["mark"] or found["kind"] in SHOWN:
            continue
        assert found["kind"] in ("python", "c", "bcg", "console", "sh", "bash"), found[0]
        if found["kind"] in ("python", "c") and page not in HERE:
            test = ROOT / RUN[page]
            assert page in test.read_text() or "PAGES" in test.read_text()


@pytest.mark.parametrize("page", [page for page in PAGES if page not in RUN])
def test_files_are_read(page: str) -> None:
    """Those of the other pages are used by their tests, some for what is wrong with them."""
    for text in blocks(page, "bcg"):
        if re.match(r"\s*(#.*\n\s*)*bcg 1\b", text):
            assert bcgraph.parse(text).ports


def commands(page: str) -> list[str]:
    found = []
    for text in blocks(page, "console", "sh", "bash"):
        joined = text.replace("\\\n", " ")
        found += re.findall(r"^(?:\$ )?(bcgraph .*?)(?:\s+#.*|\s*[|>].*|\s*&)?$", joined, re.MULTILINE)
    return found


@pytest.mark.parametrize("page", PAGES)
def test_commands_have_the_options_that_there_are(page: str) -> None:
    for line in commands(page):
        # A variable of the shell stands for a number here.
        _, name, *arguments = shlex.split(re.sub(r"\$\w+", "1", line))
        if name.startswith("-"):
            continue
        assert name in COMMANDS, line
        group = typer.main.get_command(build(name))
        assert isinstance(group, TyperGroup)
        if not {"--help", "-h"} & set(arguments):
            group.commands[name].make_context(name, arguments)


def test_python_of_deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spec = bcgraph.load(ROOT / "specs" / "tiny_digits_rows.bcg")
    bcgraph.export(spec, "best.onnx", form="step", classes=tuple("0123456789"))
    names = {"frames": torch.rand(spec.steps, *spec.input.shape).numpy()}
    for text in blocks("deployment.md", "python"):
        if "aoti" not in text:
            exec(compile(text, "docs/deployment.md", "exec"), names)


@pytest.mark.slow
def test_a_pt2_file_without_python_as_deployment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs.program("g++")
    monkeypatch.chdir(tmp_path)
    spec = bcgraph.parse(
        "bcg 1\nnetwork net { input = image(1, 8, 8); steps = 2; backbone = tiny(width=4); backward @4 -> @1 }"
    )
    bcgraph.export(spec, "net.pt2")
    (text,) = (text for text in blocks("deployment.md", "python") if "aoti" in text)
    names: dict[str, Any] = {}
    exec(compile(text, "docs/deployment.md", "exec"), names)
    x = torch.rand(16, 1, 8, 8)
    with torch.no_grad():
        ours, theirs = names["program"].module()(x), names["model"](x)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_c_of_deployment(tmp_path: Path) -> None:
    compiler = needs.program("cc", "gcc", "clang")
    spec = bcgraph.parse("bcg 1\nnetwork net { input = image(1, 8, 8); steps = 2; backbone = tiny(width=4) }")
    bcgraph.export(spec, tmp_path / "net.c")
    (text,) = blocks("deployment.md", "c")
    (tmp_path / "main.c").write_text(text)
    command = [str(compiler), "-std=c99", "-Wall", "-Wextra", "-Werror", "-c", "main.c"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=60)


@pytest.mark.slow
def test_python_of_importing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for text in blocks("importing.md", "python"):
        exec(compile(text, "docs/importing.md", "exec"), {})
    assert bcgraph.load("net.bcg").ports


PAPER = "https://openreview.net/forum?id=fIKRJeLH7W"

HERE = ("deployment.md", "importing.md")
"""Pages whose Python and C are used here."""


@pytest.mark.parametrize("page", sorted(set(PAGES) - {"README.md"}))
def test_the_paper_is_linked_where_it_is_first_mentioned(page: str) -> None:
    mention = re.search(r"\b[Tt]he\s+\[?paper\b", PAGES[page])
    assert mention is None or PAPER in PAGES[page][mention.end() : mention.end() + 60]


def test_the_picture_of_the_first_network_is_what_draw_draws() -> None:
    text = next(m["text"] for m in BLOCK.finditer(PAGES["README.md"]) if m["kind"] == "bcg")
    assert (ROOT / "docs" / "rows.svg").read_text() == bcgraph.draw(bcgraph.parse(text)), "draw docs/rows.svg anew"


def test_the_site_has_every_page() -> None:
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    pending, listed = [settings["nav"]], []
    while pending:
        entry = pending.pop()
        if isinstance(entry, str):
            listed.append(entry)
        else:
            pending += entry.values() if isinstance(entry, dict) else entry
    assert sorted(listed) == sorted({*PAGES, "index.md"} - {"README.md"})


def test_the_reference_has_every_public_name() -> None:
    named = re.findall(r"^::: (\S+)$", PAGES["api.md"], re.MULTILINE)
    found = []
    for name in named:
        try:
            found.append(import_module(name))
        except ModuleNotFoundError:
            module, _, attribute = name.rpartition(".")
            found.append(getattr(import_module(module), attribute))
    public = {name: getattr(bcgraph, name) for name in bcgraph.__all__}
    missing = {name for name, value in public.items() if not any(value is each for each in found)}
    # Packages whose functions are listed one by one.
    assert missing <= {"compiler", "data", "search", "training"}


def test_the_scores_page_has_the_formulas_that_are_computed() -> None:
    """The numbers of the page by hand, against the scores themselves."""
    import math

    from bcgraph.search.scores.standard import e, n

    codes = torch.tensor([[1.0, 0, 0, 1], [1, 1, 0, 0], [0, 1, 1, 1]])
    kernel = torch.zeros(3, 3, dtype=torch.float64)
    for i in range(3):
        for j in range(3):
            ri, rj = codes[i].mean().item(), codes[j].mean().item()
            below = 4 * (ri * (1 - rj) + (1 - ri) * rj)
            kernel[i, j] = 4 - (0.5 * (codes[i] != codes[j]).sum().item() / below if below else 0)
    assert n.n_score_from_spikes([codes]).value == pytest.approx(math.log(abs(torch.linalg.det(kernel).item())))
    rows = torch.randn(4, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    correlation = [torch.corrcoef(rows[m]) for m in ([0, 1], [2, 3])]
    wanted = sum(abs((r.abs() + 1e-5).log().sum().item()) for r in correlation)
    assert e.e_score_from_jacobian(rows, torch.tensor([0, 0, 1, 1])).value == pytest.approx(wanted)
