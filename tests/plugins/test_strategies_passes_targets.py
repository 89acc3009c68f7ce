"""Registered strategies, passes and targets, each from its name to its effect."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Annotated, ClassVar

import pytest
import torch
from pydantic import Field

import bcgraph
from bcgraph.compiler import TemporalGraph
from bcgraph.compiler.export.request import Request
from bcgraph.search.strategies.population import Population
from tests import forked
from tests.plugins.conftest import Install, installed

NET = """bcg 1
network net { input = image(1, 8, 8); steps = 2; backbone = tiny(width=4); backward @4 -> @2 }
data = digits(batch=32)
search {
  init   { pool = 6; keep = 3; scores = [n]; batch = 16 }
  evolve { strategy = nearby; score = n; iterations = 2; top = 2; population = 3; offspring = 1 }
}
"""


def nearby(population: Population, rng: Random) -> Iterator[list[tuple[int, int]]]:
    """The best, with one connection drawn anew."""
    while True:
        best = rng.choice(population.top())
        source = rng.randrange(5)
        yield [*best.architecture[1:], (source, rng.randrange(source + 1))][:2]


def test_a_search_by_a_registered_strategy_resumes(tmp_path: Path) -> None:
    bcgraph.register.strategy("nearby", nearby)
    spec = bcgraph.parse(NET)
    assert bcgraph.parse(bcgraph.format(spec)) == spec
    result = bcgraph.search.run(spec, tmp_path / "whole")
    proposed = [r for r in result.records if r.stage == "evolve" and r.iteration > 0]
    assert len(proposed) == 6
    assert {r.origin for r in proposed} == {"nearby"}
    assert len({r.architecture for r in result.records if r.stage == "evolve"}) == 9
    # A search that was killed after its seventh line ends as this one.
    bcgraph.search.run(spec, tmp_path / "cut")
    log = tmp_path / "cut" / "log.jsonl"
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:10]))
    (tmp_path / "cut" / "best.bcg").unlink()
    assert bcgraph.search.run(spec, tmp_path / "cut").records == result.records


@pytest.mark.parametrize(
    ("proposal", "why"),
    [
        ([(9, 0)], "there is no port"),
        ([(0, 1)], "this runs forward"),
        ([(1, 0), (2, 0), (3, 0)], "max_backward = 2"),
        (3, "TypeError"),
    ],
)
def test_proposals_outside_of_the_space_are_refused(tmp_path: Path, proposal: object, why: str) -> None:
    bcgraph.register.strategy("nearby", lambda population, rng: [proposal])
    with pytest.raises(bcgraph.BcgraphError, match=why) as caught:
        bcgraph.search.run(bcgraph.parse(NET), tmp_path / "run")
    assert caught.value.code == "E095"


def test_random_architectures_fill_what_a_strategy_leaves(tmp_path: Path) -> None:
    bcgraph.register.strategy("nearby", lambda population, rng: [[(0, 0)], [(0, 0)]])
    result = bcgraph.search.run(bcgraph.parse(NET), tmp_path / "run")
    assert [r.origin for r in result.records[9:]] == ["nearby", *["random"] * 5]


def test_a_strategy_may_have_settings(tmp_path: Path) -> None:
    reached: list[int] = []

    def nearby(
        population: Population, rng: Random, reach: Annotated[int, Field(ge=1, le=4)] = 2
    ) -> Iterator[list[tuple[int, int]]]:
        reached.append(reach)
        return iter([[(reach, 0)]])

    nearby.__annotations__["reach"] = Annotated[int, Field(ge=1, le=4)]
    bcgraph.register.strategy("nearby", nearby)
    given = bcgraph.parse(NET.replace("strategy = nearby", "strategy = nearby; reach = 3"))
    assert bcgraph.parse(bcgraph.format(given)) == given != bcgraph.parse(NET)
    assert given.search.evolve.model_dump()["reach"] == 3
    bcgraph.search.run(given, tmp_path / "run")
    assert set(reached) == {3}
    for setting, code in (("reach = 5", "E041"), ("reach = fast", "E040"), ("keep = 3", "E035"), ("far = 1", "E032")):
        with pytest.raises(bcgraph.BcgraphError) as caught:
            bcgraph.parse(NET.replace("strategy = nearby", f"strategy = nearby; {setting}"))
        assert caught.value.code == code, setting
        assert caught.value.diagnostics[0].span is not None


def test_settings_of_a_strategy_that_cannot_be() -> None:
    for wrong in (lambda p, rng, top=3: (), lambda p, rng, reach: (), lambda p, rng, reach=(1, 2): ()):
        with pytest.raises(TypeError, match="setting"):
            bcgraph.register.strategy("nearby", wrong)


@dataclass(frozen=True)
class Rename:
    """Gives each sum another name."""

    name: ClassVar[str] = "rename_sums"
    inference_only: ClassVar[bool] = False
    ending: str = "_sum"

    def run(self, graph: TemporalGraph) -> TemporalGraph:
        names = {n.output.name: n.output.name + self.ending for n in graph.nodes if n.op == "add"}
        nodes = tuple(
            replace(
                n,
                name=names.get(n.name, n.name),
                inputs=tuple(replace(e, value=names.get(e.value, e.value)) for e in n.inputs),
                outputs=tuple(replace(v, name=names.get(v.name, v.name)) for v in n.outputs),
            )
            for n in graph.nodes
        )
        return graph.with_nodes(nodes)


NETWORK = "\n".join(NET.splitlines()[:2])


@pytest.mark.parametrize("by_name", [True, False])
def test_a_pass_by_name_and_as_a_value(by_name: bool) -> None:
    spec = bcgraph.parse(NETWORK)
    bcgraph.register.transform(Rename())
    x = torch.rand(3, 1, 8, 8, dtype=torch.float64)
    plain = bcgraph.compile(spec, dtype=torch.float64, optimize=[])
    named = bcgraph.compile(spec, dtype=torch.float64, optimize=["rename_sums" if by_name else Rename("_other")])
    assert torch.equal(plain(x), named(x))
    text = bcgraph.compiler.program_text(named.meta["source"].program)
    assert ("_sum@t1" if by_name else "_other@t1") in text


def test_a_pass_that_fails_or_breaks_the_graph_is_named() -> None:
    class Failing(Rename):
        name: ClassVar[str] = "failing"

        def run(self, graph: TemporalGraph) -> TemporalGraph:
            return graph.with_nodes(graph.nodes[1:])

    bcgraph.register.transform(Failing())
    with pytest.raises(bcgraph.BcgraphError, match="the pass `failing` has failed") as caught:
        bcgraph.compile(bcgraph.parse(NETWORK), optimize=["failing"])
    assert caught.value.code == "E095"
    assert "which does not exist" in str(caught.value)
    with pytest.raises(bcgraph.BcgraphError, match="E040"):
        bcgraph.register.transform("no pass")
    with pytest.raises(bcgraph.BcgraphError, match="there is no pass `failin`") as caught:
        bcgraph.compile(bcgraph.parse(NETWORK), optimize=["failin"])
    assert caught.value.hint == "did you mean `failing`?"


def listing(request: Request) -> str:
    return "\n".join(request.spec.ports)


def test_a_target_by_its_ending(tmp_path: Path) -> None:
    bcgraph.register.target(".ports", listing)
    spec = bcgraph.parse(NETWORK)
    report = bcgraph.export(spec, tmp_path / "net.ports")
    assert (tmp_path / "net.ports").read_text().splitlines() == list(spec.ports)
    assert (report.size, report.proof) == ((tmp_path / "net.ports").stat().st_size, None)


def test_a_target_that_fails_writes_nothing(tmp_path: Path) -> None:
    bcgraph.register.target(".bad", lambda request: 1 / 0)
    bcgraph.register.target(".odd", lambda request: 3)
    for ending, words in ((".bad", "ZeroDivisionError"), (".odd", "but int")):
        with pytest.raises(bcgraph.BcgraphError, match=words) as caught:
            bcgraph.export(bcgraph.parse(NETWORK), tmp_path / f"net{ending}")
        assert caught.value.code == "E095"
    with pytest.raises(bcgraph.BcgraphError, match="E072"):
        bcgraph.export(bcgraph.parse(NETWORK), tmp_path / "net.none")
    assert not list(tmp_path.iterdir())
    for ending in (".onnx", "ports", ".", ".a.b"):
        with pytest.raises(bcgraph.BcgraphError, match=r"E036|E005"):
            bcgraph.register.target(ending, listing)


PACKAGE = """
import bcgraph

