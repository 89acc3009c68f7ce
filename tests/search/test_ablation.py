"""`specs/ablation/`: one file for each row of the paper's Table 4."""

from __future__ import annotations

from pathlib import Path

import pytest

import bcgraph
from bcgraph import dsl
from bcgraph.search import space_size
from bcgraph.search.strategies import selection

FOLDER = Path(__file__).parents[2] / "specs/ablation"

# Row -> scores of step one, strategy and score of step two, size of the initial pool (Table 4, left to right).
ROWS = {
    "bcnas_snn": (("n", "e"), "evolutionary", "oneshot", 2000),
    "exp1": (("n",), "evolutionary", "oneshot", 2000),
    "exp2": (("e",), "evolutionary", "oneshot", 2000),
    "exp3": (("n", "e"), "random", "oneshot", 2000),
    "exp4": (("n", "e"), "evolutionary", "n", 2000),
    "exp5": (("n", "e"), "evolutionary", "e", 2000),
    "exp6": (("n", "e"), "evolutionary", "oneshot", 1000),
    "exp7": (("n", "e"), "evolutionary", "oneshot", 500),
    "exp8": (("n", "e"), "evolutionary", "oneshot", 0),
}


def test_every_row_has_a_file() -> None:
    assert {path.stem for path in FOLDER.glob("*.bcg")} == {"baseline", *ROWS}


@pytest.mark.parametrize("row", ROWS)
def test_a_row_differs_from_the_method_in_its_setting_alone(row: str) -> None:
    spec = bcgraph.load(FOLDER / f"{row}.bcg")
    settings = spec.search
    assert (settings.init.scores, settings.evolve.strategy, settings.evolve.score, settings.init.pool) == ROWS[row]
    method = bcgraph.load(FOLDER / "bcnas_snn.bcg")
    init = settings.init.model_copy(update={"pool": 2000, "scores": ("n", "e")})
    evolve = settings.evolve.model_copy(update={"strategy": "evolutionary", "score": "oneshot"})
    assert settings.model_copy(update={"init": init, "evolve": evolve}) == method.search
    assert (spec.data, spec.train, spec.fingerprint()) == (method.data, method.train, method.fingerprint())
    assert selection.check(spec) == ()


def test_sizes_of_the_paper() -> None:
    method = bcgraph.load(FOLDER / "bcnas_snn.bcg")
    evolve = method.search.evolve
    assert (evolve.iterations, evolve.top, evolve.population, evolve.offspring) == (20, 10, 20, 10)
    assert (evolve.mutation, evolve.crossover) == (0.2, 0.5)
    assert (method.search.init.keep, method.search.supernet.epochs, method.train.epochs) == (20, 100, 300)
    assert (method.steps, method.data.name, len(method.ports)) == (4, "cifar100", 17)
    assert space_size(method, method.search.max_backward) == 11_782


def test_the_baseline_is_the_network_alone() -> None:
    spec, method = (bcgraph.load(FOLDER / f"{name}.bcg") for name in ("baseline", "bcnas_snn"))
    assert spec.backward == ()
    assert space_size(spec, spec.search.max_backward) == 1
    assert (spec.data, spec.train, spec.fingerprint()) == (method.data, method.train, method.fingerprint())


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.bcg")), ids=lambda p: p.stem)
def test_files_are_readable_and_keep_their_comments(path: Path) -> None:
    text = dsl.format_text(path.read_text())
    assert dsl.parse(text) == bcgraph.load(path)
    assert text.startswith("# Table 4 of the paper")
