"""Registered data sets and scores, from the text to the end of a search."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

import bcgraph
from bcgraph import plugins
from bcgraph.data.sources import DataSet, Held, Part, Request
from bcgraph.search.evaluators import Standard
from bcgraph.search.records.history import history
from bcgraph.viz import report

NET = """bcg 1
network net {{ input = image(1, 8, 8); steps = 2; backbone = tiny(width=4, classes={classes}) }}
{rest}
"""


class Stripes(Dataset[tuple[Tensor, int]]):
    """Two classes that anything can tell apart."""

    classes = ("dark", "bright")

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        drawn = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(index))
        return drawn + index % 2, index % 2


def parsed(rest: str, classes: int = 10) -> bcgraph.NetworkSpec:
    return bcgraph.parse(NET.format(rest=rest, classes=classes))


def test_a_torch_dataset_by_name(tmp_path: Path) -> None:
    bcgraph.register.data("stripes", Stripes())
    spec = parsed("data = stripes(batch=8); train { epochs = 2 }", classes=2)
    found = bcgraph.data.read(spec.data, spec.input, spec.steps)
    assert (found.name, found.classes, len(found.train.labels), len(found.test.labels)) == (
        "stripes",
        ("dark", "bright"),
        32,
        8,
    )
    assert bcgraph.train(spec, out=tmp_path / "run").accuracy == 1.0


@pytest.mark.parametrize("pair", [False, True])
def test_a_function_of_the_request(pair: bool) -> None:
    asked: list[Request] = []

    def load(request: Request) -> object:
        asked.append(request)
        labels = np.arange(6) % 3
        part = Part(Held(np.zeros((6, *request.shape), dtype=np.float32)), labels)
        return (Stripes(), Stripes()) if pair else DataSet("mine", part, part, ("a", "b", "c"), (0.0,), (1.0,))

    bcgraph.register.data("mine", load)
    spec = parsed('data = mine(root="somewhere")')
    found = bcgraph.data.read(spec.data, spec.input, spec.steps)
    assert asked[0] == Request(Path("somewhere"), (1, 8, 8), False, 2, spec.data)
    assert len(found.train.labels) == len(found.test.labels) == (40 if pair else 6)


def test_what_fails_or_is_no_data_set_is_said() -> None:
    bcgraph.register.data("failing", lambda request: 1 / 0)
    bcgraph.register.data("number", lambda request: 3)
    for name, code, words in (("failing", "E095", "ZeroDivisionError"), ("number", "E081", "but int")):
        spec = parsed(f"data = {name}()")
        with pytest.raises(bcgraph.BcgraphError, match=words) as caught:
            bcgraph.data.load(spec.data, spec.input, spec.steps)
        assert caught.value.code == code
        assert __file__ in str(caught.value)


SEARCH = """
data = digits(batch=32)
search {{
  init   {{ pool = 6; keep = 3; scores = {scores}; batch = 16 }}
  evolve {{ score = mass; iterations = 1; top = 2; population = 3; offspring = 1 }}
}}
"""


def mass(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The size of all gradients, which needs those of the weights; and it spoils the weights."""
    model(x).square().sum().backward()
    total = sum((p.grad.abs().sum() for p in model.parameters() if p.grad is not None), torch.zeros(()))
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    return total


@pytest.mark.parametrize("scores", ["[mass]", "[n, mass, e]"])
def test_a_search_by_a_registered_score(tmp_path: Path, scores: str) -> None:
    bcgraph.register.score("mass", mass, label="gradient mass")
    spec = parsed(SEARCH.format(scores=scores))
    assert bcgraph.parse(bcgraph.format(spec)) == spec
    result = bcgraph.search.run(spec, tmp_path / "run")
    assert len(result.records) == 12
    for record in result.records:
        assert record.evaluation.value("mass") > 0
        assert (record.evaluation.n is not None) == (record.stage == "init" and "n" in scores)
    best = max(r.evaluation.value("mass") for r in result.records if r.stage == "evolve")
    assert result.chosen.evaluation.value("mass") == best
    found = history(tmp_path / "run")
    assert found["evaluations"][0]["scores"]["mass"] == result.records[0].evaluation.value("mass")
    assert "gradient mass" in (tmp_path / "run" / "best.bcg").read_text()
    report.write(tmp_path / "run")
    assert "gradient mass" in (tmp_path / "run" / "report.html").read_text()
    again = bcgraph.search.run(spec, tmp_path / "run")
    assert again.records == result.records
    # A report needs neither the function nor its plugin.
    bcgraph.register.forget("score", "mass")
    assert json.loads(json.dumps(history(tmp_path / "run"))) == json.loads(json.dumps(found))


def test_a_score_that_fails_ends_the_search_and_one_that_is_not_finite_ranks_last(tmp_path: Path) -> None:
    bcgraph.register.score("mass", lambda model, x, y: 1 / 0)
    with pytest.raises(bcgraph.BcgraphError, match="ZeroDivisionError") as caught:
        bcgraph.search.run(parsed(SEARCH.format(scores="[mass]")), tmp_path / "a")
    assert caught.value.code == "E095"
    bcgraph.register.forget("score", "mass")
    bcgraph.register.score("mass", lambda model, x, y: float("nan"))
    with pytest.raises(bcgraph.BcgraphError, match=r"none of the .* candidates is alive") as caught:
        bcgraph.search.run(parsed(SEARCH.format(scores="[mass]")), tmp_path / "b")
    assert caught.value.code == "E089"


def test_scores_of_spikes_and_gradients_are_those_of_bcgraph_itself_under_other_names(tmp_path: Path) -> None:
    for name in ("n", "e"):
        found = plugins.find("score", name)
        assert found is not None
        bcgraph.register.score(f"{name}2", found.value.measure)
    spec = parsed(SEARCH.format(scores="[n, e, n2, e2]").replace("mass", "n"))
    (result,) = Standard(spec, 0, tmp_path).init()([spec])
    assert result.n is not None
    assert result.e is not None
    assert result.scores == (("n2", result.n), ("e2", result.e))
