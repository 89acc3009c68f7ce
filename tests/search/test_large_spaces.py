"""Spaces beyond 2**63 architectures, and of very many connections: counted, drawn from and searched in bounded time."""

from __future__ import annotations

import sys
import time
from math import comb
from pathlib import Path
from random import Random
from typing import Any

import pytest

from bcgraph import dsl, schema
from bcgraph.errors import SearchError
from bcgraph.schema import NetworkSpec
from bcgraph.search import history, run
from bcgraph.search.space import combinations
from bcgraph.search.space.pairs import Space
from bcgraph.search.space.search_space import size_text
from tests.search import landscape

RESNET34 = """
bcg 1
network deep { input = image(3, 32, 32); steps = 4; backbone = resnet34(width=4, classes=10) }
search {
  max_backward = 9
  init { pool = 40; keep = 6 }
  evolve { iterations = 2; top = 4; population = 8; offspring = 3 }
}
"""


def searching(spec: NetworkSpec, **settings: Any) -> NetworkSpec:
    return NetworkSpec(
        **(dict(spec.__dict__) | {"search": schema.SearchSpec(**(dict(spec.search.__dict__) | settings))})
    )


def test_a_search_beyond_what_a_machine_word_counts(tmp_path: Path) -> None:
    spec = dsl.parse(RESNET34)
    assert Space(len(spec.ports), 9).size > sys.maxsize
    run(spec, tmp_path / "whole", evaluators=landscape.Fake())
    with pytest.raises(KeyboardInterrupt):
        run(spec, tmp_path / "stopped", evaluators=landscape.Fake(limit=25))
    run(spec, tmp_path / "stopped", evaluators=landscape.Fake())
    assert history(tmp_path / "stopped") == history(tmp_path / "whole")
    assert (
        "1.45e+19" in (tmp_path / "whole/best.bcg").read_text()
        or "1.45e19" in (tmp_path / "whole/best.bcg").read_text()
    )


def test_draws_of_smaller_spaces_are_as_they_were() -> None:
    found = Space(17, 2)
    assert found.sample(Random(3), 50) == [found.architecture(i) for i in Random(3).sample(range(found.size), 50)]


def test_two_hundred_ports_and_a_million_connections() -> None:
    started = time.monotonic()
    found = Space(200, 1_000_000)
    assert found.size == 2**20100
    fewer = Space(200, 5000)
    assert fewer.size < found.size
    rng = Random(0)
    for each in (found, fewer):
        drawn = each.architecture(rng.randrange(each.size))
        assert len(set(drawn)) == len(drawn) <= 20100
    # A minute before; now a fraction of a second, on a machine that does nothing else.
    assert time.monotonic() - started < 20
    assert size_text(found.size) == "about 5.05e6050"


@pytest.mark.parametrize(("ports", "most"), [(4, 10), (9, 45), (12, 40)])
def test_every_way_to_number_a_set_is_the_same(ports: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Space(ports, most)
    rng = Random(1)
    numbers = [0, found.size - 1, *(rng.randrange(found.size) for _ in range(300))]
    walked = []
    for many in (0, 10**9):
        monkeypatch.setattr(combinations, "_MANY", many)
        walked.append([found.architecture(i) for i in numbers])
    assert walked[0] == walked[1]
    n = ports * (ports + 1) // 2
    assert found.size == sum(comb(n, k) for k in range(min(most, n) + 1))
    with pytest.raises(IndexError):
        found.architecture(found.size)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"max_backward": 9, "init": schema.InitSpec(pool="all")}, "scores about 1.45e19 architectures"),
        ({"max_backward": 3000, "evolve": schema.EvolveSpec(strategy="tpe")}, "cannot choose among 561 pairs"),
    ],
)
def test_what_no_memory_holds_is_refused(tmp_path: Path, settings: dict[str, Any], says: str) -> None:
    spec = searching(dsl.parse(RESNET34), **settings)
    with pytest.raises(SearchError, match=says) as caught:
        run(spec, tmp_path / "run", evaluators=landscape.Fake())
    assert caught.value.code == "E089"
    assert not (tmp_path / "run").exists()
