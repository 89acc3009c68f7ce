"""A run's directory: written, resumed after every kind of stop, refused where it is another's."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from bcgraph import dsl, files, schema
from bcgraph.errors import BcgraphError, RunError, SearchError
from bcgraph.schema import NetworkSpec
from bcgraph.search import Options, history, run
from bcgraph.search.records.evaluations import Evaluation
from bcgraph.viz import report
from tests.search import landscape, studies


@pytest.fixture
def spec() -> NetworkSpec:
    text = """
    bcg 1
    network five { input = image(1, 8, 8); steps = 2; backbone = tiny(width=4, classes=10) }
    data = digits
    search {
      init { pool = 30; keep = 6 }
      evolve { iterations = 3; top = 4; population = 8; offspring = 3; mutation = 0.7 }
    }
    """
    return dsl.parse(text)


def go(spec: NetworkSpec, out: Path, **more: Any) -> Any:
    return run(spec, out, evaluators=more.pop("evaluators", None) or landscape.Fake(), **more)


def test_what_a_run_writes(spec: NetworkSpec, tmp_path: Path) -> None:
    events: list[Any] = []
    seen: list[Any] = []
    result = go(spec, tmp_path / "a" / "b", progress=events.append, hooks=[seen.append])
    out = tmp_path / "a" / "b"
    assert dsl.load(out / "spec.bcg") == spec
    text = (out / "best.bcg").read_text()
    assert dsl.parse(text) == result.best
    assert dsl.format_text(text) == text
    assert text.startswith("# Found by bcgraph")
    assert seen == [result]
    assert [e.stage for e in events] == ["init"] * 30 + ["evolve"] * 30
    assert events[-1].total == events[-1].done == 30

    found = history(out)
    assert found["finished"] is True
    assert [e["stage"] for e in found["evaluations"]] == ["init"] * 30 + ["evolve"] * 30
    assert found["chosen"]["backward"] == [list(p) for p in result.chosen.architecture]
    best = max((e for e in found["evaluations"] if e["stage"] == "evolve"), key=lambda e: e["accuracy"] or -1)
    assert best == found["chosen"]
    assert set(found["evaluations"][0]) >= {"stage", "iteration", "backward", "n", "e", "accuracy"}
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_finished_run_is_not_made_again(spec: NetworkSpec, tmp_path: Path) -> None:
    first = go(spec, tmp_path)
    fake = landscape.Fake()
    again = go(spec, tmp_path, evaluators=fake)
    assert fake.asked == []
    assert again.chosen == first.chosen


@pytest.mark.parametrize("stop", [0, 1, 13, 29, 30, 31, 36, 37, 50, 59])
def test_stopped_anywhere_it_ends_the_same(spec: NetworkSpec, tmp_path: Path, stop: int) -> None:
    go(spec, tmp_path / "whole")
    out = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        go(spec, out, evaluators=landscape.Fake(limit=stop))
    assert history(out)["finished"] is False
    rest = landscape.Fake()
    go(spec, out, evaluators=rest)
    # The last one is the network without connections, beside the candidates.
    assert len(rest.asked) == 60 + 1 - stop
    assert history(out) == history(tmp_path / "whole")
    assert studies.evaluations(out) == history(out)["evaluations"]


@pytest.mark.parametrize("name", ["log.jsonl", "study.log"])
def test_torn_last_lines_do_not_matter(spec: NetworkSpec, tmp_path: Path, name: str) -> None:
    go(spec, tmp_path / "whole")
    out = tmp_path / "torn"
    with pytest.raises(KeyboardInterrupt):
        go(spec, out, evaluators=landscape.Fake(limit=20))
    data = (out / name).read_bytes()
    (out / name).write_bytes(data[:-7])
    (out / "study.log.lock").symlink_to("study.log")  # what a kill while writing the journal leaves
    assert len(history(out)["evaluations"]) in (19, 20)
    go(spec, out)
    assert history(out) == history(tmp_path / "whole")
    assert studies.evaluations(out) == history(out)["evaluations"]
    lines = (out / name).read_bytes().splitlines()
    assert all(json.loads(line) for line in lines)


def test_a_lost_study_is_made_again_from_the_log(spec: NetworkSpec, tmp_path: Path) -> None:
    go(spec, tmp_path)
    before = history(tmp_path)
    (tmp_path / "study.log").unlink()
    assert history(tmp_path) == before
    go(spec, tmp_path)
    assert history(tmp_path) == before
    assert studies.evaluations(tmp_path) == before["evaluations"]


def test_a_damaged_log_is_refused(spec: NetworkSpec, tmp_path: Path) -> None:
    go(spec, tmp_path)
    lines = (tmp_path / "log.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "log.jsonl").write_bytes(b"".join([*lines[:5], b'{"kind": 1}\n', *lines[6:]]))
    with pytest.raises(RunError, match="line 6 of") as caught:
        go(spec, tmp_path)
    assert caught.value.code == "E085"


def changed(spec: NetworkSpec, **evolve: Any) -> NetworkSpec:
    settings = schema.SearchSpec(
        **(dict(spec.search.__dict__) | {"evolve": schema.EvolveSpec(**(dict(spec.search.evolve.__dict__) | evolve))})
    )
    return NetworkSpec(**(dict(spec.__dict__) | {"search": settings}))


def test_another_run_is_refused_with_the_difference(spec: NetworkSpec, tmp_path: Path) -> None:
    go(spec, tmp_path)
    with pytest.raises(RunError) as caught:
        go(changed(spec, iterations=4), tmp_path)
    assert caught.value.code == "E085"
    assert "search.evolve.iterations: 3 there, 4 here" in str(caught.value)
    with pytest.raises(RunError) as caught:
        go(spec, tmp_path, seed=1)
    assert "seed: 0 there, 1 here" in str(caught.value)
    with pytest.raises(RunError) as caught:
        go(spec, tmp_path, options=Options(inits=2))
    assert "options.inits: 1 there, 2 here" in str(caught.value)
    with pytest.raises(RunError) as caught:
        go(spec.with_backward([(1, 0)]), tmp_path)
    assert "backward: [] there, [[1, 0, 1]] here" in str(caught.value)
    with pytest.raises(RunError) as caught:
        go(NetworkSpec(**(dict(spec.__dict__) | {"feedback": schema.Projection(gain=0.1)})), tmp_path)
    assert "feedback: null there" in str(caught.value)


def test_a_backbone_that_has_got_an_argument_is_the_same(tmp_path: Path) -> None:
    text = """
    bcg 1
    block body(channels, wide=false) {{
      conv1 = conv(channels * 2 if wide else channels); lif1 = lif(); flatten(); fc = linear(10)
    }}
    network own {{ input = image(1, 8, 8); steps = 2; backbone = body({}) }}
    data = digits
    search {{ max_backward = 1; init {{ pool = 2; keep = 1 }}; evolve {{ iterations = 1; population = 1; top = 1 }} }}
    """
    go(dsl.parse(text.format("4").replace(", wide=false", "").replace(" * 2 if wide else channels", "")), tmp_path)
    go(dsl.parse(text.format("4")), tmp_path)
    with pytest.raises(RunError, match="layers"):
        go(dsl.parse(text.format("4, wide=true")), tmp_path)


def test_another_version_is_refused(spec: NetworkSpec, tmp_path: Path) -> None:
    go(spec, tmp_path)
    data = json.loads((tmp_path / "run.json").read_text())
    del data["seal"]  # earlier versions had none
    (tmp_path / "run.json").write_text(json.dumps(data | {"version": "0.0.1"}))
    with pytest.raises(RunError, match=r'version: "0.0.1" there'):
        go(spec, tmp_path)


def test_a_directory_in_use_is_refused(spec: NetworkSpec, tmp_path: Path) -> None:
    with files.locked(tmp_path), pytest.raises(RunError) as caught:
        go(spec, tmp_path)
    assert caught.value.code == "E086"


def test_a_directory_of_something_else_is_refused(spec: NetworkSpec, tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").write_bytes(b"x")
    with pytest.raises(RunError) as caught:
        go(spec, tmp_path)
    assert caught.value.code == "E085"
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", "weights.safetensors"]


def test_other_storages(spec: NetworkSpec, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    go(spec, tmp_path / "journal")
    out = tmp_path / "sqlite"
    with pytest.raises(KeyboardInterrupt):
        go(spec, out, evaluators=landscape.Fake(limit=35), options=Options(storage=url))
    go(spec, out, options=Options(storage=url))
    assert not (out / "study.log").exists()
    found = history(out)["evaluations"]
    assert found == history(tmp_path / "journal")["evaluations"]
    assert found == studies.evaluations(out, url) == studies.evaluations(tmp_path / "journal")

    import optuna

    names = optuna.get_all_study_names(url)
    assert len(names) == 2
    study = optuna.load_study(storage=url, study_name=next(n for n in names if n.endswith("/evolve")))
    assert len(study.trials) == 30
    assert study.best_value == max(t.value for t in study.trials)
    # A second run in the same storage, elsewhere, would mix two histories.
    with pytest.raises(RunError) as caught:
        go(spec, tmp_path / "other", options=Options(storage=url))
    assert caught.value.code == "E085"
    # The log holds the whole history, so nobody needs the storage to read it.
    (tmp_path / "study.db").unlink()
    assert history(out)["evaluations"] == found
    assert report.write(out).stat().st_size > 1000


def test_an_unreachable_storage(spec: NetworkSpec, tmp_path: Path) -> None:
    with pytest.raises(BcgraphError) as caught:
        go(spec, tmp_path, options=Options(storage="sqlite:////no/such/place/study.db"))
    assert caught.value.code == "E091"


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "nosuchdb://user:secret@host/x",
        "user:secret@host/x",
        "postgresql//user:secret@host/x",
        "postgresql://user:secret",
        "postgresql://user:se/cret@host/x",
    ],
)
def test_a_storage_that_is_none(spec: NetworkSpec, tmp_path: Path, url: str) -> None:
    """It is found out before the directory is claimed, and nothing of it is shown."""
    with pytest.raises(BcgraphError) as caught:
        go(spec, tmp_path / "run", options=Options(storage=url))
    assert caught.value.code == "E091"
    assert "secret" not in str(caught.value)
    assert not (tmp_path / "run").exists()
    go(spec, tmp_path / "run")


def test_dead_candidates_do_not_stop_a_search(spec: NetworkSpec, tmp_path: Path) -> None:
    def judge(candidate: NetworkSpec) -> Evaluation:
        if len(candidate.backward) != 1:
            return Evaluation.failed(("n", "e", "accuracy"), "dead on purpose")
        return landscape.evaluation(candidate)

    result = go(spec, tmp_path, evaluators=landscape.Fake(judge=judge))
    assert len(result.chosen.architecture) == 1
    dead = [e for e in history(tmp_path)["evaluations"] if e["reasons"]]
    assert dead
    assert all(e["n"] is None and e["reasons"]["n"] == "dead on purpose" for e in dead)


def test_a_search_where_all_are_dead_says_why(spec: NetworkSpec, tmp_path: Path) -> None:
    fake = landscape.Fake(judge=lambda s: Evaluation.failed(("n", "e", "accuracy"), "no neuron fires"))
    with pytest.raises(SearchError, match="no neuron fires") as caught:
        go(spec, tmp_path, evaluators=fake)
    assert caught.value.code == "E089"
    assert not (tmp_path / "best.bcg").exists()


def test_without_a_pool_the_start_is_random(spec: NetworkSpec, tmp_path: Path) -> None:
    settings = schema.SearchSpec(**(dict(spec.search.__dict__) | {"init": schema.InitSpec(pool=0, keep=6)}))
    bare = NetworkSpec(**(dict(spec.__dict__) | {"search": settings}))
    result = go(bare, tmp_path)
    assert {r.stage for r in result.records} == {"evolve"}
    assert sum(r.iteration == 0 for r in result.records) == 6


def test_a_full_disk_loses_nothing(spec: NetworkSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go(spec, tmp_path / "whole")
    out, write, calls = tmp_path / "full", os.write, 0

    def full(handle: int, data: bytes) -> int:
        nonlocal calls
        calls += 1
        # The disk takes half of a line, and then nothing.
        return write(handle, data if calls < 9 else data[: len(data) // 2])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(RunError) as caught:
        go(spec, out)
    assert caught.value.code == "E084"
    monkeypatch.undo()
    assert len(history(out)["evaluations"]) == 8
    go(spec, out)
    assert history(out) == history(tmp_path / "whole")


def test_a_file_in_the_place_of_the_directory(spec: NetworkSpec, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(RunError) as caught:
        go(spec, tmp_path / "out")
    assert caught.value.code == "E084"
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize("strategy", ["random", "tpe", "nsga2"])
def test_every_strategy_resumes(spec: NetworkSpec, tmp_path: Path, strategy: str) -> None:
    other = changed(spec, strategy=strategy)
    go(other, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        go(other, tmp_path / "stopped", evaluators=landscape.Fake(limit=41))
    go(other, tmp_path / "stopped")
    assert history(tmp_path / "stopped") == history(tmp_path / "whole")
    origins = {e["origin"] for e in history(tmp_path / "whole")["evaluations"]}
    assert strategy in origins
