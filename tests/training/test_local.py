"""Processes that train together listen on the loopback interface alone, and send each other no pickles."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from bcgraph.errors import DataError, RunError, Span
from bcgraph.training.distributed import local, process_group

SPEC = """bcg 1
network net { input = image(1, 8, 8); steps = 2; backbone = tiny(width=4, classes=10) }
data = digits(batch=64)
train { epochs = 1 }
"""

# What a process listens on, as the kernel tells it, after it has joined the group.
# Two processes that wait for each other for ever say where, in place of a test that only times out.
PROGRAM = """
import faulthandler, os, sys
faulthandler.dump_traceback_later(200, exit=True)
from pathlib import Path
import torch.distributed as dist

def listening():
    own = {os.readlink(p) for p in Path("/proc/self/fd").iterdir() if p.is_symlink() and os.path.lexists(p)}
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/self/net", table).read_text().splitlines()[1:]:
            parts = line.split()
            if parts[3] == "0A" and f"socket:[{parts[9]}]" in own:
                yield parts[1].partition(":")[0]

def told(event):
    with open(f"{os.environ.get('LOCAL_RANK', '0')}.txt", "w") as file:
        file.write(" ".join(sorted(set(listening()))) + "|" + os.environ["BCGRAPH_STORE"])

from bcgraph import load, training
progress = told if os.environ.get("LOCAL_RANK") != "1" else None
training.train(load("net.bcg"), out="run", options=training.Options("cpu", 2), progress=progress)
"""

LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}


@pytest.mark.skipif(not Path("/proc/self/net/tcp").exists(), reason="the kernel tells it in /proc")
def test_nobody_else_can_connect(tmp_path: Path) -> None:
    (tmp_path / "net.bcg").write_text(SPEC)
    (tmp_path / "run.py").write_text(PROGRAM)
    environment = {k: v for k, v in os.environ.items() if k not in ("MASTER_ADDR", "LOCAL_RANK", "RANK")}
    done = subprocess.run(
        [sys.executable, "run.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    addresses, _, store = (tmp_path / "0.txt").read_text().partition("|")
    assert addresses
    assert set(addresses.split()) <= LOOPBACK
    assert not Path(store).parent.exists()


@pytest.mark.parametrize("others", ["leave", "stay"])
def test_the_file_in_which_processes_meet_stays_until_all_have_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, others: str
) -> None:
    folder = tmp_path / "place"
    folder.mkdir()
    store = Path(local.environment(folder)[local.STORE])
    store.touch()
    monkeypatch.setattr(local, "PATIENCE", 0.1 if others == "stay" else 60.0)
    waited: list[bool] = []

    def wait(seconds: float) -> None:
        waited.append(store.exists())
        if others == "leave" and len(waited) == 3:
            store.unlink()

    monkeypatch.setattr(local.time, "sleep", wait)
    local._remove(folder)
    assert not folder.exists()
    assert all(waited)
    assert len(waited) == 3 or others == "stay"


class Pair:
    """A group of two as one process sees it; the other has failed with `other`."""

    world_size, global_rank, is_global_zero, device = 2, 0, True, torch.device("cpu")


def test_errors_are_sent_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    span = Span("net.bcg", 3, 1, 3, 5)
    error = DataError("E081", "an image \N{SNOWMAN} is damaged", span=span, hint="replace it", notes=["one", "two"])
    sent: list[torch.Tensor] = []

    def gather(into: list[torch.Tensor], own: torch.Tensor) -> None:
        sent.append(own)
        for place in into:
            place.copy_(own)

    monkeypatch.setattr(process_group.dist, "all_gather", gather)
    monkeypatch.setattr(process_group.dist, "all_reduce", lambda _: None)
    monkeypatch.setattr(process_group.dist, "all_gather_object", None)

    def fails() -> None:
        raise error

    with pytest.raises(DataError) as caught:
        process_group.on_every_rank(Pair(), fails)  # type: ignore[arg-type]
    assert caught.value.diagnostics == error.diagnostics
    assert b"SNOWMAN" not in bytes(sent[1].tolist())
    assert process_group.on_every_rank(Pair(), lambda: 3) == 3  # type: ignore[arg-type]
    with pytest.raises(RunError):
        process_group.on_every_rank(Pair(), lambda: (_ for _ in ()).throw(RunError("E084", "full")))  # type: ignore[arg-type]


def test_waiting_for_the_others_can_be_interrupted(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    timer = threading.Timer(0.2, signal.raise_signal, (signal.SIGINT,))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            local.wait_for_all(store, 0, 2)
    finally:
        timer.join()
        signal.signal(signal.SIGINT, before)
    local.wait_for_all(store, 1, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store.0", "store.1"]
