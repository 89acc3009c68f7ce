"""The files, commands and outputs of the README and of pages that tell a story, run as they stand.

Their files are those that they show (`tests/pages.py`). A block of ```python``` is run as it is, with the output of its
`print` calls in the comments that begin with `# ->`.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from tests import forked, pages

PAGES = ("README.md", "docs/training.md", "docs/placing-feedback.md")

# Commands that are told of, not run here: they set up or search for minutes, and have tests of their own.
TOLD = ("make ", "git ", "pip ")


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_page(page: str, tmp_path: Path) -> None:
    files = [block for block in pages.of_kind(page, "bcg") if block.file]
    assert files
    for block in files:
        (tmp_path / block.file).write_text(block.text)
    shutil.copytree(pages.ROOT / "specs", tmp_path / "specs")
    programs = tmp_path / "bin"
    programs.mkdir()
    environment = forked.program(programs) | {"COLUMNS": "200", "NO_COLOR": "1"}
    found = [each for block in pages.of_kind(page, "console") for each in block.commands]
    assert found
    for command, expected in found:
        if command.startswith(TOLD):
            continue
        _, printed = pages.called(command, tmp_path, environment)
        assert pages.matches(expected, printed), f"$ {command}\n--- {page}\n{expected}\n--- here\n{printed}"
    for block in pages.of_kind(page, "python"):
        expected = "\n".join(re.findall(r"# -> (.*)", block.text))
        ran = forked.run([sys.executable, "-c", block.text], cwd=tmp_path, text=True)
        assert ran.returncode == 0, ran.stderr
        assert pages.matches(expected, ran.stdout), f"--- {page}\n{expected}\n--- here\n{ran.stdout}"


@pytest.mark.parametrize("page", PAGES)
def test_pictures_and_links_lead_somewhere(page: str) -> None:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (pages.ROOT / page).read_text())
    assert targets
    for target in targets:
        assert ((pages.ROOT / page).parent / target).exists(), target