class Nothing:
    name = "nothing"
    inference_only = False
    def run(self, graph):
        return graph

bcgraph.register.transform(Nothing())
bcgraph.register.target(".ports", lambda request: "\\n".join(request.spec.ports))
bcgraph.register.strategy("first", lambda population, rng: [[(0, 0)]])
bcgraph.register.score("connections", lambda model, x, y: float("backward" in str(model.state_dict().keys())))
"""


def test_a_package_on_the_command_line(tmp_path: Path) -> None:
    installed(tmp_path, "more", PACKAGE)
    text = (
        NET.replace("nearby", "first")
        .replace("bcg 1\n", 'bcg 1\nuse "more"\n')
        .replace("iterations = 2", "iterations = 1")
        .replace("scores = [n]", "scores = [n, connections]")
    )
    (tmp_path / "net.bcg").write_text(text)

    def command(*arguments: str) -> str:
        line = [sys.executable, "-m", "bcgraph", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        done = forked.run(line, text=True, env=environment, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "net.ports: 60 bytes, not compared with torch" in command("compile", "net.bcg", "-o", "net.ports")
    assert command("show", "net.bcg", "--graph", "--optimize", "nothing") == command("show", "net.bcg", "--graph")
    command("search", "net.bcg", "--out", "run", "--workers", "1")
    found = json.loads(command("report", "run", "--json"))
    assert all(e["scores"] == {"connections": float(bool(e["backward"]))} for e in found["evaluations"][:6])
    assert [e["origin"] for e in found["evaluations"][9:]] == ["first", "random", "random"]


def test_a_plugin_keeps_check_light(install: Install) -> None:
    install("more", PACKAGE)
    probe = "import sys; sys.path.insert(0, sys.argv[1]); import bcgraph; bcgraph.parse(sys.argv[2])"
    probe += "; assert 'torch' not in sys.modules"
    text = 'bcg 1\nuse "more"\n' + NETWORK.removeprefix("bcg 1\n")
    site = next(p for p in sys.path if p.endswith("/site"))
    subprocess.run([sys.executable, "-c", probe, site, text], check=True)
