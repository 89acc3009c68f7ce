"""A search killed at random moments, in a process of its own: `python -m tests.search.killing DIR KILLS SEED [space]`.

Every attempt is a child forked from a process that has loaded everything and computed nothing, killed with SIGKILL
after a random amount of work. Prints a JSON line with the kills by stage.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import torch

import bcgraph
import bcgraph.search.evaluators  # loaded before the fork
from bcgraph.schema import NetworkSpec
from bcgraph.search import driver

TEXT = """
bcg 1
network five { input = image(1, 8, 8); steps = 2; backbone = tiny(width=3, classes=10) }
data = digits(batch=100)
search {
  init { pool = 30; keep = 6; batch = 20 }
  supernet { epochs = 4 }
  evolve { iterations = 3; top = 4; population = 8; offspring = 3; mutation = 0.7 }
  finish { top = 1; seeds = 1 }
}
train { epochs = 3 }
"""


SPACE = """space {
    backward any -> any { delay = [1, 2]; through = [project(), project(kernel=3)] }
    forward any -> later { join = [add, mul] }
    fixed @4 -> @4
  }
  subject_to { state <= 3 * baseline; spikes <= 2000 }
"""


def spec(space: bool = False) -> NetworkSpec:
    small = TEXT.replace("pool = 30", "pool = 12").replace("iterations = 3", "iterations = 1")
    return bcgraph.parse(small.replace("search {", f"search {{\n  {SPACE}") if space else TEXT)


def stage(out: Path) -> str:
    """How far the run in `out` is."""
    lines = (out / "log.jsonl").read_bytes().count(b"\n") if (out / "log.jsonl").exists() else -1
    if (out / "best.bcg").exists():
        return "finished"
    if (out / "finish").is_dir():
        return "finish"
    if lines < 0:
        return "start"
    if lines < 30:
        return "init"
    return "evolve" if (out / "supernet.safetensors").exists() else "supernet"


def progress(out: Path, epochs: set[int]) -> int:
    """How much is done: evaluations, and checkpoints of the supernet that were seen."""
    count = 0
    with contextlib.suppress(FileNotFoundError):
        epochs.add((out / "supernet-state.safetensors").stat().st_mtime_ns)
    with contextlib.suppress(FileNotFoundError):
        count += (out / "log.jsonl").read_bytes().count(b"\n")
    for each in out.glob("finish/*/*/log.csv"):
        with contextlib.suppress(FileNotFoundError):
            count += each.read_bytes().count(b"\n")
    return count + len(epochs)


def child(network: NetworkSpec, out: Path) -> None:
    torch.set_num_threads(1)
    code = 1
    with contextlib.suppress(BaseException):
        driver.run(network, out)
        code = 0
    os._exit(code)


def main(out: Path, kills: int, seed: int, space: bool) -> None:
    network, rng = spec(space), random.Random(seed)
    done: Counter[str] = Counter()
    epochs: set[int] = set()
    while True:
        pid = os.fork()
        if pid == 0:
            child(network, out)
        if sum(done.values()) >= kills:
            _, status = os.waitpid(pid, 0)
            assert os.waitstatus_to_exitcode(status) == 0, "the last attempt failed"
            break
        # A kill comes after some progress, or nothing would ever be finished, and then at any moment.
        enough = progress(out, epochs) + rng.randint(0, 5)
        deadline = math.inf
        while time.monotonic() < deadline:
            if progress(out, epochs) >= enough and deadline == math.inf:
                deadline = time.monotonic() + rng.expovariate(1 / 0.05)
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                assert os.waitstatus_to_exitcode(status) == 0, "an attempt failed"
                print(json.dumps(done))
                return
            time.sleep(0.005)
        at = stage(out)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        done[at] += 1
    print(json.dumps(done))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), "space" in sys.argv[4:])
