"""Every page of the documentation stands in the site, and no block of code in it stands unchecked.

Each block is run by a test, or has a line `<!-- not run: why -->` before it. Files in ```bcg``` are read here, and what
is a part of one has to be of the language.
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
from bcgraph import dsl
from bcgraph.cli.main import COMMANDS, build
from tests import needs, pages, test_commands_of_pages, test_readme

ROOT = pages.ROOT
DOCS = {Path(page).name: (ROOT / page).read_text(encoding="utf-8") for page in pages.PAGES if page.startswith("docs/")}

HERE = ("docs/deployment.md", "docs/importing.md")
"""Pages whose Python and C are run in this file."""

USED = (*test_readme.PAGES, test_commands_of_pages.PLUGIN)
"""Pages whose files are used by their tests."""

RUN = {
    ("python", "c"): {
        **dict.fromkeys(HERE, "tests/test_pages.py"),
        **dict.fromkeys(test_readme.PAGES, "tests/test_readme.py"),
        "docs/python.md": "tests/test_python_page.py",
        "docs/extending.md": "tests/plugins/test_page.py",
    },
    ("toml",): {"docs/extending.md": "tests/plugins/test_page.py"},
    ("console",): {
        **dict.fromkeys(test_commands_of_pages.PAGES, "tests/test_commands_of_pages.py"),
        **dict.fromkeys(test_readme.PAGES, "tests/test_readme.py"),
        test_commands_of_pages.PLUGIN: "tests/plugins/test_page.py",
    },
    ("text",): {
        "docs/architecture.md": "tests/test_architecture.py",
        "docs/errors.md": "tests/errors/test_errordocs.py",
        "docs/neurons.md": "tests/library/test_page.py",
        "docs/python.md": "tests/test_python_page.py",
        "docs/search.md": "tests/test_search_page.py",
    },
    ("bcg",): dict.fromkeys(pages.PAGES, "tests/test_pages.py"),
}
"""For kinds of blocks and a page, the test that runs them, or compares them with what it sees."""


@pytest.mark.parametrize("page", pages.PAGES)
def test_every_block_is_run_or_marked(page: str) -> None:
    tests = {kind: found[page] for kinds, found in RUN.items() for kind in kinds if page in found}
    for block in pages.blocks(page):
        assert block.kind, f"{block}: a block begins with a fence and its kind, such as ```console"
        if block.marked:
            continue
        assert block.kind in tests, f"{block}: no test runs this block, and no line says why"
        test = (ROOT / tests[block.kind]).read_text()
        assert page in test or Path(page).name in test or "pages.PAGES" in test, f"{tests[block.kind]} knows no {page}"


@pytest.mark.parametrize("page", pages.PAGES)
def test_files_are_of_the_language(page: str) -> None:
    for block in pages.of_kind(page, "bcg"):
        dsl.format_text(block.text, str(block))
        # Those of the others are used by their tests, some for what is wrong with them.
        if page not in USED and re.match(r"\s*(#.*\n\s*)*bcg 1\b", block.text):
            assert bcgraph.parse(block.text).ports


@pytest.mark.parametrize("page", pages.PAGES)
def test_commands_have_the_options_that_there_are(page: str) -> None:
    """Those of marked blocks, too."""
    shells = [block for block in pages.blocks(page) if block.kind in ("console", "bash")]
    text = "\n".join(block.text.replace("\\\n", " ") for block in shells)
    for line in re.findall(r"^(?:\$ |srun )?(bcgraph .*?)(?:\s+#.*|\s*[|<>].*|\s*&)?$", text, re.MULTILINE):
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
    for block in pages.of_kind("docs/deployment.md", "python"):
        if "aoti" not in block.text and "executorch" not in block.text:
            exec(compile(block.text, str(block), "exec"), names)


@pytest.mark.slow
def test_a_pt2_file_in_executorch_as_deployment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs.optional_package("executorch.exir")
    monkeypatch.chdir(tmp_path)
    spec = bcgraph.parse(
        "bcg 1\nnetwork net { input = image(1, 8, 8); steps = 2; backbone = tiny(width=4); backward @4 -> @1 }"
    )
    bcgraph.export(spec, "net.pt2")
    (block,) = (block for block in pages.of_kind("docs/deployment.md", "python") if "executorch" in block.text)
    exec(compile(block.text, str(block), "exec"), {})
    x = torch.rand(8, 1, 8, 8)
    from executorch.runtime import Runtime

    (found,) = Runtime.get().load_program("net.pte").load_method("forward").execute([x])
    assert torch.allclose(found, torch.export.load("net.pt2").module()(x), atol=1e-5)


@pytest.mark.slow
def test_a_pt2_file_without_python_as_deployment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs.program("g++")
    monkeypatch.chdir(tmp_path)
    spec = bcgraph.parse(
        "bcg 1\nnetwork net { input = image(1, 8, 8); steps = 2; backbone = tiny(width=4); backward @4 -> @1 }"
    )
    bcgraph.export(spec, "net.pt2")
    (block,) = (block for block in pages.of_kind("docs/deployment.md", "python") if "aoti" in block.text)
    names: dict[str, Any] = {}
    exec(compile(block.text, str(block), "exec"), names)
    x = torch.rand(16, 1, 8, 8)
    with torch.no_grad():
        ours, theirs = names["program"].module()(x), names["model"](x)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_c_of_deployment(tmp_path: Path) -> None:
    compiler = needs.program("cc", "gcc", "clang")
    spec = bcgraph.parse("bcg 1\nnetwork net { input = image(1, 8, 8); steps = 2; backbone = tiny(width=4) }")
    bcgraph.export(spec, tmp_path / "net.c")
    (block,) = pages.of_kind("docs/deployment.md", "c")
    (tmp_path / "main.c").write_text(block.text)
    command = [str(compiler), "-std=c99", "-Wall", "-Wextra", "-Werror", "-c", "main.c"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=60)


@pytest.mark.slow
def test_python_of_importing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for block in pages.of_kind("docs/importing.md", "python"):
        exec(compile(block.text, str(block), "exec"), {})
    assert bcgraph.load("net.bcg").ports


PAPER = "https://openreview.net/forum?id=fIKRJeLH7W"


@pytest.mark.parametrize("page", pages.PAGES)
def test_the_paper_is_linked_where_it_is_first_mentioned(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    mention = re.search(r"\b[Tt]he\s+\[?paper\b", text)
    assert mention is None or PAPER in text[mention.end() : mention.end() + 60]


def test_the_picture_of_the_first_network_is_what_draw_draws() -> None:
    text = pages.of_kind("README.md", "bcg")[0].text
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
    assert sorted(listed) == sorted({*DOCS, "index.md"})


def test_the_reference_has_every_public_name() -> None:
    named = re.findall(r"^::: (\S+)$", DOCS["api.md"], re.MULTILINE)
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
