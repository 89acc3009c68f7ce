"""Searches of spaces that files describe, from text to weights, on a few digits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import bcgraph
from bcgraph import artifacts, search, spaces, weights
from bcgraph.firing import measure
from bcgraph.profile import profile
from bcgraph.search.evaluators import Standard
from bcgraph.search.metrics.composite import merged
from bcgraph.search.records.evaluations import Evaluation
from bcgraph.search.result import SearchResult
from bcgraph.search.space.limits import costs
from bcgraph.search.space.search_space import architecture_of, of_search
from bcgraph.search.supernet.supernet import Supernet
from bcgraph.training.accuracy import evaluate
from bcgraph.viz import report

TEXT = """
bcg 1
block depthwise(channels) {{
  conv1 = conv(channels, 1); resize(nearest); conv = conv(channels, 3, groups=channels); bn = bn()
}}
network small {{
  input = image(1, 8, 8); steps = 2; backbone = tiny(width=2)
  {own}
}}
data = digits(batch=128)
search {{
  {search}
  init {{ pool = 0; keep = 3; batch = 20 }}
  supernet {{ epochs = 1 }}
  evolve {{ iterations = 1; top = 2; population = 3; offspring = 1 }}
}}
train {{ optimizer = adamw(lr=0.005) }}
"""
EVERY = "; ".join(f"backward @{j} -> @{i}" for j in range(5) for i in range(j + 1))
SPACE = """space {
    backward any -> any { delay = [1, 2]; through = [project(), depthwise(), project(kernel=3)]; read = [s, u] }
    forward any -> later { join = [add, mul] }
    fixed @4 -> @4
    at_most = 2
  }"""


def ran(path: Path, own: str, searched: str) -> SearchResult:
    spec = bcgraph.parse(TEXT.format(own=own, search=searched))
    return search.run(spec, path, hooks=(artifacts.write, lambda result: report.write(result.path)))


@pytest.mark.slow
def test_half_of_the_state(tmp_path: Path) -> None:
    """The network of the file has all connections; what is found has at most half of its state."""
    result = ran(tmp_path, EVERY, "subject_to { state <= 0.5 * baseline }")
    most = costs(result.spec)["state"] / 2
    assert all(costs(result.spec.with_connections(r.architecture))["state"] <= most for r in result.records)
    assert costs(result.best)["state"] <= most
    assert costs(bcgraph.load(tmp_path / "best.bcg"))["state"] <= most
    beside = search.history(tmp_path)["beside"]
    assert [(entry["name"], len(entry["backward"])) for entry in beside] == [("file", 15), ("none", 0)]
    assert all(0 <= entry["accuracy"] <= 1 for entry in beside)


def test_what_is_bounded_alone_is_measured_too(tmp_path: Path) -> None:
    result = ran(tmp_path, "", "subject_to { energy <= 1; n >= -1000 }")
    evolved = [r.evaluation for r in result.records if r.stage == "evolve"]
    assert all(e.accuracy is not None and e.n is not None and dict(e.scores)["energy"] > 0 for e in evolved)


@pytest.mark.slow
def test_two_objectives_in_a_space_of_the_file(tmp_path: Path) -> None:
    result = ran(tmp_path, "", f"{SPACE}; maximize = [accuracy]; minimize = [energy]")
    found = search.history(tmp_path)
    space = of_search(result.spec)
    assert all(space.holds(r.architecture) for r in result.records)
    assert found["front"]
    files = sorted((tmp_path / "front").glob("*.bcg"))
    for path, entry in zip(files, found["front"], strict=True):
        network = bcgraph.load(path)
        assert [m._asdict() for m in architecture_of(network)] == entry["members"]
        assert entry["scores"]["energy"] > 0
    assert found["chosen"] == found["front"][0]
    page = (tmp_path / "report.html").read_text()
    assert 'id="front"' in page
    assert page.count("<tr>") >= len(files)

    # What was measured is what the written network does with the written weights.
    best = bcgraph.load(tmp_path / "best.bcg")
    model = bcgraph.compile(best)
    weights.apply(model, weights.load(tmp_path / "best.safetensors", spec=best))
    _, validation = Standard(result.spec, 0, tmp_path).splits
    measured = evaluate(model, validation, readout=best.readout)
    assert measured == pytest.approx(result.chosen.evaluation.accuracy, abs=2 / len(validation))
    rates = measure(model, iter(validation.batches(256)))
    costs_of_best = profile(best, rates)
    energy = sum(costs_of_best.energy(layer) for layer in costs_of_best.layers)
    assert energy == pytest.approx(dict(result.chosen.evaluation.scores)["energy"], rel=0.01)
    again = search.run(result.spec, tmp_path)
    assert again.records == result.records


def test_each_member_has_a_projection_of_its_own() -> None:
    spec = bcgraph.parse(TEXT.format(own="", search=SPACE))
    train, _ = Standard(spec, 0, Path("unused")).splits
    supernet = Supernet(spec, 0, train)
    space = spaces.space(spec)
    every = (*space.members, *space.fixed)
    assert len(set(space.names.values())) == len(every) == 14 * 12 + 6 + 1 + 20
    held = {".".join(name.split(".")[:2]) for name in supernet.full.state_dict()}
    assert held >= set(space.names.values())
    # One member is another one's neighbor in nothing but its delay; their weights are drawn apart.
    one, other = (m for m in space.members if m[:2] == (3, 1) and m.through == "" and m.read == "s")
    state = supernet.full.state_dict()
    first, second = (state[f"{space.names[m]}.conv.weight"] for m in (one, other))
    assert not torch.equal(first, second)
    for member, expected in ((one, first), (other, second)):
        network = spaces.wired(spec, (member,))
        kept = spaces.inherited(state, network)
        assert torch.equal(kept["backward.3_1.conv.weight"], expected)
        assert set(kept) == set(bcgraph.compile(network).state_dict())
        inside = supernet.model((member,)).state_dict()
        assert torch.equal(inside["backward.3_1.conv.weight"], expected)
    both = spaces.inherited(state, spaces.wired(spec, (one, other)))
    assert torch.equal(both["backward.3_1.conv.weight"], first)
    assert torch.equal(both["backward.3_1_2.conv.weight"], second)


def test_layers_inside_blocks_of_a_projection_belong_to_its_member() -> None:
    """Blocks that call a block give their layers longer names; two members still have weights of their own."""
    blocks = (
        "block inner(n) { conv = conv(n, 1) }\n"
        "block narrow(channels) { a = inner(1); resize(nearest); b = conv(channels, 1); bn = bn() }\n"
        "block wide(channels) { a = inner(3); resize(nearest); b = conv(channels, 1); bn = bn() }\nnetwork"
    )
    rules = "space { backward @4 -> @0 { through = [narrow(), wide()] }; at_most = 1 }"
    spec = bcgraph.parse(TEXT.format(own="", search=rules).replace("network", blocks, 1))
    train, _ = Standard(spec, 0, Path("unused")).splits
    supernet = Supernet(spec, 0, train)
    for member in spaces.space(spec).members:
        network = spaces.wired(spec, (member,))
        inside = supernet.model((member,)).state_dict()
        kept = spaces.inherited(supernet.full.state_dict(), network)
        own = bcgraph.compile(network).state_dict()
        assert {n: v.shape for n, v in inside.items()} == {n: v.shape for n, v in own.items()}
        assert {n: v.shape for n, v in kept.items()} == {n: v.shape for n, v in own.items()}


@pytest.mark.slow
def test_every_metric_is_measured(tmp_path: Path) -> None:
    metrics = "maximize = [accuracy, n]; minimize = [parameters, operations, state, energy, spikes, latency]"
    spec = bcgraph.parse(TEXT.format(own="", search=metrics))
    candidates = [spec, spec.with_backward([(4, 0)])]
    plain, fed = Standard(spec, 0, tmp_path).evolve(lambda _: None)(candidates)
    for found, network in ((plain, candidates[0]), (fed, candidates[1])):
        values = dict(found.scores)
        assert {m: values[m] for m in ("parameters", "operations", "state")} == costs(network)
        assert 0 < values["energy"] < 1e-5
        assert 0 < values["spikes"] < 2 * (3 * 8 * 8 * 2 + 2 * 4 * 4 * 4)
        assert values["latency"] > 0
        assert found.reasons == ()
        assert found.n is not None


def test_measurements_of_one_candidate_are_put_together() -> None:
    failed = Evaluation.failed(("energy",), "no data")
    found = merged([Evaluation(accuracy=0.5), Evaluation.of({"state": 3.0}), failed])
    assert (found.accuracy, dict(found.scores)["state"]) == (0.5, 3.0)
    assert found.reasons == (("energy", "no data"),)
    assert found.value("energy") == float("-inf")
