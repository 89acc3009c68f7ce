"""`strategy = gains` in a space that a file describes: alternatives side by side, fixed ones, bounds, several kinds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import bcgraph
from bcgraph import artifacts, data, pruning, spaces, weights
from bcgraph.errors import SearchError, SpecError
from bcgraph.schema import NetworkSpec
from bcgraph.search import history, run
from bcgraph.search.evaluators import Standard
from bcgraph.search.records.evaluations import Evaluation
from bcgraph.search.space.candidate import Candidate
from bcgraph.search.space.limits import costs
from bcgraph.search.strategies.standard.gains import prune
from bcgraph.search.supernet.pruned_run import STATE, PrunedRun
from bcgraph.spaces import Member
from bcgraph.viz import report
from tests.reference import Reference
from tests.search import studies

TEXT = """
bcg 1
block wide(channels, gain=1.0) {{ resize(nearest); c = conv(channels, 3); n = bn(gain=gain) }}
block loose(channels) {{ resize(nearest); n = bn(); c = conv(channels, 1) }}
network five {{ input = image(1, 8, 8); steps = 3; backbone = tiny(width=2, classes=10) {network} }}
data = digits(batch=30)
search {{
  space {{ {space} }}
  {search}
  evolve {{ strategy = gains; {evolve} }}
}}
train {{ epochs = 3; loss = tet }}
"""
SPACE = """
  backward @4 -> any {{ delay = [1, 2]; through = [project(), wide()] }}
  forward any -> later {{ join = [add, mul] }}
  fixed @0 -> @0 {{ read = u }}
  forbid any -> @1
  at_most = 3
