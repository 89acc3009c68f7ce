"""`strategy = gains` on the command line, and what `bcgraph train` says about loud feedback."""

import json
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bcgraph import parse, weights
from bcgraph.cli.commands.train import quieter
from bcgraph.search.supernet.pruned_run import STATE
from tests import forked
from tests.cli.conftest import TINY, Command

SEARCH = """
search { evolve { strategy = gains; keep = 3; stages = 2 } }
"""


@pytest.fixture
def gains(tmp_path: Path) -> Path:
    path = tmp_path / "gains.bcg"
    path.write_text(TINY.replace("  backward @4 -> @1\n", "") + SEARCH)
    return path


@pytest.mark.slow
def test_search_report_and_what_it_leaves(process: Command, bcgraph: Command, gains: Path) -> None:
    done = process("search", gains, "--out", "found")
    assert done.code == 0
    assert re.fullmatch(r"(training and pruning: epoch \d/4(, [\d:]+ left)?\n)+", done.err)
    first, second, third, fourth, following = done.out.splitlines()
    assert following == "next: bcgraph eval found"
    assert first.startswith("found/best.bcg: @")
    assert first.endswith(", left of 15 connections")
    assert second == "found/best.safetensors: the trained weights of the run"
    assert third.startswith("found/best.onnx: ")
    assert fourth == "found/report.html: the search on one page"

    history = json.loads(bcgraph("report", "found", "--json").out)
    assert [(e["stage"], e["iteration"], len(e["backward"])) for e in history["evaluations"]] == [
        ("evolve", 0, 15),
        ("evolve", 1, 7),
        ("evolve", 2, 3),
    ]
    assert history["chosen"] == history["evaluations"][-1]
    assert history["settings"]["evolve"]["strategy"] == "gains"
    shown = bcgraph("report", "found").out
    assert "trained   15 connections at once, pruned in 2 stages\n" in shown
    assert "\nstage  connections  accuracy  pruned after it\n" in shown
    # What is found is a network like any other, with weights that fit it.
    assert bcgraph("eval", "found").code == 0
    assert "gain 0.1" in bcgraph("show", "found/best.bcg").out
    assert bcgraph("draw", "found", "-o", "found.svg").code == 0


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_the_same(
    process: Command, bcgraph: Command, gains: Path, tmp_path: Path
) -> None:
    assert process("search", gains, "--out", "whole").code == 0
    rng = random.Random(0)
    epochs: set[int] = set()
    kills = 0
    while not (tmp_path / "killed/best.bcg").exists() and kills < 2:
        # Each attempt is killed at some moment after another epoch.
        search = forked.Popen(
            [sys.executable, "-m", "bcgraph", "search", gains.name, "--out", "killed"],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        state = tmp_path / "killed" / STATE
        before = set(epochs)
        while search.poll() is None and epochs == before:
            if state.exists():
                epochs.add(state.stat().st_mtime_ns)
            time.sleep(0.005)
        time.sleep(rng.expovariate(1 / 0.3))
        if search.poll() is None:
            search.send_signal(signal.SIGKILL)
            kills += 1
        search.wait()
    assert kills >= 2
    assert process("search", gains, "--out", "killed").code == 0
    histories = [json.loads(bcgraph("report", name, "--json").out) for name in ("whole", "killed")]
    assert histories[0] == histories[1]
    for name in ("best.bcg", "best.safetensors", STATE, "spec.bcg"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert {p.name for p in (tmp_path / "killed").iterdir()} == {p.name for p in (tmp_path / "whole").iterdir()}


def test_mistakes_have_a_place(bcgraph: Command, gains: Path) -> None:
    gains.write_text(gains.read_text().replace("keep = 3", "keep = 30"))
    assert "gains.bcg:13:37: error[E089]: `keep = 30`, but the space has 15 connections" in bcgraph(
        "search", gains, "--out", "found"
    ).fault("E089")
    gains.write_text(gains.read_text().replace("keep = 30", "keep = 3"))
    assert "no use for --workers" in bcgraph("search", gains, "--out", "found", "--workers", "2").fault("E089")


def test_a_damaged_checkpoint_is_refused(bcgraph: Command, gains: Path, tmp_path: Path) -> None:
    gains.write_text(gains.read_text().replace("epochs = 4", "epochs = 2").replace("stages = 2", "stages = 1"))
    assert bcgraph("search", gains, "--out", "found").code == 0
    tensors, described = weights.unpack(tmp_path / "found" / STATE)
    log = tmp_path / "found/log.jsonl"
    log.write_bytes(log.read_bytes().splitlines(keepends=True)[0])
    for change in ({"epochs": 3}, {"epochs": -1}, {"epochs": "2"}, {"identity": {}}):
        (tmp_path / "found" / STATE).write_bytes(weights.pack(tensors, {**described, **change}))
        done = bcgraph("search", gains, "--out", "found")
        assert done.code == 1, change
        assert "Traceback" not in done.err


NOTE = (
    "note: far feedback (@4 -> @1) often costs accuracy at full gain; `feedback = project(gain=0.1)` in the network "
    "starts it quietly\n"
)


def test_training_suggests_a_quiet_start_once(bcgraph: Command, tiny: Path) -> None:
    note, epoch = bcgraph("train", tiny, "--out", "run", "--epochs", "1").err.splitlines(keepends=True)
    assert note == NOTE
    assert epoch.startswith("training: epoch 1/1, loss ")
    done = bcgraph("train", tiny, "--out", "data", "--epochs", "1", "--json")
    assert (done.code, done.err) == (0, epoch)
    tiny.write_text(TINY.replace("  backbone", "  feedback = project(gain=0.1)\n  backbone"))
    assert bcgraph("train", tiny, "--out", "quiet", "--epochs", "1").err.startswith("training: epoch 1/1, loss ")


@pytest.mark.parametrize(
    ("backward", "says"),
    [
        ("", None),
        ("backward @4 -> @4; backward @3 -> @1", None),
        ("backward @4 -> @2 { gain = 1 }; backward @2 -> @0", None),
        ("backward @3 -> @0 { gain = 0.3 }", None),
        ("backward @3 -> @0 { gain = 0.4 }", "far feedback (@3 -> @0)"),
        ("backward @4 -> @0; backward @3 -> @0; backward @4 -> @1", "far feedback (@3 -> @0, @4 -> @0)"),
        ("backward @4 -> @4; backward @3 -> @3; backward @2 -> @2", "feedback of 3 connections"),
        ("backward @4 -> @4; backward @3 -> @3; backward @2 -> @2 { gain = 0.1 }", None),
    ],
)
def test_what_counts_as_loud_and_far(backward: str, says: str | None) -> None:
    found = quieter(parse(TINY.replace("backward @4 -> @1", backward)))
    assert (found is None) == (says is None)
    if says is not None:
        assert found is not None
        assert found.startswith(f"{says} often costs accuracy")
        assert "\n" not in found
