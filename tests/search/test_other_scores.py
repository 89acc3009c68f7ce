"""Scores beside the paper's: against their equations on a plain network, and through a search."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import bcgraph
from bcgraph.search.scores.networks import results
from bcgraph.search.scores.scorer import Scorer, ScoringBatch
from bcgraph.search.scores.scoring import scoring
from bcgraph.search.scores.standard import grad_norm, late_locality, locality, naswot, snip
from bcgraph.search.supernet.shared_weights import SharedWeights
from tests.equivalence import support
from tests.reference import Reference


def naive_naswot(codes: list[Tensor]) -> float:
    """Two samples share the neurons that both or neither of them make fire."""
    count = len(codes[0])
    kernel = np.zeros((count, count))
    for layer in (tensor.detach().flatten(1).numpy() for tensor in codes):
        for i in range(count):
            for j in range(count):
                kernel[i, j] += float(np.sum(layer[i] == layer[j]))
    return float(np.linalg.slogdet(kernel)[1])


@pytest.mark.parametrize("sequence", [False, True])
@pytest.mark.parametrize("backward", [(), ((2, 0), (1, 1))])
def test_scores_of_a_network(sequence: bool, backward: tuple) -> None:
    spec = support.small(sequence=sequence, backward=backward)
    values = support.state(spec)
    model = support.build(spec, "unrolled", values)
    x, y = support.batch(spec, 8), torch.tensor([0, 1, 2, 3] * 2)
    plain = Reference(spec, values)
    trace = plain(x, training=True)
    F.cross_entropy(trace.output.mean(0), y).backward()
    gradients = plain.gradients()
    weights = [name for name, value in plain.parameters.items() if value.dim() > 1]
    assert any(bool(gradients[name].any()) for name in weights)
    found = results(model, x, y, {"naswot": naswot.SCORE})["naswot"].value
    assert found == pytest.approx(naive_naswot(list(trace.spikes.values())), abs=1e-9)
    with scoring(model):
        products = sum(float((plain.parameters[name].detach() * gradients[name]).abs().sum()) for name in weights)
        assert snip.snip(model, x, y) == pytest.approx(products, rel=1e-9)
        norms = sum(float(gradients[name].norm()) for name in weights)
        assert grad_norm.grad_norm(model, x, y) == pytest.approx(norms, rel=1e-9)


PAIRS = ((), ((2, 2),), ((3, 3), (2, 2)), ((3, 3), (1, 1)), ((2, 2), (0, 0)), ((3, 3), (3, 2)), ((3, 0), (3, 1)))


def test_locality_counts_connections_and_their_distance() -> None:
    spec = support.small(backward=())
    assert locality.locality(spec) == 0
    assert locality.locality(spec.with_backward([(2, 2)])) == 1
    assert locality.locality(spec.with_backward([(2, 0), (1, 1)])) == 2 - 2
    assert locality.locality(spec.with_backward([(3, 0, 2)])) == 1 - 3


def test_late_locality_orders_equals_by_their_targets() -> None:
    spec = support.small(backward=())
    ports = len(spec.ports)
    value = {pairs: late_locality.late_locality(spec.with_backward(pairs)) for pairs in PAIRS}
    assert value[()] == 0
    assert value[((2, 2),)] == 1 + 2 / ports
    assert value[((3, 3), (2, 2))] > value[((3, 3), (1, 1))] > value[((2, 2), (0, 0))] > value[((3, 3), (3, 2))]
    for pairs, found in value.items():
        assert int(found // 1) == locality.locality(spec.with_backward(pairs)), "ties are broken, and nothing else"


def test_locality_runs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("a network is made")

    monkeypatch.setattr(SharedWeights, "__init__", never)
    spec = support.small(backward=((2, 0),))
    batch = ScoringBatch(support.batch(spec, 4), torch.tensor([0, 0, 1, 1]))
    (found,) = Scorer(batch, 0, ("locality",), inits=2)([spec])
    assert found.measured("locality") == -1
    assert dict(found.samples)["locality"] == (-1.0, -1.0)


def test_every_kind_of_score_in_one_search(tmp_path: Path) -> None:
    spec = bcgraph.parse("""bcg 1
    network net { input = image(1, 8, 8); steps = 2; backbone = tiny(width=3) }
    data = digits
    search {
      init   { pool = 4; keep = 3; batch = 20; scores = [locality, n, naswot, snip, grad_norm] }
      evolve { score = locality; iterations = 1; top = 2; population = 2; offspring = 1 }
    }
    """)
    result = bcgraph.search.run(spec, tmp_path)
    for record in result.records:
        if record.stage == "init":
            assert all(record.evaluation.measured(name) is not None for name in spec.search.init.scores)
    assert result.chosen.evaluation.measured("locality") == max(
        r.evaluation.measured("locality") or -99 for r in result.records if r.stage == "evolve"
    )
