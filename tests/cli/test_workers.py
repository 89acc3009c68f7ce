"""`bcgraph search --workers`: its output, resuming, and the message where Ray is missing."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bcgraph.search.distributed import cluster, usage
from tests import forked
from tests.cli.conftest import OWN, TINY, Command
from tests.cli.test_search import ONESHOT, SEARCH
from tests.search.threads import threads

ONE = ("search", "net.bcg", "--audit", "0")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Here and in the processes that tests start: the supernet is trained on as many threads as there are."""
    with threads(1):
        yield


@pytest.fixture(autouse=True)
def net(tmp_path: Path) -> Path:
    path = tmp_path / "net.bcg"
    path.write_text(TINY + ONESHOT)
    return path


def evaluations(bcgraph: Command, name: str) -> Any:
    return json.loads(bcgraph("report", name, "--json").out)["evaluations"]


def children(parent: int) -> set[int]:
    """All processes that a process has started, and those that they have."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
    found = {parent}
    while more := {pid for pid, above in parents.items() if above in found} - found:
        found |= more
    return found - {parent}


def name(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text()
    return ""


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return False


@pytest.mark.slow
def test_killed_and_gone_on_with(process: Command, bcgraph: Command, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bcgraph", *ONE, "--out", "found", "--workers", "2"]
    started = forked.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
    log, limit = tmp_path / "found/log.jsonl", time.monotonic() + 120
    while started.poll() is None and (not log.exists() or log.stat().st_size < 500) and time.monotonic() < limit:
        time.sleep(0.005)
    assert started.poll() is None, "it ended too early"
    # Ray's own agents look for their parent once a minute; all that computes or holds data ends at once.
    left = {pid for pid in children(started.pid) if name(pid).startswith(("raylet", "gcs_server", "ray::Worker"))}
    assert len(left) >= 3
    started.send_signal(signal.SIGKILL)
    started.wait()
    until = time.monotonic() + 60
    while any(map(alive, left)):
        assert time.monotonic() < until, "a Ray of our own ends with us"
        time.sleep(0.1)

    done = process(*ONE, "--out", "found", "--workers", "1", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["chosen"]
    assert done.err.startswith(OWN)
    assert "\nnote: 1 worker on 1 machine: " in done.err
    # Between the two notes are lines of progress, more of them where the machine is slow.
    assert done.err.count("note: ") == 2
    assert "rror" not in done.err
    assert bcgraph(*ONE, "--out", "alone", "--threads", "1").code == 0
    assert evaluations(bcgraph, "found") == evaluations(bcgraph, "alone")
    assert len(usage.read(tmp_path / "found")) == 1

    # Finished, it starts no workers, and takes any number of them or none.
    assert bcgraph(*ONE, "--out", "found", "--threads", "1").said == OWN
    assert bcgraph(*ONE, "--out", "found", "--workers", "3").said == OWN
    assert "options.threads: 1 there, null here" in bcgraph(*ONE, "--out", "found").fault("E085")


@pytest.mark.slow
def test_interrupted(bcgraph: Command, tmp_path: Path, net: Path) -> None:
    from tests.cli.test_interrupt import interrupt

    net.write_text(TINY + SEARCH.replace("pool = 6", "pool = 100"))
    arguments = [*ONE, "--out", "found", "--workers", "1"]
    code, err = interrupt(arguments, tmp_path, Path("found/log.jsonl"))
    assert code == 130
    assert err == OWN + "interrupted; resume with: bcgraph search net.bcg --audit 0 --out found --workers 1\n"


def test_without_ray(bcgraph: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    assert "pip install 'bcgraph[ray]'" in bcgraph(*ONE, "--out", "found", "--workers", "2").fault("E092")


@pytest.mark.slow
def test_no_cluster_there(bcgraph: Command) -> None:
    fault = bcgraph(*ONE, "--out", "found", "--ray", "127.0.0.1:1").fault("E093")
    assert "there is no Ray cluster at `127.0.0.1:1`" in fault
    assert "ray start --head" in fault


def test_wrong_numbers(bcgraph: Command) -> None:
    for option in ("--workers", "--threads"):
        assert bcgraph(*ONE, "--out", "found", option, "0").code == 2
