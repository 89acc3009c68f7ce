"""A Ray cluster of the tests' own, the search that they run on it, and jobs that only tests need.

`python -m tests.search.raying ADDRESS DIR WORKERS`: that search, in a process of its own.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

import bcgraph
from bcgraph.errors import CompileError, DataError
from bcgraph.plugins.values import Score
from bcgraph.schema import NetworkSpec
from bcgraph.search import Options, run
from bcgraph.search.distributed.cluster import joined
from bcgraph.search.records.evaluations import Measure
from bcgraph.search.scores.result import ScoreResult
from bcgraph.search.scores.scorer import Run, Scorer
from bcgraph.search.space.search_space import architecture_of
from bcgraph.search.supernet.lowered import Lowered

TEXT = """
bcg 1
network five { input = image(1, 8, 8); steps = 2; backbone = tiny(width=6, classes=10) }
data = digits(batch=100)
search {
  init { pool = 40; keep = 6; batch = 40 }
  supernet { epochs = 1 }
  evolve { iterations = 2; top = 4; population = 8; offspring = 3; mutation = 0.7 }
}
"""

MEMORY = 100 * 2**20

# Here and not in `cluster`, since a process asks for these once: a Ray that was started before with another answer and
# a cluster that is joined afterwards do not understand each other, and actors end before they start.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_AUTH_MODE"] = "disabled"
# Ray would give way to whatever else runs on the machine, and the tests wait for it.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  (as Ray spells it)


def spec() -> NetworkSpec:
    return bcgraph.parse(TEXT)


@dataclass
class Cluster:
    """Nodes of a Ray cluster, all on this machine."""

    ray: Any
    nodes: list[Any]

    @property
    def address(self) -> str:
        return str(self.ray.address)

    def add(self, cpus: int) -> Any:
        self.nodes.append(self.ray.add_node(num_cpus=cpus, object_store_memory=MEMORY, include_dashboard=False))
        return self.nodes[-1]

    def remove(self, node: Any) -> None:
        """As if the machine were switched off."""
        self.nodes.remove(node)
        self.ray.remove_node(node, allow_graceful=False)

    def workers(self, doing: bool = True, on: Any = None, title: bytes | None = None) -> list[int]:
        """The processes of workers, those that are in the middle of a task, or all of them; those on a node.

        With a `title` those that Ray calls so.
        """
        nodes = self.nodes if on is None else [on]
        raylets = {info.process.pid for node in nodes for info in node.all_processes["raylet"]}
        title = title or (b"ray::Worker.do" if doing else b"ray::Worker")
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if title in (path / "cmdline").read_bytes():
                    parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
                    if parent in raylets:
                        found.append(int(path.name))
            except OSError:
                continue  # it has ended
        return found

    def kill_one(self, limit: float = 60) -> bool:
        """Kill a worker in the middle of a task; whether one was found in time."""
        until = time.monotonic() + limit
        while time.monotonic() < until:
            for pid in self.workers():
                os.kill(pid, signal.SIGKILL)
                return True
            time.sleep(0.001)
        return False


@contextmanager
def cluster(*cpus: int) -> Iterator[Cluster]:
    from ray.cluster_utils import Cluster as RayCluster

    made = Cluster(RayCluster(shutdown_at_exit=False), [])
    try:
        for count in cpus:
            made.add(count)
        yield made
    finally:
        made.ray.shutdown()


@contextmanager
def connected(found: Cluster) -> Iterator[None]:
    with joined(found.address, 1):
        yield


@dataclass(frozen=True)
class Naps:
    """Sleeps as long as a task says, and returns it."""

    def start(self) -> Callable[[Any], Any]:
        return self.nap

    @staticmethod
    def nap(task: tuple[float, ...]) -> tuple[float, ...]:
        time.sleep(sum(task))
        return task


@dataclass(frozen=True)
class Deadly:
    """Ends its process at the task 13."""

    def start(self) -> Callable[[Any], Any]:
        return self.work

    @staticmethod
    def work(task: tuple[int, ...]) -> tuple[int, ...]:
        if 13 in task:
            os._exit(1)
        return task


@dataclass(frozen=True)
class Faulty:
    """Fails at the task 13, as when a file is missing on one machine; at 14 by a mistake in the program."""

    def start(self) -> Callable[[Any], Any]:
        return self.work

    @staticmethod
    def work(task: tuple[int, ...]) -> tuple[int, ...]:
        if 13 in task:
            raise DataError("E081", "there is no such picture", hint="copy it")
        if 14 in task:
            raise KeyError("a mistake")
        return task


class Fragile(Scorer):
    """A scorer that fails where port 2 feeds itself."""

    def _runs(self, spec: NetworkSpec, scores: Mapping[Measure, Score], x: Tensor, y: Tensor) -> list[Run]:
        return [partial(fragile, run) for run in super()._runs(spec, scores, x, y)]


def fragile(run: Run, candidate: Lowered) -> dict[Measure, ScoreResult]:
    if (2, 2) in architecture_of(candidate.spec):
        raise CompileError("E073", "this cannot be computed")
    return run(candidate)


def main(address: str, out: Path, workers: int) -> None:
    run(spec(), out, options=Options(workers=workers, ray=address))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
