"""`bcgraph score`, `search` and `report`."""

import json
from pathlib import Path
from typing import Any

import pytest

from bcgraph import load
from bcgraph.schema import BackwardConnection
from tests.cli.conftest import OWN, TINY, Command, snapshot
from tests.cli.test_interrupt import interrupt

SEARCH = """
search {
  init   { pool = 6; keep = 3; scores = [n, e]; batch = 20 }
  evolve { score = n; iterations = 2; top = 2; population = 4; offspring = 2 }
}
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.bcg"
    path.write_text(TINY + SEARCH)
    return path


def test_search_and_report(bcgraph: Command, small: Path, tmp_path: Path) -> None:
    done = bcgraph("search", small, "--out", "found", "--json")
    assert (done.code, done.said) == (0, OWN)
    chosen = json.loads(done.out)["chosen"]

    history = json.loads(bcgraph("report", "found", "--json").out)
    evaluations = history["evaluations"]
    assert [e["stage"] for e in evaluations] == ["init"] * 6 + ["evolve"] * 11
    assert all(len(pair) == 2 for e in evaluations for pair in e["backward"])
    evolved = [e for e in evaluations if e["stage"] == "evolve"]
    best = max((e for e in evolved if e["n"] is not None), key=lambda e: e["n"])
    assert history["chosen"] == chosen == best
    assert {e["accuracy"] for e in evaluations} == {None}

    shown = bcgraph("report", "found").out
    assert "scored    6 architectures\nevolved   11 architectures by N-score\n" in shown
    # The best file is a specification like any other, and has the score that the search has seen.
    score = json.loads(bcgraph("score", "found/best.bcg", "--json").out)
    assert score["n"] == pytest.approx(chosen["n"])
    assert bcgraph("score", "found/best.bcg").out.startswith(f"N-score  {chosen['n']:.6g}\nE-score  ")


ONESHOT = """
search {
  init     { pool = 6; keep = 3; batch = 20 }
  supernet { epochs = 1 }
  evolve   { iterations = 1; top = 2; population = 3; offspring = 1 }
}
"""


@pytest.mark.parametrize("settings", [SEARCH, ONESHOT], ids=["scores", "oneshot"])
def test_what_a_search_leaves(process: Command, bcgraph: Command, tmp_path: Path, settings: str) -> None:
    (tmp_path / "net.bcg").write_text(TINY + settings)
    done = process("search", "net.bcg", "--out", "found", "--audit", "3", "--seed", "5")
    trained = "training the supernet: epoch 1/1\n" if settings is ONESHOT else ""
    assert (done.code, done.said) == (0, OWN + trained)
    best, weights, exported, page, following = done.out.splitlines()
    assert following == "next: bcgraph train found --out found-trained"
    names = ("best.bcg", "best.safetensors", "best.onnx", "report.html")
    for line, name in zip((best, weights, exported, page), names, strict=True):
        assert line.startswith(f"found/{name}: ")
    assert ("supernet" if settings is ONESHOT else "initial weights of seed 5") in weights
    assert {p.name for p in (tmp_path / "found").iterdir()} >= {
        *names, "spec.bcg", "study.log", "log.jsonl", "audit.json"
    }  # fmt: skip
    assert 'id="audit"' in (tmp_path / "found/report.html").read_text()
    history = json.loads(bcgraph("report", "found", "--json").out)
    assert history["audit"]["candidates"] == 3
    assert {f["score"] for f in history["audit"]["findings"]} == {"n", "e"}

    # The weights and the file are those of the chosen network, and give the same accuracy.
    own = json.loads(bcgraph("eval", "found", "--json").out)["accuracy"]
    ran = json.loads(bcgraph("run", "found/best.onnx", "--data", "digits", "--json").out)["accuracy"]
    assert ran == pytest.approx(own, abs=0.02)
    inherited = settings is ONESHOT
    for command in (("show", "found"), ("eval", "found"), ("run", "found/best.onnx", "--data", "digits")):
        assert ("inherited weights" in bcgraph(*command).err) == inherited, command
    made = bcgraph("compile", "found", "-o", "net.onnx")
    assert ("`bcgraph train found --out found-trained` trains it" in made.err) == inherited
    assert ("inherited weights" in bcgraph("run", "net.onnx", "--data", "digits").err) == inherited
    told = bcgraph("report", "found").out
    assert ("weights   inherited weights" in told) == inherited
    assert "next      bcgraph train found --out found-trained" in told
    assert "none      no connections: " in told
    assert ('class="inherited"' in (tmp_path / "found/report.html").read_text()) == inherited
    assert load(tmp_path / "found/best.bcg").backward == pairs(history["chosen"])

    before = snapshot(tmp_path / "found")
    again = bcgraph("search", "net.bcg", "--out", "found", "--audit", "3", "--seed", "5")
    assert again.out == done.out
    after = snapshot(tmp_path / "found")
    assert {name for name in before if before[name] != after[name]} <= {"study.log"}


def pairs(record: dict[str, Any]) -> tuple[BackwardConnection, ...]:
    return tuple(BackwardConnection(source, target) for source, target in sorted(record["backward"]))


def test_a_score_is_audited(process: Command, bcgraph: Command, small: Path) -> None:
    found = json.loads(process("score", small, "--audit", "--candidates", "4", "--json").out)
    assert found["candidates"] == 4
    kinds = {(f["score"], f["kind"]) for f in found["findings"]}
    assert kinds == {(m, k) for m in "ne" for k in ("reproducibility", "descriptor")} | {("e", "noise floor")}
    shown = bcgraph("score", small, "--audit", "--candidates", "4").out
    assert shown.startswith("tiny_net: 4 random architectures scored anew")
    assert len(shown.splitlines()) == len(found["findings"]) + 7
    assert bcgraph("score", small, "--audit", "--inits", "2").code == 2


def test_the_same_command_repeats_nothing(bcgraph: Command, small: Path, tmp_path: Path) -> None:
    first = bcgraph("search", small, "--out", "found", "--audit", "0")
    before = snapshot(tmp_path)
    assert bcgraph("search", small, "--out", "found", "--audit", "0").out == first.out
    assert snapshot(tmp_path)["found/log.jsonl"] == before["found/log.jsonl"]
    assert "seed" in bcgraph("search", small, "--out", "found", "--audit", "0", "--seed", "1").fault("E085")


@pytest.mark.slow
def test_an_interrupted_search_goes_on(bcgraph: Command, small: Path, tmp_path: Path) -> None:
    code, err = interrupt(["search", "small.bcg", "--out", "found"], tmp_path, Path("found/log.jsonl"))
    assert code == 130
    assert err == OWN + "interrupted; resume with: bcgraph search small.bcg --out found\n"
    bcgraph("search", small, "--out", "found", "--audit", "0")
    bcgraph("search", small, "--out", "whole", "--audit", "0")
    found, whole = (json.loads(bcgraph("report", name, "--json").out) for name in ("found", "whole"))
    assert found["evaluations"] == whole["evaluations"]


def test_pictures(bcgraph: Command, small: Path, tmp_path: Path) -> None:
    for name in ("net.svg", "net.png"):
        assert bcgraph("draw", small, "-o", name).err == f"{name}: written\n"
    assert "<svg" in (tmp_path / "net.svg").read_text()
    assert (tmp_path / "net.png").read_bytes().startswith(b"\x89PNG")
    assert bcgraph("draw", small, "-o", "net.pdf").fault("E084")
