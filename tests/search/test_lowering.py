"""Candidates that are lowered from the network with all connections have the programs that they have alone."""

from __future__ import annotations

import random

import pytest

import bcgraph
from bcgraph import search
from bcgraph.schema import NetworkSpec
from bcgraph.search.scores.precision import PRECISIONS
from bcgraph.search.scores.scorer import Scorer
from bcgraph.search.supernet.lowered import PAIRS_A_CANDIDATE, Lowered, Lowering
from tests.search import test_paths
from tests.search.test_at_once import batch
from tests.search.test_paths import TINY

NETWORKS = {
    **{name: test_paths.NETWORKS[name] for name in ("image", "sequence", "norm of each step")},
    "quiet": f"input = image(1, 8, 8); steps = 2; neuron = alif(beta=0.5); feedback = project(gain=0.1); {TINY}",
    "resnet18": "input = image(3, 8, 8); steps = 2; backbone = resnet18(width=2)",
}


def parsed(name: str, more: str = "") -> NetworkSpec:
    return bcgraph.parse(f"bcg 1\nnetwork n {{ {NETWORKS[name]} }}\nsearch {{ max_backward = 3 }}\n{more}")


def drawn(spec: NetworkSpec, count: int) -> list[NetworkSpec]:
    rng = random.Random(1)
    return [search.sample(spec, rng, max_backward=3) for _ in range(count)]


@pytest.mark.parametrize("name", NETWORKS)
def test_programs_are_those_of_each_alone(name: str) -> None:
    spec = parsed(name)
    lowering = Lowering(spec)
    pairs = len(spec.ports) * (len(spec.ports) + 1) // 2
    many = drawn(spec, -(-pairs // PAIRS_A_CANDIDATE) + 12)
    found = [lowering(each) for each in many]
    known = [each.known is not None for each in found]
    # The first ones alone, since all connections at once take as long as some candidates.
    assert not known[0]
    assert sum(known) > 6
    own = {node.name: node for node in lowering.plain.program.nodes}
    for ours, each in zip(found, many, strict=True):
        theirs = Lowered.of(each).program
        assert ours.program.nodes == theirs.nodes
        assert ours.program == theirs
        if ours.known is not None:
            # What no connection changes is the same object, which a suffix leaves out without a look inside.
            assert all(own[n.name] is n for n in ours.program.nodes if own.get(n.name) == n)


@pytest.mark.parametrize(
    "connection",
    [
        "backward @4 -> @1 { delay = 2 }",
        "backward @4 -> @1 { through = project(kernel=3) }",
        "backward @4 -> @1 { join = mul }",
        "backward @4 -> @1 { read = v }",
        "forward @1 -> @3",
    ],
)
def test_other_connections_than_the_search_has_are_lowered_alone(connection: str) -> None:
    body = NETWORKS["image"]
    spec = bcgraph.parse(f"bcg 1\nnetwork n {{ {body}; {connection} }}")
    lowering = Lowering(spec)
    for each in drawn(spec, 9):
        lowering(each.with_connections())
    found = lowering(spec)
    assert found.known is None
    assert found.program == Lowered.of(spec).program
    assert lowering(spec.with_connections([(4, 1)])).known is not None


def test_where_a_file_describes_the_space_all_are_lowered_alone() -> None:
    spec = parsed("image").with_connections()
    described = bcgraph.parse(
        f"bcg 1\nnetwork n {{ {NETWORKS['image']} }}\nsearch {{ space {{ backward any -> any {{ delay = [1, 2] }} }} }}"
    )
    lowering = Lowering(described)
    for _ in range(9):
        assert lowering(spec.with_backward([(4, 1)])).known is None


@pytest.mark.parametrize("at_once", [1, 4])
def test_scores_are_those_of_each_alone(at_once: int) -> None:
    spec = parsed("image")
    given, many = batch(spec), drawn(spec, 12)
    scorer = Scorer(given, 3, ("n", "e"), inits=2, precision=PRECISIONS["float64"], at_once=at_once)
    found = list(scorer(many))
    assert scorer._lowerings[0].everything is not None
    for ours, each in zip(found, many, strict=True):
        alone = next(Scorer(given, 3, ("n", "e"), inits=2, precision=PRECISIONS["float64"])([each]))
        if at_once == 1:
            assert ours == alone
        else:
            assert ours.n == pytest.approx(alone.n, rel=1e-9)
            assert ours.e == pytest.approx(alone.e, rel=1e-6)