""".replace("{{", "{").replace("}}", "}")
EVOLVE = "keep = 3; stages = 2; prune_until = 0.7"
WIDE = "wide(gain=1.0)"
FIXED = Member(0, 0, read="u")


def spec(space: str = SPACE, search: str = "", evolve: str = EVOLVE, network: str = "") -> NetworkSpec:
    return bcgraph.parse(TEXT.format(space=space, search=search, evolve=evolve, network=network))


@pytest.fixture(scope="module")
def small() -> tuple[Any, Any]:
    """Few samples for training and for validation."""
    found = spec()
    return data.load(found.data, found.input, found.steps).train.subset(range(75)).divide(0.8, 0)


# --- What trains, and what stays -----------------------------------------------------------------------------


def test_every_connection_of_the_space_trains_at_once() -> None:
    network = spec()
    found = pruning.every(network)
    assert FIXED in found
    # From port 4 to 0, 2, 3 and 4, two delays, two projections; forward to 2, 3 and 4, two joins.
    assert len(found) == 1 + 4 * 2 * 2 + (2 + 3 + 4) * 2
    assert pruning.count(network) == len(found) - 1
    assert pruning.fixed(network) == {FIXED}
    together = pruning.together(network, found)
    assert {pruning.key_of(each, network) for each in together.connections} == set(found)
    assert {together.gain(each) for each in together.connections} == {0.1}
    assert len(set(together.prefixes().values())) == len(found)
    assert set(together.prefixes().values()) == set(spaces.space(network).names.values())


def scales(candidate: Candidate, loud: Sequence[Member]) -> tuple[float, ...]:
    return tuple(9.0 - loud.index(key) if key in loud else 0.1 for key in candidate.architecture)


def pruned(network: NetworkSpec, *loud: Member) -> list[tuple[Member, ...]]:
    def train(stage: int, candidate: Candidate) -> Evaluation:
        return Evaluation(accuracy=0.5, scales=scales(candidate, loud))

    return [record.architecture for record in prune(network, train)]


def test_fixed_ones_stay_and_the_last_stage_has_no_alternatives() -> None:
    one, other = Member(4, 0, 2), Member(4, 0, 2, WIDE)
    third, fourth = Member(0, 3, join="mul"), Member(0, 4)
    stages = pruned(spec(), other, one, third, fourth)
    assert [len(found) for found in stages] == [35, 12, 4]
    assert {one, other} <= set(stages[1]), "alternatives train side by side"
    assert set(stages[2]) == {FIXED, other, third, fourth}
    final = pruning.network(spec(), stages[2])
    assert type(final) is NetworkSpec
    assert bcgraph.parse(bcgraph.format(final)) == final
    assert {final.gain(each) for each in final.connections} == {0.1}


def test_at_most_bounds_what_stays() -> None:
    space = "backward any -> any; at_most = 1"
    assert [len(found) for found in pruned(spec(space, evolve="stages = 1"))] == [15, 1]
    with pytest.raises(SpecError, match="`keep = 3`, but the space has `at_most = 1`"):
        spec(space)


def test_bounds_are_met_at_the_end() -> None:
    bounds = "subject_to { parameters <= 1.6 * baseline; state <= 800; operations <= 1.6 * baseline }"
    network, free = spec(search=bounds), spec()
    stages = pruned(network, *[m for m in spaces.space(network).members if m.through][:5])
    limits = {b.metric: b.factor * costs(network)[b.metric] + b.constant for b in network.search.subject_to}
    for found, names in ((stages[-1], limits), (pruned(free)[-1], {})):
        cost = costs(pruning.network(network, found))
        assert all(cost[name] <= most for name, most in names.items())
    # Another one would have fitted the count, and every one that is left out breaks a bound or shares a slot.
    assert 1 < len(stages[-1]) < 4
    for key in set(stages[-2]) - set(stages[-1]):
        more = costs(pruning.together(network, [*stages[-1], key]))
        assert any(more[n] > most for n, most in limits.items()) or key[:3] in {k[:3] for k in stages[-1]}


def test_operations_are_those_that_profile_counts() -> None:
    network = spec()
    one = pruning.costs(network)
    assert one == {
        key: costs(pruning.network(network, [key]))["operations"] - pruning.backbone_operations(network) for key in one
    }
    least = min(cost for key, cost in one.items() if key != FIXED) + one[FIXED]
    share = least / pruning.backbone_operations(network)
    with pytest.raises(SpecError, match="leaves no connection"):
        spec(evolve=f"{EVOLVE}; extra_operations = {share * 0.99}")
    found = pruned(spec(evolve=f"{EVOLVE}; extra_operations = {share * 1.01}"))[-1]
    assert len(found) == 2


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"space": "backward any -> any { through = loose() }"}, r"`loose\(\)` does not end in one"),
        ({"search": "minimize = [energy]"}, "cannot go by `energy`"),
        ({"search": "maximize = [accuracy]; minimize = [state]"}, "cannot go by"),
        ({"search": "maximize = [accuracy, n]"}, "cannot go by `n`"),
        ({"space": "fixed @4 -> @4"}, "no connection beside the fixed ones"),
        ({"evolve": "keep = 40; stages = 1"}, r"`keep = 40`, but the space has `at_most = 3`"),
        ({"space": "backward @4 -> @4; at_most = 9", "evolve": "keep = 3; stages = 1"}, "the space has 1 connection"),
    ],
)
def test_what_cannot_be_is_refused_by_name(changed: dict[str, str], message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        spec(**changed)
    (found,) = caught.value.diagnostics
    assert found.code == "E089"
    assert found.span is not None
    assert found.hint


def test_a_bound_that_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(SearchError, match="leaves nothing") as caught:
        run(spec(search="subject_to { parameters <= 10 }"), tmp_path)
    assert caught.value.code == "E067"


@pytest.mark.parametrize("feedback", ["feedback = project(kernel=3)", "feedback = wide(gain=0.5)"])
def test_the_paper_s_space_keeps_the_feedback_of_the_file(feedback: str) -> None:
    text = TEXT.format(space="", search="", evolve=EVOLVE, network=f"; {feedback}").replace("space {  }", "")
    network = bcgraph.parse(text)
    found = pruning.network(network, ((4, 0), (4, 4)))
    assert {found.gain(each) for each in found.connections} == {0.1}
    sizes = {tuple(v.shape[2:]) for n, v in bcgraph.compile(found).state_dict().items() if "4_0.c" in n}
    assert sizes == {(3, 3)}
    assert bcgraph.parse(bcgraph.format(found)) == found
    plain = bcgraph.parse(text.replace(feedback, "feedback = project()"))
    assert pruning.quiet(plain) == pruning.network(plain, ())


# --- The run ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("silent", ["backward.0_0.bn", "backward.0_0_m2.n"])
def test_alternatives_stand_side_by_side(small: tuple[Any, Any], tmp_path: Path, silent: str) -> None:
    """Both count, and with one of them silenced the network is that of the other one, in float64."""
    network = spec(
        "backward @0 -> @0 { through = [project(), wide()] }; backward @1 -> @0; fixed @1 -> @1", evolve="stages = 1"
    )
    run_ = PrunedRun(network, 0, *small, tmp_path, lambda _: None, dtype=torch.float64)
    every = pruning.every(network)
    state = dict(run_.full.state_dict())
    for name, value in state.items():
        if name.startswith("backward.") and name.endswith(("bn.weight", "n.weight")):
            value.fill_(1.0)
    model = run_.weights.candidate(pruning.together(network, every)).train()
    x = next(iter(small[1].batches(8)))[0].double()
    both = model(x)
    for part in ("weight", "bias"):
        state[f"{silent}.{part}"].zero_()
    alone = [key for key in every if key[:3] != (0, 0, 1) or (key.through == WIDE) == (silent == "backward.0_0.bn")]
    plain = pruning.network(network, alone)
    expected = Reference(plain, spaces.inherited(state, plain))(x, training=True).output
    torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-9)
    assert not torch.equal(both, model(x)), "the alternative counts"


def tensors(path: Path) -> dict[str, Tensor]:
    return weights.unpack(path)[0]


def same(here: Path, there: Path) -> bool:
    a, b = tensors(here), tensors(there)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def whole(small: tuple[Any, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search."""
    out = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Standard, "splits", small)
        run(spec(), out, hooks=[artifacts.write])
    return out


def test_what_a_search_leaves(whole: Path, small: tuple[Any, Any]) -> None:
    found = history(whole)
    assert [len(e["members"]) for e in found["evaluations"]] == [35, 12, 4]
    assert all(len(e["scales"]) == len(e["members"]) for e in found["evaluations"])
    assert all(math.isfinite(scale) and scale > 0 for e in found["evaluations"] for scale in e["scales"])
    assert studies.evaluations(whole) == found["evaluations"]
    best = bcgraph.load(whole / "best.bcg")
    model = bcgraph.compile(best)
    model.load_state_dict(weights.load(whole / "best.safetensors", spec=best))
    assert bcgraph.training.evaluate(model, small[1]) == found["chosen"]["accuracy"]
    assert (whole / "best.onnx").stat().st_size > 1000
    page = report.write(whole).read_text()
    assert "35 connections trained at once and pruned" in page
    assert page.count("<tr><td>") == 35


def test_stopped_it_ends_the_same(
    whole: Path, small: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Standard, "splits", small)

    def progress(event: Any) -> None:
        if event.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(spec(), tmp_path, progress=progress)
    run(spec(), tmp_path, hooks=[artifacts.write])
    assert history(tmp_path) == history(whole)
    assert same(tmp_path / STATE, whole / STATE)
    assert (tmp_path / "best.bcg").read_bytes() == (whole / "best.bcg").read_bytes()
