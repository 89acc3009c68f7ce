"""The notebooks run from top to bottom, one after the other in one kernel, and show what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests import needs

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parents[1] / "notebooks"
NAMES = ("first_network", "search_and_look", "deploy")


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """The code cells of each notebook, with their outputs."""
    nbformat, nbclient = needs.package("nbformat"), needs.package("nbclient")
    needs.package("ipykernel")
    together = nbformat.v4.new_notebook()
    owners: list[str] = []
    for name in NAMES:
        own = [nbformat.v4.new_code_cell("%reset -f")]
        own += [cell for cell in nbformat.read(FOLDER / f"{name}.ipynb", 4).cells if cell.cell_type == "code"]
        together.cells += own
        owners += [name] * len(own)
    for number, cell in enumerate(together.cells):
        cell["id"] = f"cell-{number}"
    folder = tmp_path_factory.mktemp("notebooks")
    client = nbclient.NotebookClient(together, timeout=120, resources={"metadata": {"path": str(folder)}})
    client.execute()
    found: dict[str, list[Any]] = {name: [] for name in NAMES}
    for name, cell in zip(owners, together.cells, strict=True):
        found[name].append(cell)
    return {name: cells[1:] for name, cells in found.items()}


def shown(cell: Any) -> dict[str, str]:
    """What the cell shows, by kind."""
    return {kind: text for output in cell.outputs for kind, text in output.get("data", {}).items()}


def test_every_notebook_is_listed() -> None:
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(NAMES)


def test_the_first_network(executed: dict[str, list[Any]]) -> None:
    cells = executed["first_network"]
    assert "4→0" in shown(cells[0])["image/svg+xml"]
    assert "4→2" in shown(cells[1])["image/svg+xml"]
    assert "parameters" in shown(cells[2])["text/html"]
    assert shown(cells[3])["text/plain"] == "torch.Size([8, 4, 10])"
    assert "<svg" in shown(cells[4])["image/svg+xml"]
    assert "backward.4_0.bn@-1" in shown(cells[5])["text/html"]


def test_the_search(executed: dict[str, list[Any]]) -> None:
    cells = executed["search_and_look"]
    assert shown(cells[0])["text/plain"] == "121"
    assert "<svg" in shown(cells[1])["text/html"]
    assert "evolve" in shown(cells[2])["text/html"]
    assert "test accuracy" in shown(cells[4])["text/html"]


def test_the_deployment(executed: dict[str, list[Any]]) -> None:
    cells = executed["deploy"]
    assert int(shown(cells[1])["text/plain"]) > 10_000
    accuracy = float(shown(cells[2])["text/plain"])
    assert 0.1 < accuracy <= 1
    assert float(shown(cells[3])["text/plain"]) >= 0.95
