"""The files, commands and outputs of the README and of pages of the documentation, run as they stand.

A block of ```bcg``` behind a line that ends in a file name in backquotes and a colon is that file. In a block of
```console``` a line with `$ ` is a command, and what follows is its output; `...` stands for any text. A block of
```python``` is run as it is, with the output of its `print` calls in the comments that begin with `# ->`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import forked

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "docs/training.md", "docs/placing-feedback.md")
BLOCK = re.compile(r"(?:`(?P<file>[^`\n]+)`:\n\n)?```(?P<kind>\w+)\n(?P<text>.*?)```", re.DOTALL)

# Lines of progress, of which there are as many as there are epochs, or as the machine is slow.
PROGRESS = re.compile(r"^[a-z][\w ]*: (?:epoch )?\d+/\d+.*\n", re.MULTILINE)

# Commands that are told of, not run here: they set up or search for minutes, and have tests of their own.
TOLD = ("make ", "git ", "pip ")


def blocks(page: str, kind: str) -> list[re.Match[str]]:
    return [m for m in BLOCK.finditer((ROOT / page).read_text()) if m["kind"] == kind]


def commands(page: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for block in blocks(page, "console"):
        parts = re.split(r"^\$ ", block["text"], flags=re.MULTILINE)
        assert parts[0] == "", "a console block begins with a command"
        for part in parts[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output.rstrip("\n")))
    return [(c, o) for c, o in found if not c.startswith(TOLD)]


def matches(expected: str, actual: str) -> bool:
    pattern = ".*?".join(re.escape(piece) for piece in expected.split("..."))
    return re.fullmatch(pattern, actual, re.DOTALL) is not None


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_page(page: str, tmp_path: Path) -> None:
    files = [m for m in blocks(page, "bcg") if m["file"]]
    assert files
    for block in files:
        (tmp_path / block["file"]).write_text(block["text"])
    shutil.copytree(ROOT / "specs", tmp_path / "specs")
    programs = tmp_path / "bin"
    programs.mkdir()
    environment = forked.program(programs) | {"COLUMNS": "200", "NO_COLOR": "1"}
    found = commands(page)
    assert found
    for command, expected in found:
        done = subprocess.run(
            command,
            shell=True,
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        actual = PROGRESS.sub("", done.stdout).rstrip("\n")
        assert matches(expected, actual), f"$ {command}\n--- {page}\n{expected}\n--- here\n{actual}"
    for block in blocks(page, "python"):
        expected = "\n".join(re.findall(r"# -> (.*)", block["text"]))
        done = forked.run([sys.executable, "-c", block["text"]], cwd=tmp_path, text=True)
        assert done.returncode == 0, done.stderr
        assert matches(expected, done.stdout.rstrip("\n")), f"--- {page}\n{expected}\n--- here\n{done.stdout}"


@pytest.mark.parametrize("page", PAGES)
def test_pictures_and_links_lead_somewhere(page: str) -> None:
    targets = re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text())
    assert targets
    for target in targets:
        assert ((ROOT / page).parent / target).exists(), target
