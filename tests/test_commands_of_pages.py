"""The commands of the other pages, run as they stand in a folder with what they name: small networks and a run.

Where a page shows what a command prints, that is compared; where it does not, the command has to succeed.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests import forked, pages
from tests.test_readme import PAGES as STORIES

PLUGIN = "docs/extending.md"
"""Its commands need its plugin: tests/plugins/test_page.py runs them."""

PAGES = [page for page in pages.PAGES if page not in (*STORIES, PLUGIN) and pages.of_kind(page, "console")]

NETWORK = """\
bcg 1

network net {
  input    = image(1, 8, 8)
  steps    = 2
  backbone = tiny(width=8, classes=10)

  backward layer2.0.lif2 -> lif1
}

data = digits(batch=64, train=256)
train { epochs = 1 }
search {
  init     { pool = 4; keep = 2 }
  supernet { epochs = 1 }
  evolve   { iterations = 1; top = 2; population = 2; offspring = 1 }
}
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return forked.program(tmp_path_factory.mktemp("bin")) | {"COLUMNS": "200", "NO_COLOR": "1"}


@pytest.fixture(scope="module")
def prepared(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages speak of as being there."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "net.bcg").write_text(NETWORK)
    (rows,) = (block.text for block in pages.of_kind("README.md", "bcg") if block.file == "rows.bcg")
    (folder / "rows.bcg").write_text(rows)
    shutil.copytree(pages.ROOT / "specs", folder / "specs")
    code, said = pages.called("bcgraph train net.bcg --out run", folder, environment)
    assert code == 0, said
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_commands_run(page: str, prepared: Path, environment: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "page"
    shutil.copytree(prepared, folder)
    for block in pages.of_kind(page, "console"):
        for command, expected in block.commands:
            code, said = pages.called(command, folder, environment)
            if expected:
                assert pages.matches(expected, said), f"{block}: $ {command}\n{expected}\n--- here\n{said}"
            assert code == ("error[" in expected), f"{block}: $ {command}\n{said}"
